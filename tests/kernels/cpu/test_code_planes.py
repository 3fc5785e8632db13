"""Codes packed in planes take exactly their bits, and nothing of them is lost."""

from __future__ import annotations

import numpy as np
import pytest

from gossamer.kernels.cpu.code_planes import SIDE_BY_SIDE, codes_per_step, pack_codes, piece_widths


@pytest.mark.parametrize("bits", range(1, 9))
def test_packed_codes_take_exactly_their_bits_and_hold_every_code(bits: int) -> None:
    count = 3 * codes_per_step(bits)
    codes = np.random.default_rng(bits).integers(0, 2**bits, count).astype(np.uint8)
    packed = pack_codes(codes, bits)
    assert packed.nbytes * 8 == count * bits
    steps = packed.reshape(3, -1, SIDE_BY_SIDE)
    found = np.zeros((3, codes_per_step(bits) // SIDE_BY_SIDE, SIDE_BY_SIDE), np.uint8)
    done = before = 0
    for width in piece_widths(bits):
        for vector in range(found.shape[1]):
            byte, place = divmod(vector, 8 // width)
            found[:, vector] |= (steps[:, before + byte] >> place * width & (1 << width) - 1) << done
        before += found.shape[1] * width // 8
        done += width
    assert (found.reshape(-1) == codes).all()
