"""A few rows times a grouped weight: codes are multiplied as integers, never made float."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from ..cpu.chunked_inputs import chunked_inputs
from ..cpu.code_dot import code_dot
from ..cpu.code_planes import piece_widths
from ..cpu.code_registers import CodeRegisters
from ..cpu.grouped_vector import GroupedTensors, GroupedVector, panel_vectors, tile_rows
from ..cpu.half import half_bits
from ..cpu.isa import Isa
from ..cpu.lazy import Leaf
from ..cpu.rounded_rows import RoundedRows
from ..cpu.tensor import Tensor
from ..grouped_weight import GroupedWeight, element_values
from .choice import Choice
from .encoded.base import ProductKernel
from .feature_major import matrix_view, row_tree
from .fusion import Epilogue
from .state import Lowering

__all__ = ["grouped_product"]

Array = npt.NDArray[Any]
_FEW = 8  # rows of activations, for which weights are multiplied as they are stored
_MOST_PADDED = 1.05  # vectors of outputs in whole panels, for each there is
_LEVELS = tuple(int(12 + 2 * value) for value in element_values("float4e2m1", 4))  # none negative
_INTEGERS = ("integer", "float4e2m1")
_LEAST_GROUP = 12  # inputs: smaller groups leave chunks half empty


def grouped_product(isa: Isa, weight: GroupedWeight, rows: int) -> ProductKernel | None:
    """The kernel for a few rows; None for codes that are not whole numbers, and tiny groups."""
    if rows > _FEW or weight.element not in _INTEGERS or min(weight.group, weight.inputs) < _LEAST_GROUP:
        return None
    return partial(_lower, weight)


class _Packed:
    """A weight as `GroupedVector` reads it."""

    def __init__(self, isa: Isa, weight: GroupedWeight, rows: int) -> None:
        self.isa, self.weight = isa, weight
        self.chunks = chunked_inputs(weight.inputs, weight.group)
        levels = _LEVELS if weight.element == "float4e2m1" else ()
        self.factor = 0.5 if levels else 1.0
        bits, most = weight.bits, max(levels) if levels else (1 << weight.bits) - 1
        dot = code_dot(isa, most)
        while CodeRegisters(dot, bits).inputs > self.chunks.size:  # 3 bits in groups of 16
            bits = 2 * max(piece_widths(bits))
        self.form = CodeRegisters(dot, bits, levels)
        count = -(-weight.outputs // isa.lanes)
        most = panel_vectors(isa, tile_rows(isa, rows))
        self.vectors = next(n for n in range(most, 0, -1) if -(-count // n) * n <= _MOST_PADDED * count)
        self.panels = -(-count // self.vectors)
        self.zeros = weight.zero + _LEVELS[0] if levels else weight.zero
        first = int(self.zeros.flat[0])
        self.zero = first if (self.zeros == first).all() else None

    @property
    def rounding(self) -> RoundedRows:
        dot = self.form.dot
        return RoundedRows(self.chunks, dot.parts, 1 if self.zero is None else self.zero - dot.offset)

    def codes(self) -> Array:
        """uint8 (panels, chunks, steps, vectors, octets)."""
        weight, lanes = self.weight, self.isa.lanes
        padded = np.zeros((self.panels * self.vectors * lanes, weight.inputs + 1), np.uint8)
        padded[: weight.outputs, :-1] = weight.codes
        turned = padded[:, self.chunks.places].reshape(self.panels, self.vectors, lanes, -1).swapaxes(2, 3)
        packed = self.form.pack(turned)  # panels, vectors, steps, octets
        steps = self.chunks.size // self.form.inputs
        split = packed.reshape(self.panels, self.vectors, self.chunks.count, steps, -1)
        return np.ascontiguousarray(split.transpose(0, 2, 3, 1, 4))

    def of_groups(self, values: Array) -> Array:
        """[O, groups] -> (panels, groups, vectors, lanes)."""
        padded = np.zeros((self.panels * self.vectors * self.isa.lanes, values.shape[1]), values.dtype)
        padded[: len(values)] = values
        split = padded.reshape(self.panels, self.vectors, self.isa.lanes, -1)
        return np.ascontiguousarray(split.transpose(0, 3, 1, 2))

    def arrays(self) -> dict[str, Array]:
        """What is stored, by the names of `GroupedTensors`."""
        scale = self.of_groups(self.weight.scale)
        found = {"codes": self.codes(), "scales": half_bits(scale) if self.weight.halves else scale}
        if self.zero is None:
            found["zeros"] = self.of_groups(self.zeros.astype(np.uint8))
        return found


def _lower(
    weight: GroupedWeight,
    state: Lowering,
    node: ir.Node,
    source: Tensor,
    weights: Array,
    bias: Tensor | None,
    shape: tuple[int, ...],
    choice: Choice,
    epilogue: Epilogue,
) -> tuple[Tensor, Choice]:
    """As the products of `operators/matmul.py`."""
    left = matrix_view(state.dense(Leaf(source)))
    packed = _Packed(state.isa, weight, left.shape[0])
    arrays = packed.arrays()
    tensors = {
        part: state.pool.add(f"{node.name}.weight.{part}", array, weight.label)
        for part, array in arrays.items()
    }
    out = state.new_tensor(epilogue.value.name or "matmul", "float32", shape)
    kernel = GroupedVector(
        left,
        GroupedTensors(tensors["codes"], tensors["scales"], tensors.get("zeros")),
        bias,
        matrix_view(out),
        packed.form,
        packed.rounding,
        packed.vectors,
        packed.factor,
        row_tree(state, epilogue.tree, shape),
    )
    state.steps.append(kernel)
    chosen = replace(
        choice,
        kernel=kernel.family,
        rows=0,
        kept=1.0,
        format=weight.label,
        stored_bytes=sum(array.nbytes for array in arrays.values()),
        reason="few rows, rounded to 16 bits: codes are multiplied as integers",
    )
    return out, chosen.with_tile((tile_rows(state.isa, left.shape[0]), packed.vectors))
