"""Walks a sliding window over a plane in blocks of output rows × one vector of output columns.

Planes are read where they lie. Blocks whose windows lie inside the plane are loops; those at its border are
written out one by one, with the rows that are missing left out and the columns that are missing filled in.
A row wider than a vector is covered by whole vectors, the last moved left so that it ends with the row; a
narrower one by a single vector, of which only the first lanes count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx as tir

from .builder import Builder, Pointer, constant, int32
from .tensor import Tensor
from .window import Window

__all__ = ["Sweep", "WindowReader", "free_rows", "narrow_lanes", "readable", "runs"]


def narrow_lanes(lanes: int, width: int) -> int:
    """Vector length for rows of `width`: a full vector, or the shortest of at least four that holds a row."""
    while lanes > 4 and lanes // 2 >= width:
        lanes //= 2
    return lanes


def readable(source: Tensor, window: Window, lanes: int) -> bool:
    """Whether a sweep reads `source` (N, C, H, W) as it lies: rows without gaps, and memory behind it where
    rows are so narrow that vectors reach past the last one."""
    width = window.in_size[1]
    within = width >= window.strides[1] * narrow_lanes(lanes, window.out_size[1])
    return source.strides[3] == 1 and (within or source.place == "arena")


def free_rows(out: Tensor, lanes: int) -> int:
    """Rows of a plane of `out` (N, C, H, W) that may be stored in whole vectors of `lanes`.

    A vector wider than a row reaches into the next rows, which follow, but must not into the next plane.
    """
    height, width = out.shape[2:]
    if width >= lanes:
        return height
    return max(0, min(height, (out.strides[1] - lanes) // width + 1))


def runs(starts: Sequence[int], step: int, inner: Callable[[int], bool]) -> Iterator[tuple[int, int]]:
    """(first, times): neighbouring `inner` starts that lie `step` apart together, others alone.

    >>> list(runs([0, 4, 8, 12, 14], 4, lambda start: 0 < start < 14))
    [(0, 1), (4, 3), (14, 1)]
    """
    at = 0
    while at < len(starts):
        end = at + 1
        while end < len(starts) and all(inner(s) for s in starts[end - 1 : end + 1]):
            if starts[end] - starts[end - 1] != step:
                break
            end += 1
        yield starts[at], end - at
        at = end


@dataclass(frozen=True)
class Sweep:
    """Blocks of `rows` output rows × `lanes` columns.

    A vector stored for one of the first `free_rows` rows may reach past the row's end.
    """

    window: Window
    lanes: int
    rows: int
    free_rows: int

    def emit(self, b: Builder, visit: Callable[[Any, int, Any], None]) -> None:
        """`visit(y, rows, x)` for every block, rows upwards; y and x are integers at the border."""
        height = self.window.out_size[0]
        full = [y for y in range(0, height, self.rows) if y + self.rows <= height]
        for first, times in runs(full, self.rows, self._has_all_rows):
            with _steps(b, first, self.rows, times) as y:
                self._columns(b, y, self.rows, visit)
        if height % self.rows:
            self._columns(b, height // self.rows * self.rows, height % self.rows, visit)

    def _columns(self, b: Builder, y: Any, rows: int, visit: Callable[[Any, int, Any], None]) -> None:
        for first, times in runs(self._starts(), self.lanes, self._has_all_columns):
            with _steps(b, first, self.lanes, times) as x:
                visit(y, rows, x)

    def _starts(self) -> list[int]:
        width, lanes = self.window.out_size[1], self.lanes
        if width <= lanes:
            return [0]
        return [*range(0, width - lanes, lanes), width - lanes]

    def _has_all_rows(self, y: int) -> bool:
        w = self.window
        first = y * w.strides[0] - w.pads[0]
        last = first + (self.rows - 1) * w.strides[0] + (w.kernel[0] - 1) * w.dilations[0]
        return first >= 0 and last < w.in_size[0] and y + self.rows <= self.free_rows

    def _has_all_columns(self, x: int) -> bool:
        """Whether every vector read for columns x … lies inside the row."""
        w = self.window
        first = x * w.strides[1] - w.pads[1]
        reach = max(start for start, _ in column_groups(w)) + w.strides[1] * self.lanes
        return first >= 0 and first + reach <= w.in_size[1]


def _steps(b: Builder, first: int, step: int, times: int) -> Any:
    return _Alone(first) if times == 1 else _Steps(b, first, step, times)


@dataclass
class _Alone:
    value: int

    def __enter__(self) -> int:
        return self.value

    def __exit__(self, *error: object) -> None:
        pass


class _Steps:
    def __init__(self, b: Builder, first: int, step: int, times: int) -> None:
        self.b, self.first, self.step, self.loop = b, first, step, b.loop(times)

    def __enter__(self) -> Any:
        return self.b.let(self.loop.__enter__() * self.step + self.first)

    def __exit__(self, *error: Any) -> None:
        self.loop.__exit__(*error)


def column_groups(window: Window) -> list[tuple[int, list[tuple[int, int]]]]:
    """Window columns that are read together: (offset of the first, [(column, phase), …]).

    With stride s, vectors read from one offset hold the pixels of s neighbouring columns.
    """
    stride = window.strides[1]
    groups: dict[int, list[tuple[int, int]]] = {}
    for kx in range(window.kernel[1]):
        start, phase = divmod(kx * window.dilations[1], stride)
        groups.setdefault(start * stride, []).append((kx, phase))
    return sorted(groups.items())


@dataclass
class WindowReader:
    """Reads vectors of the pixels that lie under one window column, from the plane at `start`.

    `row` is the distance between rows, `outside` the value beyond the plane's left and right edges.
    """

    b: Builder
    window: Window
    lanes: int
    source: Pointer
    start: Any
    row: int
    outside: float = 0.0

    def pixels(self, y: Any, rows: int, x: Any) -> Iterator[tuple[int, int, int, Any]]:
        """(r, ky, kx, vector) for the block of `rows` output rows from y and the columns from x: what window
        element (ky, kx) of output row y + r sees. Elements outside the plane are left out.

        Columns are the outer loop, so that few elements are in use at a time.
        """
        w = self.window
        place = self._place(y, x)
        taps = [k * w.dilations[0] for k in range(w.kernel[0])]
        for start, columns in column_groups(w):
            for i in sorted({r * w.strides[0] + tap for r in range(rows) for tap in taps}):
                if not self._has_row(y, i):
                    continue
                vectors = self._group(place, i, x, start, [phase for _, phase in columns])
                seen = [(r, i - r * w.strides[0]) for r in range(rows)]
                for (kx, _), vector in zip(columns, vectors, strict=True):
                    held = None if vector is None else self.b.hold(vector)
                    yield from (
                        (r, taps.index(n), kx, held) for r, n in seen if n in taps and held is not None
                    )

    def _place(self, y: Any, x: Any) -> Any:
        """Address of the window's first row over output row y, at column x or at the row's start."""
        w = self.window
        column = 0 if isinstance(x, int) else x * w.strides[1] - w.pads[1]
        line = y * (w.strides[0] * self.row) - w.pads[0] * self.row
        return self.b.let(self.start + line + column, "at")

    def _has_row(self, y: Any, i: int) -> bool:
        """Whether window row i (in input rows) over output row y is inside the plane."""
        if not isinstance(y, int):
            return True
        return 0 <= y * self.window.strides[0] - self.window.pads[0] + i < self.window.in_size[0]

    def _group(self, place: Any, i: int, x: Any, start: int, phases: Sequence[int]) -> list[Any]:
        """A vector for each phase of a column group at offset `start`, in input row i from `place`.

        None stands for a vector that lies outside altogether.
        """
        line = place + i * self.row
        if not isinstance(x, int):
            return self._whole(line + start, phases)
        return self._at_border(line, x * self.window.strides[1] - self.window.pads[1] + start, phases)

    def _whole(self, at: Any, phases: Sequence[int]) -> list[Any]:
        stride, lanes = self.window.strides[1], self.lanes
        vectors = [self.b.hold(self.source.load(at + j * lanes, lanes)) for j in range(stride)]
        if stride == 1:
            return vectors
        return [_picked(vectors, [stride * i + p for i in range(lanes)]) for p in phases]

    def _at_border(self, line: Any, first: int, phases: Sequence[int]) -> list[Any]:
        """Pixels first, first + stride, … of the row at `line`, those outside replaced."""
        stride, lanes, width = self.window.strides[1], self.lanes, self.window.in_size[1]
        base = max(0, min(first, width - stride * lanes) if width >= stride * lanes else first)
        count = max(0, min(stride, -(-(width - base) // lanes)))  # vectors that begin inside the row
        vectors = [self.b.hold(self.source.load(line + (base + j * lanes), lanes)) for j in range(count)]
        return [self._filled(vectors, base, first + phase) for phase in phases]

    def _filled(self, vectors: list[Any], base: int, first: int) -> Any:
        """Every stride-th pixel from `first`, from `vectors` that begin at `base`; `outside` beyond the row.

        Lanes past the end of a row of outputs may hold anything.
        """
        stride, lanes, width = self.window.strides[1], self.lanes, self.window.in_size[1]
        columns = [first + stride * i for i in range(lanes)]
        inside = [i for i, c in enumerate(columns[: self.window.out_size[1]]) if 0 <= c < width]
        if not inside:
            return None
        low, high = inside[0], inside[-1] + 1
        indices = [min(max(c - base, 0), len(vectors) * lanes - 1) for c in columns]
        complete = high == min(lanes, self.window.out_size[1])
        filling = constant(self.outside, "float32", lanes)
        if low == 0 and complete:
            return _picked(vectors, indices)
        # where neighbours stay neighbours, one shift of two vectors
        if stride == 1 and complete and indices[low] == 0:
            return _picked([filling, vectors[0]], [lanes - low + i for i in range(lanes)])
        if stride == 1 and low == 0 and indices[high - 1] == lanes - 1:
            return _picked([vectors[0], filling], [indices[0] + i for i in range(lanes)])
        lane = tir.Ramp(int32(0), int32(1), lanes)
        valid = lane < constant(high, "int32", lanes)
        if low:
            valid = tir.And(valid, lane >= constant(low, "int32", lanes))
        return tir.Select(valid, _picked(vectors, indices), filling)


def _picked(vectors: Sequence[Any], indices: Sequence[int]) -> Any:
    """A vector of the given elements of `vectors`, counted through all of them."""
    if list(indices) == list(range(len(indices))):
        return vectors[0]
    return tir.Shuffle(list(vectors), [int32(i) for i in indices])
