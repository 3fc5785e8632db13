"""Numbers of every width come back from a stream that has exactly their bits."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.kernels.bit_packing import pack_bits, packed_bytes, unpack_bits


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 8, 9, 31, 63, 64, 65, 1001])
def test_a_stream_has_every_bit_at_its_place(bits: int, count: int) -> None:
    numbers = np.random.default_rng(count).integers(0, 2**bits, count).astype(np.uint8)
    stream = pack_bits(numbers, bits)
    assert len(stream) == packed_bytes(count, bits) == -(-count * bits // 8)
    each = np.unpackbits(numbers[:, None], axis=1, bitorder="little")[:, :bits].ravel()
    assert stream.tobytes() == np.packbits(each, bitorder="little").tobytes()
    assert unpack_bits(stream, bits, count).tobytes() == numbers.tobytes()
