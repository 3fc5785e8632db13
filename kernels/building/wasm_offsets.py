"""Constant distances move into the loads of a WebAssembly module.

LLVM folds `address + constant` into a load's offset only where it knows that the sum does not wrap around,
which it forgets while it rewrites loops. What is left is an instruction for each load of a tile:

    local.get 5; i32.const 1536; i32.add; v128.load 0   ->   local.get 5; v128.load offset=1536

An engine adds offsets without wrapping around, so this is the same unless `local 5` lies below zero and the
sum does not. Data lie above the stack, which comes first in memory and is larger than any distance moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gossamer.runtime.errors import JobError

__all__ = ["MOST", "fold_offsets"]

MOST = 1 << 15  # distance that is moved
CODE = 10
I32_CONST, I32_ADD = 0x41, 0x6A
LOADS = range(0x28, 0x36)
VECTOR = 0xFD
VECTOR_LOADS = (*range(11), 92, 93)

# immediates by opcode: counts of LEB128 numbers, or of bytes
_NUMBERS = {
    **dict.fromkeys((0x02, 0x03, 0x04, 0x0C, 0x0D, 0x10, 0x3F, 0x40, I32_CONST, 0x42, 0xD0, 0xD2), 1),
    **dict.fromkeys(range(0x20, 0x27), 1),
    **dict.fromkeys(range(0x28, 0x3F), 2),
    0x11: 2,
}
_BYTES = {0x43: 4, 0x44: 8}
_VECTOR_NUMBERS = dict.fromkeys((*range(12), *range(84, 94)), 2)
_VECTOR_BYTES = {12: 16, 13: 16, **dict.fromkeys((*range(21, 35), *range(84, 92)), 1)}
_BULK_NUMBERS = {8: 2, 9: 1, 10: 2, 11: 1, 12: 2, 13: 1, 14: 2, 15: 1, 16: 1, 17: 1}
_BLOCKS, _BR_TABLE, _SELECT_TYPED, _BULK = (0x02, 0x03, 0x04), 0x0E, 0x1C, 0xFC


@dataclass(frozen=True)
class _Instruction:
    opcode: int
    vector: int  # the second number of a vector instruction, else -1
    start: int
    immediates: int  # where they start
    end: int

    @property
    def loads(self) -> bool:
        """Whether it takes an address, and nothing else, from the stack."""
        return self.opcode in LOADS or (self.opcode == VECTOR and self.vector in VECTOR_LOADS)


def fold_offsets(module: bytes) -> bytes:
    """The module with the same functions, fewer instructions. Raises JobError where it is not understood."""
    out, position = [module[:8]], 8
    while position < len(module):
        start, kind = position, module[position]
        size, position = _unsigned(module, position + 1)
        end = position + size
        if kind == CODE:
            body = _section(module, position)
            out.append(bytes([CODE]) + _leb(len(body)) + body)
        else:
            out.append(module[start:end])
        position = end
    return b"".join(out)


def _section(data: bytes, position: int) -> bytes:
    count, position = _unsigned(data, position)
    out = [_leb(count)]
    for _ in range(count):
        size, position = _unsigned(data, position)
        body = _function(data, position, position + size)
        out += [_leb(len(body)), body]
        position += size
    return b"".join(out)


def _function(data: bytes, start: int, end: int) -> bytes:
    groups, position = _unsigned(data, start)
    for _ in range(groups):
        _, position = _unsigned(data, position)
        position += 1  # type
    out: list[bytes] = []
    copied = start
    constant = add = None
    for now in _instructions(data, position, end):
        if now.loads and add is not None and constant is not None:
            distance, _ = _unsigned(data, constant.immediates)
            alignment, at = _unsigned(data, now.immediates)
            offset, _ = _unsigned(data, at)
            if distance <= MOST:
                out += [data[copied : constant.start], data[now.start : now.immediates]]
                out += [_leb(alignment), _leb(offset + distance)]
                copied = now.end
        follows = now.opcode == I32_ADD and constant is not None
        add = now if follows else None
        if not follows:
            constant = now if now.opcode == I32_CONST and not _negative(data, now) else None
    return b"".join([*out, data[copied:end]])


def _negative(data: bytes, constant: _Instruction) -> bool:
    return bool(data[constant.end - 1] & 0x40)


def _instructions(data: bytes, position: int, end: int) -> Iterator[_Instruction]:
    while position < end:
        start, opcode, vector = position, data[position], -1
        position += 1
        numbers, skipped = _NUMBERS.get(opcode, 0), _BYTES.get(opcode, 0)
        if opcode == VECTOR:
            vector, position = _unsigned(data, position)
            numbers, skipped = _VECTOR_NUMBERS.get(vector, 0), _VECTOR_BYTES.get(vector, 0)
        elif opcode == _BULK:
            second, position = _unsigned(data, position)
            numbers = _BULK_NUMBERS.get(second, 0)
        elif opcode in (_BR_TABLE, _SELECT_TYPED):
            numbers, position = _unsigned(data, position)
            numbers += opcode == _BR_TABLE
        elif opcode > 0xD2 or opcode in range(0x06, 0x0B):
            raise JobError("has an instruction that is not understood", got=f"0x{opcode:02X} at {start}")
        immediates = position
        for _ in range(numbers):
            while data[position] >= 0x80:
                position += 1
            position += 1
        position += skipped
        yield _Instruction(opcode, vector, start, immediates, position)


def _unsigned(data: bytes, position: int) -> tuple[int, int]:
    """A LEB128 number, and where it ends."""
    value = shift = 0
    while data[position] >= 0x80:
        value |= (data[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
    return value | data[position] << shift, position + 1


def _leb(value: int) -> bytes:
    out = []
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])
