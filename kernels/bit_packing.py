"""Small integers in a stream of bits: exactly `bits` each, lowest bit first, without gaps.

Number i takes the bits i * bits to (i + 1) * bits of the stream; bit j of the stream is bit j % 8 of byte
j // 8. Only the last byte may have bits left over, which are zero. Eight numbers are `bits` whole bytes, so
numbers are moved in groups of eight through 64-bit words.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["pack_bits", "packed_bytes", "unpack_bits"]

Bytes = npt.NDArray[np.uint8]
_GROUP = 8


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of a stream of `count` numbers of `bits` bits."""
    return -(-count * bits // 8)


def pack_bits(numbers: Bytes, bits: int) -> Bytes:
    """The stream [packed_bytes] of `numbers` (any shape, in row-major order), each below 2 ** bits.

    >>> pack_bits(np.array([1, 2, 3], np.uint8), 3).tolist()
    [209, 0]
    """
    assert 1 <= bits <= 8
    flat = numbers.reshape(-1)
    groups = np.zeros((-(-flat.size // _GROUP), _GROUP), np.uint8)
    groups.reshape(-1)[: flat.size] = flat
    words = np.zeros(len(groups), "<u8")
    for place in range(_GROUP):
        words |= groups[:, place].astype("<u8") << np.uint64(place * bits)
    stream = words.view(np.uint8).reshape(-1, _GROUP)[:, :bits].reshape(-1)
    return stream[: packed_bytes(flat.size, bits)].copy()


def unpack_bits(stream: Bytes, bits: int, count: int) -> Bytes:
    """The first `count` numbers of a stream of packed_bytes(count, bits) bytes.

    >>> unpack_bits(np.array([209, 0], np.uint8), 3, 3).tolist()
    [1, 2, 3]
    """
    assert 1 <= bits <= 8
    assert len(stream) >= packed_bytes(count, bits)
    groups = -(-count // _GROUP)
    padded = np.zeros(groups * bits, np.uint8)
    used = min(len(stream), padded.size)
    padded[:used] = stream[:used]
    wide = np.zeros((groups, _GROUP), np.uint8)
    wide[:, :bits] = padded.reshape(groups, bits)
    words = wide.view("<u8").reshape(-1)
    numbers = np.empty((groups, _GROUP), np.uint8)
    mask = np.uint64(2**bits - 1)
    for place in range(_GROUP):
        numbers[:, place] = words >> np.uint64(place * bits) & mask
    return numbers.reshape(-1)[:count]
