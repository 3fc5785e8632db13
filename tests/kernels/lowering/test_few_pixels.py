"""One-dimensional convolutions of a few pixels, whose windows become rows of a product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from gossamer.kernels.lowering import lower
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare

from .conformance import Case, check


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(np.float32)


def conv(batch: int, channels: int, width: int, out: int, kernel: int, **attributes: Any) -> Case:
    feeds = [normal(batch, channels, width), normal(out, channels, kernel, seed=1) / kernel, normal(out)]
    return Case("Conv", feeds, attributes, [1, 2])


def test_results_are_those_of_onnxruntime(tmp_path: Path) -> None:
    cases = [
        conv(1, 1, 640, 34, 256, strides=[128]),
        conv(1, 9, 4, 17, 3, pads=[1, 1]),
        conv(2, 5, 5, 16, 3, strides=[2], pads=[1, 1]),
        conv(1, 5, 9, 16, 3, dilations=[2], pads=[2, 0]),
        conv(1, 5, 8, 16, 3, strides=[2], auto_pad="SAME_UPPER"),
        conv(1, 6, 3, 7, 3),
    ]
    check(cases, tmp_path)


def test_lanes_are_output_channels() -> None:
    head = '<ir_version: 10, opset_import: ["" : 21]> g (float[1,1,640] x) => (float[1,34,4] y)'
    model = onnx.parser.parse_model(head + " { y = Conv <strides = [128]> (x, w) }")
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(34, 1, 256), "w"))
    program = lower(prepare(load_model(model)), find_target("x86-64-v4"))
    assert [layer.kernel for layer in program.layers] == ["gemm"]
