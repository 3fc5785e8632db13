"""From the sizes of a lowered graph to its table, and how an artifact describes it."""

from __future__ import annotations

from collections.abc import Sequence

from ..cpu.tensor import Tensor
from ..dims import Size, is_fixed
from ..program import SymbolInfo, TableInfo, TensorInfo
from .entry import as_c_function
from .state import Lowering
from .table import Table, sizes_function
from .tree import kernels_of

__all__ = ["describe_table", "make_table", "tensor_info"]


def make_table(state: Lowering, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Table | None:
    """The table of a program, with a place for every open dimension of an output; None without symbols."""
    if not (state.sizes.inputs or state.sizes.measured or state.sizes.failures):
        return None
    table = Table.of(state.sizes)
    kernels = kernels_of(state.steps)
    roots = {id(t.root): t.root for kernel in kernels for t in (*kernel.reads(), *kernel.writes())}
    table.check(tensor.elements for tensor in (*inputs, *roots.values()))
    for tensor in outputs:
        for size in tensor.shape:
            table.dimension(size)
    return table


def tensor_info(tensor: Tensor, table: Table | None) -> TensorInfo:
    """How the artifact names the sizes of an input or output."""
    if table is None or is_fixed(*tensor.shape):
        return TensorInfo(tensor.name, tensor.dtype, _texts(tensor.shape))
    slots = tuple(table.dimension(size) for size in tensor.shape)
    return TensorInfo(tensor.name, tensor.dtype, _texts(tensor.shape), slots)


def _texts(shape: Sequence[Size]) -> tuple[int | str, ...]:
    return tuple(size if isinstance(size, int) else str(size) for size in shape)


def describe_table(
    table: Table | None, name: str, arena_bytes: Size, scratch_bytes: Size
) -> TableInfo | None:
    """The table with the function that fills it in; None without one."""
    if table is None:
        return None
    symbol = f"gossamer_sizes_{name}"
    function = as_c_function(sizes_function(table, arena_bytes, scratch_bytes), symbol)
    symbols = tuple(
        SymbolInfo(name, table.slots[name], symbol.least, symbol.most)
        for name, symbol in table.sizes.inputs.items()
    )
    return TableInfo(symbol, table.count, symbols, tuple(g.text for g in table.guards), function)
