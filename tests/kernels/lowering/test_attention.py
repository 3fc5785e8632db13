"""Attention is found in graphs and becomes one kernel, in the layout of its operands."""

from __future__ import annotations

import pytest

from gossamer.kernels.lowering import lower
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare

from ...conformance.graphs import merge
from ...conformance.suites.attention import MASKS, encoder


def kernels_of(batch: int, mask: str, planes: bool) -> list[str]:
    case = encoder(batch, 64, 2, 32, mask, planes)
    program = lower(prepare(load_model(merge([case]).model)), find_target("host"))
    return [step.kernel for step in program.steps]


@pytest.mark.parametrize("mask", MASKS)
def test_operands_in_planes_need_no_copies(mask: str) -> None:
    kernels = kernels_of(1, mask, planes=True)
    assert kernels.count("attention") == kernels.count("layer-norm") == 1
    assert not {"softmax", "matmul"} & set(kernels)
    assert kernels.count("elementwise") == 1  # writes the norm, which is an output of the model


@pytest.mark.parametrize("batch", [1, 2])
def test_row_major_operands_become_one_kernel(batch: int) -> None:
    kernels = kernels_of(batch, "keys", planes=False)
    assert kernels.count("attention") == 1
    assert not {"softmax", "matmul"} & set(kernels)
