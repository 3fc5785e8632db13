"""Codes of 1 to 8 bits to the entries of a table, a vector at a time: the decoding of palettes.

How a vector of codes becomes float32 depends on the instructions that a target has:

    PermutedTable   a register holds the table, a code is a lane of it (AVX-512; AVX2 up to 3 bits)
    BytePlanes      up to 6 bits, each byte of 16 entries is a register; results are interleaved (AVX2 from
                    4 bits on, SSE, NEON, WebAssembly)
    MemoryTable     one load for each code, where registers hold no such table (7 and 8 bits)

A kernel packs codes as these read them, opens a table, and asks for vectors, which it multiplies at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .byte_planes import BytePlanes
from .code_lookup import TableLookup
from .isa import Isa
from .register_table import MemoryTable, PermutedTable

__all__ = ["TableLookup", "table_lookup"]

Array = npt.NDArray[Any]


def table_lookup(isa: Isa, bits: int, luts: Array) -> TableLookup:
    """The fastest look-up of `bits`-bit codes in tables (T, entries) float32."""
    assert 1 <= bits <= 8, bits
    if isa.lanes == 16 or (isa.lanes == 8 and bits <= 3):
        return PermutedTable(isa, bits)
    zero = (luts.astype(np.float32).view(np.uint32)[..., None] >> (8 * np.arange(3))) & 0xFF == 0
    first = min(next((i for i in range(3) if not zero[..., i].all()), 3), 2)
    most = 6 if isa.target.family != "wasm" or first == 2 else 5  # engines test the range of each index
    if bits <= most:
        return BytePlanes(isa, bits, first)
    return MemoryTable(isa, bits)
