"""Weights that stay compressed in the artifact: how much they take, which kernels read them, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper

from gossamer.kernels.formats import find_format
from gossamer.kernels.lowering import lower
from gossamer.kernels.program import LayerInfo, Program
from gossamer.kernels.targets import find_target
from gossamer.passes.layers import weighted_layers
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare
from gossamer.passes.storing import Stored, store_weight

from .test_sparse_kernels import Array, blocks, model_of


def palette(rng: np.random.Generator, shape: tuple[int, ...], bits: int) -> Array:
    """float32 with 2 ** bits distinct values, zero among them."""
    values = np.append(rng.standard_normal(2**bits - 1), 0).astype(np.float16).astype(np.float32)
    drawn: Array = rng.choice(values, shape)
    return drawn


def compressed(
    nodes: list[Any], inputs: dict[str, Any], outputs: list[str], weights: dict[str, Any]
) -> ir.Model:
    """The model with every weight, outputs first, as given: arrays by format name are stored."""
    arrays = {k: v.decode() if isinstance(v, Stored) else v for k, v in weights.items()}
    model = load_model(model_of(nodes, inputs, outputs, arrays))
    for layer in weighted_layers(model):
        stored = weights[layer.weight.name or ""]
        if isinstance(stored, Stored):
            store_weight(model, layer, stored, stored.decode().shape)
    return model


def in_palette(array: Array) -> Stored:
    return Stored("palette", find_format("palette").encode(array))


def lowered(model: ir.Model, target: str = "host") -> tuple[Program, dict[str, LayerInfo]]:
    program = lower(prepare(model), find_target(target))
    return program, {layer.name: layer for layer in program.layers}


@pytest.mark.parametrize("target", ["x86-64-v4", "x86-64-v3", "arm64-linux", "wasm"])
def test_palettes_of_four_bits_take_an_eighth_in_the_artifact(target: str) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "point": in_palette(palette(rng, (256, 128, 1, 1), 4)),
        "window": in_palette(palette(rng, (128, 256, 3, 3), 4)),
        "step": in_palette(palette(rng, (128, 128, 3, 3), 4)),
        "matrix": in_palette(palette(rng, (256, 128), 4)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "point"], ["a"], name="point"),
        helper.make_node("Conv", ["a", "window"], ["b"], name="window", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["b", "step"], ["y"], name="step", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Gemm", ["r", "matrix"], ["z"], name="matrix", transB=1),
    ]
    model = compressed(nodes, {"x": (1, 128, 14, 14), "r": (40, 128)}, ["y", "z"], weights)
    program, layers = lowered(model, target)
    dense = 4 * sum(w.decode().size for w in weights.values())
    assert len(program.weights) < dense / 8 * 1.01 + 2048
    assert layers["window"].kernel == "winograd"
    for layer in layers.values():
        assert layer.format == "palette 4 bit"
        assert layer.bits_per_weight == pytest.approx(4, rel=0.02)
        assert layer.reason.startswith("decoded by")


def test_blocks_of_palettes_take_codes_and_a_byte_each() -> None:
    rng = np.random.default_rng(1)
    weight = np.where(blocks(rng, 256, 256, 4, 0.7) != 0, palette(rng, (256, 256), 4), 0).astype(np.float32)
    parts = find_format("block-sparse").encode(weight.reshape(256, 256, 1, 1), rows=4, columns=1)
    stored = Stored("block-sparse", {**parts, "values": in_palette(parts["values"])})
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    program, layers = lowered(compressed([node], {"x": (1, 256, 14, 14)}, ["y"], {"w": stored}), "x86-64-v4")
    kept = parts["values"].size
    assert layers["conv"].kernel == "sparse-gemm"
    assert layers["conv"].format == "block-sparse 4x1 of palette 4 bit"
    assert len(program.weights) < (kept / 2 + kept / 4) * 1.15 + 2048


def test_what_is_not_smaller_compressed_stays_dense() -> None:
    rng = np.random.default_rng(2)
    weights = {
        "tiny": in_palette(palette(rng, (8, 3, 1, 1), 8)),
        "depth": in_palette(palette(rng, (16, 1, 3, 3), 4)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "tiny"], ["y"], name="tiny"),
        helper.make_node("Conv", ["v", "depth"], ["z"], name="depth", group=16),
    ]
    model = compressed(nodes, {"x": (1, 3, 9, 9), "v": (1, 16, 9, 9)}, ["y", "z"], weights)
    _, layers = lowered(model)
    assert layers["tiny"].format == "dense"
    assert layers["depth"].format == "dense"
    assert "decoded when compiled" in layers["depth"].reason


def test_one_pixel_reads_codes() -> None:
    rng = np.random.default_rng(3)
    weights = {"w": in_palette(palette(rng, (64, 96, 1, 1), 4))}
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="squeeze")
    program, layers = lowered(compressed([node], {"x": (1, 96, 1, 1)}, ["y"], weights))
    assert layers["squeeze"].format == "palette 4 bit"
    assert len(program.weights) < 64 * 96 + 2048
