"""Which symbols a shared library takes from others: a reader of the ELF dynamic symbol table."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from gossamer.runtime.errors import JobError

__all__ = ["dynamic_symbols", "needed_libraries"]

SHT_DYNAMIC, SHT_DYNSYM = 6, 11
DT_NEEDED = 1


@dataclass(frozen=True)
class _Section:
    type: int
    offset: int
    size: int
    link: int


def _sections(data: bytes) -> tuple[bool, list[_Section]]:
    """Whether the file is 64-bit, and its sections."""
    if data[:4] != b"\x7fELF" or data[5] != 1:
        raise JobError("is not a little-endian ELF file")
    wide = data[4] == 2
    table, size, count = (
        (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58))
        if wide
        else (*struct.unpack_from("<I", data, 32), *struct.unpack_from("<HH", data, 46))
    )
    found = []
    for i in range(count):
        start = table + i * size
        kind = struct.unpack_from("<I", data, start + 4)[0]
        offset, length, link = struct.unpack_from(
            "<QQI" if wide else "<III", data, start + (24 if wide else 16)
        )
        found.append(_Section(kind, offset, length, link))
    return wide, found


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def dynamic_symbols(data: bytes) -> tuple[set[str], set[str]]:
    """Names of the symbols that the shared library `data` leaves undefined, and of those it exports."""
    wide, sections = _sections(data)
    undefined: set[str] = set()
    exported: set[str] = set()
    for section in (s for s in sections if s.type == SHT_DYNSYM):
        names, step = sections[section.link].offset, 24 if wide else 16
        for start in range(section.offset + step, section.offset + section.size, step):
            name = _text(data, names + struct.unpack_from("<I", data, start)[0])
            home = struct.unpack_from("<H", data, start + (6 if wide else 14))[0]
            (exported if home else undefined).add(name)
    return undefined, exported


def needed_libraries(data: bytes) -> list[str]:
    """Names of the shared libraries that `data` asks the loader for."""
    wide, sections = _sections(data)
    found = []
    for section in (s for s in sections if s.type == SHT_DYNAMIC):
        names, step = sections[section.link].offset, 16 if wide else 8
        for start in range(section.offset, section.offset + section.size, step):
            tag, value = struct.unpack_from("<QQ" if wide else "<II", data, start)
            if tag == DT_NEEDED:
                found.append(_text(data, names + value))
    return found
