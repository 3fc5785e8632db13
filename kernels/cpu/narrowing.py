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
    lanes, start = lanes_of(vectors[0]), 0
    while start < len(vectors):
        left = len(vectors) - start
        count = min(4, left) if b.isa.target.family == "x86" else next(n for n in (4, 2, 1) if n <= left)
        many = count * lanes
        packed = _packed(b, vectors[start : start + count], dtype, lanes)
        yield many, _clamped(b.hold(packed), dtype, low, high, many)
        start += count


def packed_within(b: Builder, vectors: Sequence[Any], dtype: str, low: int, high: int) -> Any:
    """Four vectors as one of `dtype`, in turns of 4 elements of each, clamped to `low` … `high`.

    Of vectors of 4 elements that is one after another; it is what x86 does with longer ones.
    """
    lanes = lanes_of(vectors[0])
    return _clamped(b.hold(_in_turns(b, vectors, dtype, lanes)), dtype, low, high, 4 * lanes)


def _in_turns(b: Builder, vectors: Sequence[Any], dtype: str, lanes: int) -> Any:
    """Four vectors as one of `dtype`, 4 elements of each within every 128 bits."""
    half = [_saturated(b, vectors[i], vectors[i + 1], "int16", lanes) for i in (0, 2)]
    return _saturated(b, half[0], half[1], dtype, 2 * lanes)


def _saturated(b: Builder, low: Any, high: Any, dtype: str, lanes: int) -> Any:
    """Two vectors of `lanes` integers as one of `dtype`, of half the bits."""
    family, both = b.isa.target.family, f"{dtype}x{2 * lanes}"
    if family == "x86":
        words, octets = _PACKS[lanes if dtype == "int16" else lanes // 2]
        name = words if dtype == "int16" else octets[dtype]
        return tir.call_llvm_pure_intrin(both, f"llvm.x86.{name}", low, high)
    assert 2 * lanes * int(dtype.lstrip("uint")) == 128, (dtype, lanes)
    if family == "wasm":
        name = f"{'unsigned' if dtype == 'uint8' else 'signed'}.v{2 * lanes}i{64 // lanes}"
        return tir.call_llvm_pure_intrin(both, f"llvm.wasm.narrow.{name}", low, high)
    one = {"arm64": {"uint8": "sqxtun"}, "arm": {"uint8": "vqmovnsu"}}[family].get(dtype)
    name = one or {"arm64": "sqxtn", "arm": "vqmovns"}[family]
    prefix = {"arm64": "llvm.aarch64.neon", "arm": "llvm.arm.neon"}[family]
    halves = [
        tir.call_llvm_pure_intrin(f"{dtype}x{lanes}", f"{prefix}.{name}.v{lanes}i{64 // lanes}", part)
        for part in (low, high)
    ]
    return tir.Shuffle(halves, [int32(i) for i in range(2 * lanes)])


def _packed(b: Builder, vectors: Sequence[Any], dtype: str, lanes: int) -> Any:
    """At most four vectors as one: packs work within 128 bits, so words are put in order afterwards."""
    packed = _in_turns(b, [vectors[min(i, len(vectors) - 1)] for i in range(4)], dtype, lanes)
    blocks, count = lanes // 4, len(vectors)
    if blocks == 1 and count == 4:
        return packed
    if blocks == 1:
        return tir.Shuffle([packed], [int32(i) for i in range(4 * count)])
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
