"""No kernel without a case: kernels are found by their files, and the suites' edges must reach each."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from inspect import isabstract
from typing import Any

import pytest

import gossamer.kernels.cpu
from gossamer.kernels.cpu.isa import Isa
from gossamer.kernels.cpu.kernel import Kernel
from gossamer.kernels.lowering import lower
from gossamer.kernels.targets import find_target
from gossamer.passes.loading import load_model
from gossamer.passes.preparing import prepare

from .graphs import merge
from .test_conformance import SUITES

PROVED_BY_NODE_TESTS = {"BoxSelection", "Determinant", "Places"}  # ONNX's own: no reference here yet
BLOCK_HEIGHTS = {1, 2, 4, 8}  # those that the cost model chooses from


def kernels_of(base: type) -> Iterator[type]:
    """Every class that makes code, below `base`."""
    kernel: type
    for kernel in base.__subclasses__():
        if not isabstract(kernel):
            yield kernel
        yield from kernels_of(kernel)


@pytest.fixture(scope="module")
def built() -> list[Kernel]:
    """The kernels whose code the suites' edges need, on a target with vectors of four and of sixteen."""
    found: list[Kernel] = []
    patch = pytest.MonkeyPatch()
    build = Kernel.build

    def recorded(self: Kernel, isa: Isa) -> Any:
        found.append(self)
        return build(self, isa)

    patch.setattr(Kernel, "build", recorded)
    try:
        for suite in SUITES.values():
            model = prepare(load_model(merge(suite.edges()).model))
            for name in ("x86-64-v4", "wasm"):
                target = find_target(name)
                lower(model, target).module(next(iter(target.variants)))
    finally:
        patch.undo()
    return found


def test_every_kernel_has_a_case(built: list[Kernel]) -> None:
    for module in pkgutil.iter_modules(gossamer.kernels.cpu.__path__):
        import_module(f"gossamer.kernels.cpu.{module.name}")
    every = {kernel.__name__ for kernel in kernels_of(Kernel) if kernel.__module__.startswith("gossamer.")}
    assert every
    missing = every - {type(kernel).__name__ for kernel in built}
    # kernels of open sizes are proved by tests/kernels/lowering/any_size.py, at several sizes each
    assert {name for name in missing if not name.startswith("Any")} == PROVED_BY_NODE_TESTS


def test_sparse_kernels_have_cases_with_every_height_of_blocks(built: list[Kernel]) -> None:
    heights: dict[str, set[int]] = {}
    for kernel in built:
        rows = getattr(kernel, "block_rows", 0)
        if rows:
            heights.setdefault(type(kernel).__name__, set()).add(rows)
    assert heights
    for name, found in heights.items():
        assert found >= BLOCK_HEIGHTS, name
