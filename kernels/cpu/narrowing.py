"""From vectors of int32 to vectors of bytes, saturating."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tvm import tirx as tir

from ..quantization import integer_range
from .builder import Builder, Pointer, constant, int32, lanes_of, scalar_type

__all__ = ["narrow", "packed_within", "store_elements"]

# x86, by lanes of int32: int32 to int16, and int16 to the type
_PACKS = {
    16: ("avx512.packssdw.512", {"uint8": "avx512.packuswb.512", "int8": "avx512.packsswb.512"}),
    8: ("avx2.packssdw", {"uint8": "avx2.packuswb", "int8": "avx2.packsswb"}),
    4: ("sse2.packssdw.128", {"uint8": "sse2.packuswb.128", "int8": "sse2.packsswb.128"}),
}


def narrow(b: Builder, vectors: Sequence[Any], dtype: str, low: int, high: int) -> Iterator[tuple[int, Any]]:
    """(elements, vector of `dtype`) of the vectors one after another, clamped to `low` … `high`."""
    lanes = lanes_of(vectors[0])
    if b.isa.target.family != "x86":
        for value in vectors:
            clamped = tir.min(tir.max(value, constant(low, "int32", lanes)), constant(high, "int32", lanes))
            yield lanes, tir.Cast(f"{dtype}x{lanes}", clamped)
        return
    for start in range(0, len(vectors), 4):
        part = vectors[start : start + 4]
        many = len(part) * lanes
        yield many, _clamped(b.hold(_packed(part, dtype, lanes)), dtype, low, high, many)


def packed_within(b: Builder, vectors: Sequence[Any], dtype: str, low: int, high: int) -> Any:
    """Four vectors as one of `dtype`, in turns of 4 elements of each, clamped to `low` … `high`.

    Of vectors of 4 elements that is one after another; it is what x86 does with longer ones.
    """
    lanes = lanes_of(vectors[0])
    if b.isa.target.family != "x86":
        assert lanes == 4, lanes
        return next(narrow(b, [tir.Shuffle(list(vectors), [int32(i) for i in range(16)])], dtype, low, high))[
            1
        ]
    return _clamped(b.hold(_in_turns(list(vectors), dtype, lanes)), dtype, low, high, 4 * lanes)


def _in_turns(vectors: Sequence[Any], dtype: str, lanes: int) -> Any:
    words, octets = _PACKS[lanes]
    half = [
        tir.call_llvm_pure_intrin(f"int16x{2 * lanes}", f"llvm.x86.{words}", *vectors[i : i + 2])
        for i in (0, 2)
    ]
    return tir.call_llvm_pure_intrin(f"{dtype}x{4 * lanes}", f"llvm.x86.{octets[dtype]}", *half)


def _packed(vectors: Sequence[Any], dtype: str, lanes: int) -> Any:
    """At most four vectors as one: packs work within 128 bits, so words are put in order afterwards."""
    packed = _in_turns([vectors[min(i, len(vectors) - 1)] for i in range(4)], dtype, lanes)
    blocks, count = lanes // 4, len(vectors)
    if blocks == 1 and count == 4:
        return packed
    order = [int32(block * 4 + which) for which in range(count) for block in range(blocks)]
    mixed = tir.Shuffle([tir.reinterpret(f"int32x{lanes}", packed)], order)
    return tir.reinterpret(f"{dtype}x{count * lanes}", mixed)


def _clamped(value: Any, dtype: str, low: int, high: int, many: int) -> Any:
    least, most = integer_range(dtype)
    if low > least:
        value = tir.max(value, constant(low, dtype, many))
    if high < most:
        value = tir.min(value, constant(high, dtype, many))
    return value


def store_elements(b: Builder, out: Pointer, offset: Any, value: Any, keep: int) -> None:
    """Stores the first `keep` lanes of `value`, of any type, in pieces of powers of two."""
    lanes = lanes_of(value)
    if keep <= 0:
        return
    if keep >= lanes and lanes & (lanes - 1) == 0:
        b.store(out, offset, value)
        return
    spill = b.stack(scalar_type(value), lanes)
    b.store(spill, 0, value)
    done = 0
    while done < min(keep, lanes):
        piece = 1 << ((min(keep, lanes) - done).bit_length() - 1)
        b.store(out, offset + done, spill.load(done, piece))
        done += piece
