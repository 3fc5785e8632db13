"""What a WebAssembly module imports and exports: a reader of the sections that say so."""

from __future__ import annotations

from dataclasses import dataclass, field

from gossamer.runtime.errors import JobError

__all__ = ["WasmModule", "read_module"]

IMPORT, GLOBAL, EXPORT = 2, 6, 7
FUNCTION_KIND, TABLE_KIND, MEMORY_KIND, GLOBAL_KIND = 0, 1, 2, 3
I32_CONST = 0x41


@dataclass
class WasmModule:
    """`imports` as "env.memory"; `memory_pages` of the imported memory; `exports` are all exported names.

    `constants` are the values of exported globals.
    """

    imports: list[str] = field(default_factory=list)
    memory_pages: int = 0
    exports: list[str] = field(default_factory=list)
    constants: dict[str, int] = field(default_factory=dict)


class _Cursor:
    def __init__(self, data: bytes, position: int = 0) -> None:
        self.data, self.position = data, position

    def byte(self) -> int:
        self.position += 1
        return self.data[self.position - 1]

    def unsigned(self) -> int:
        """A LEB128 number."""
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def signed32(self) -> int:
        """A signed LEB128 number of 32 bits, as the unsigned address it stands for."""
        start = self.position
        value = self.unsigned()
        bits = 7 * (self.position - start)
        if value >> (bits - 1) & 1:
            value -= 1 << bits
        return value & 0xFFFFFFFF

    def text(self) -> str:
        size = self.unsigned()
        self.position += size
        return self.data[self.position - size : self.position].decode()


def read_module(data: bytes) -> WasmModule:
    """Reads a module that our linker wrote. Raises JobError for anything else."""
    if data[:8] != b"\0asm\1\0\0\0":
        raise JobError("is not a WebAssembly module")
    module, cursor = WasmModule(), _Cursor(data, 8)
    globals_: list[int] = []
    while cursor.position < len(data):
        kind, size = cursor.byte(), cursor.unsigned()
        end = cursor.position + size
        if kind == IMPORT:
            _imports(cursor, module)
        elif kind == GLOBAL:
            globals_ = _globals(cursor)
        elif kind == EXPORT:
            _exports(cursor, module, globals_)
        cursor.position = end
    return module


def _imports(cursor: _Cursor, module: WasmModule) -> None:
    for _ in range(cursor.unsigned()):
        module.imports.append(f"{cursor.text()}.{cursor.text()}")
        kind = cursor.byte()
        if kind == FUNCTION_KIND:
            cursor.unsigned()
        elif kind == MEMORY_KIND:
            limited = cursor.byte() & 1
            module.memory_pages = cursor.unsigned()
            if limited:
                cursor.unsigned()
        else:
            raise JobError("imports a table or a global", where=module.imports[-1])


def _globals(cursor: _Cursor) -> list[int]:
    values = []
    for _ in range(cursor.unsigned()):
        cursor.position += 2  # type and mutability
        if cursor.byte() != I32_CONST:
            raise JobError("has a global that is not a 32-bit constant")
        values.append(cursor.signed32())
        cursor.position += 1  # end
    return values


def _exports(cursor: _Cursor, module: WasmModule, values: list[int]) -> None:
    for _ in range(cursor.unsigned()):
        name, kind, index = cursor.text(), cursor.byte(), cursor.unsigned()
        module.exports.append(name)
        if kind == GLOBAL_KIND:
            module.constants[name] = values[index]
