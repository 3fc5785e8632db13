"""Rearranging keeps the model's results and more of the weights that pruning in groups leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from gossamer.passes.channels.arranging import Target, kept_share
from gossamer.passes.compress.rearrange_channels import RearrangeChannels
from gossamer.passes.reference import run_onnx
from gossamer.passes.report import PassReport
from gossamer.runtime.errors import OptionError


def rearrange(model: ir.Model, **options: Any) -> PassReport:
    report: PassReport = RearrangeChannels(**options)(model).report  # type: ignore[attr-defined]
    return report


def weight(model: ir.Model, name: str) -> Any:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def kept(model: ir.Model, name: str, rows: int, share: float) -> float:
    array = weight(model, name)
    return kept_share(Target(array, rows, share, "l2"), np.arange(len(array)))[0]


@pytest.mark.parametrize("rows", [2, 4, 8])
def test_more_is_kept_and_results_stay(cnn: ir.Model, image: dict[str, Any], rows: int) -> None:
    before = run_onnx(cnn, image)[0]
    kept_before = [kept(cnn, name, rows, 0.5) for name in ("w2", "w3", "w4")]
    report = rearrange(cnn, pattern=f"{rows}x1", sparsity=0.5)
    assert [entry.node for entry in report.changed] == ["pointwise1", "pointwise2", "square"]
    assert all(kept(cnn, n, rows, 0.5) > b for n, b in zip(("w2", "w3", "w4"), kept_before, strict=True))
    np.testing.assert_allclose(run_onnx(cnn, image)[0], before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pattern", ["element", "1x4", "4x4", "2:4", "1x1"])
def test_only_groups_of_outputs_are_taken(pattern: str) -> None:
    with pytest.raises(OptionError, match="Rx1 with R from 2"):
        RearrangeChannels(pattern=pattern)
