"""Stores of vectors that are not whole."""

from __future__ import annotations

from typing import Any

from .builder import Builder, Pointer

__all__ = ["store_first"]


def store_first(b: Builder, out: Pointer, offset: Any, value: Any, lanes: int, keep: int) -> None:
    """Stores the first `keep` lanes of `value`, through the stack when they are not all."""
    if keep == lanes:
        b.store(out, offset, value)
        return
    spill = b.stack("float32", lanes)
    b.store(spill, 0, value)
    done = 0
    while done < keep:
        piece = 1 << ((keep - done).bit_length() - 1)
        b.store(out, offset + done, spill.load(done, piece))
        done += piece
