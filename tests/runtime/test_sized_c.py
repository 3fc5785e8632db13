"""Open sizes through the C interface: wrong symbols and missing pointers are refused before anything runs."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossamer.runtime.manifest import read_manifest

OK, ARGUMENT, SHAPE = 0, 1, 10
TEXT = '<ir_version: 10, opset_import: ["": 21]> sized (float[n, 3] x) => (float[n, 3] y) { y = Exp (x) }'


class Sized:
    """A session of y = exp x for 1 to 9 rows, and its table."""

    def __init__(self, folder: Path) -> None:
        self.manifest = read_manifest(folder / "manifest.json")
        assert self.manifest.table is not None
        self.slot = self.manifest.table.symbols[0].slot
        self.code = ctypes.CDLL(str(folder / "model.so"))
        address = ctypes.addressof(ctypes.c_char.in_dll(self.code, f"gossamer_model_{self.manifest.symbol}"))
        self.model, self.session = ctypes.c_void_p(address), ctypes.c_void_p()
        path = str(folder).encode()
        assert self.code.gossamer_open(self.model, path, 2, ctypes.byref(self.session)) == OK

    def table(self, rows: int) -> np.ndarray[Any, Any]:
        assert self.manifest.table is not None
        numbers = np.zeros(self.manifest.table.count, np.int64)
        numbers[self.slot] = rows
        return numbers

    def sizes(self, rows: int) -> int:
        return int(self.code.gossamer_sizes(self.model, ctypes.c_void_p(self.table(rows).ctypes.data)))

    def run(self, rows: int, x: np.ndarray[Any, Any] | None, y: np.ndarray[Any, Any] | None) -> int:
        pointers = [(ctypes.c_void_p * 1)(None if array is None else array.ctypes.data) for array in (x, y)]
        table = ctypes.c_void_p(self.table(rows).ctypes.data)
        return int(self.code.gossamer_run_sized(self.session, table, *pointers))


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sized]:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("tvm")
    from gossamer.passes.input_shapes import parse_input_shapes
    from gossamer.tools.compiling import compile

    folder = tmp_path_factory.mktemp("sized") / "artifact"
    shapes: Any = parse_input_shapes(["x:n<=9,3"])
    compile(onnx.parser.parse_model(TEXT), out=folder, input_shapes=shapes, verify=False)
    found = Sized(folder)
    yield found
    found.code.gossamer_close(found.session)


def test_every_size_within_the_bounds_runs(sized: Sized) -> None:
    for rows in (1, 9, 4):
        x = np.linspace(-1, 1, 3 * rows, dtype=np.float32)
        y = np.zeros_like(x)
        assert sized.run(rows, x, y) == OK
        np.testing.assert_allclose(y, np.exp(x), rtol=1e-5)


@pytest.mark.parametrize("rows", [0, -1, 10, 2**31, 2**62, -(2**63)])
def test_sizes_beyond_the_bounds_are_refused(sized: Sized, rows: int) -> None:
    assert sized.sizes(rows) == SHAPE
    x = np.zeros(27, np.float32)
    y = np.full(27, 5, np.float32)
    assert sized.run(rows, x, y) == SHAPE
    assert (y == 5).all()


def test_missing_pointers_are_refused(sized: Sized) -> None:
    x = np.zeros(3, np.float32)
    assert sized.run(1, None, x) == ARGUMENT
    assert sized.run(1, x, None) == ARGUMENT
    plain = [(ctypes.c_void_p * 1)(x.ctypes.data)] * 2
    assert sized.code.gossamer_run(sized.session, *plain) == ARGUMENT
    assert sized.code.gossamer_sizes(sized.model, None) == ARGUMENT
