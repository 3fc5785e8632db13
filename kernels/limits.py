"""What a model may ask of the machine that compiles it and of the one that runs it."""

from __future__ import annotations

__all__ = ["ARENA_LIMIT", "ELEMENT_LIMIT"]

ELEMENT_LIMIT = 2**31 - 1
"""Elements of one tensor: kernels count them in int32."""
ARENA_LIMIT = 1 << 34
"""Bytes of activations of one session."""
