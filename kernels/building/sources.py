"""The C text that is generated for each model: model.c describes it, model.h is what users include."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from gossamer.runtime.element_types import item_bytes
from gossamer.runtime.errors import JobError
from gossamer.runtime.manifest import IDENTIFIER
from gossamer.runtime.tables import MOST_SYMBOL

from ..program import Program, SymbolInfo, TensorInfo
from ..targets import Target
from .toolchain import runtime_source

__all__ = ["c_name", "model_header", "model_source", "weights_source"]

ENTRY = "gossamer_entry_"


def c_name(program: Program) -> str:
    """The model's name in C: what follows `gossamer_entry_` in the program's symbol."""
    name = program.symbol.removeprefix(ENTRY)
    if not program.symbol.startswith(ENTRY) or re.fullmatch(IDENTIFIER, name) is None:
        raise JobError("the program's symbol is not a C name", expected=ENTRY + "<name>", got=program.symbol)
    return name


def model_source(
    program: Program, sha256: str, threads: int, *, embedded: bool, requires: Sequence[str] = ()
) -> str:
    """model.c: the constant descriptor of the model and the call into its code.

    `sha256` is the weights' hash in hex, `threads` the default; with `embedded` the weights are the symbol
    that `weights_source` defines. `requires` are features of the processor, checked when a session opens.
    """
    name, entry = c_name(program), program.symbol
    count = len(program.inputs) + len(program.outputs)
    prototype = ", ".join(["void *"] * count + ["const void *", "void *", "int32_t", "int32_t", "void *"])
    passed = ", ".join([f"io[{i}]" for i in range(count)] + ["weights", "arena", "thread", "threads", "sync"])
    digest = ", ".join(f"0x{sha256[i : i + 2]}" for i in range(0, 64, 2))
    weights = f"gossamer_weights_{name}"
    return "\n".join(
        [
            '#include "gossamer.h"',
            f"extern int32_t {entry}({prototype});",
            f"extern int32_t {program.table.symbol}(int64_t *);" if program.table else "",
            f"extern const unsigned char {weights}[];" if embedded else "",
            "static int32_t call(void *const *io, const void *weights, void *arena, int32_t thread,",
            "                    int32_t threads, void *sync) {",
            "    (void)io;" if count == 0 else "",
            f"    return {entry}({passed});",
            "}",
            *_tensor_table("inputs", program.inputs),
            *_tensor_table("outputs", program.outputs),
            *_symbol_table(program),
            f"static const char *const required[] = {{{', '.join([*map(_c_string, requires), 'NULL'])}}};",
            f"GOSSAMER_PUBLIC const gossamer_model gossamer_model_{name} = {{",
            f"    .api_version = GOSSAMER_API_VERSION, .threads = {threads},",
            f"    .name = {_c_string(program.name)},",
            f"    .input_count = {len(program.inputs)}, .output_count = {len(program.outputs)},",
            "    .inputs = inputs, .outputs = outputs,",
            f"    .weights_bytes = {len(program.weights)}u, .arena_bytes = {program.arena_bytes}u,"
            f" .scratch_bytes = {program.scratch_bytes}u,",
            *_table_fields(program),
            f"    .weights_sha256 = {{{digest}}},",
            f"    .weights = {weights if embedded else 'NULL'}, .call = call,",
            "    .requires = required};",
            "",
        ]
    )


def _tensor_table(kind: str, tensors: tuple[TensorInfo, ...]) -> list[str]:
    """A C array of tensor descriptions; C has no empty arrays, so there is one element at least."""
    lines = [
        f"static const int64_t {kind}_{i}_shape[] = {{{', '.join(map(str, _dims(tensor))) or '0'}}};"
        for i, tensor in enumerate(tensors)
    ]
    rows = [
        f"    {{{_c_string(tensor.name)}, GOSSAMER_{tensor.dtype.upper()}, {len(tensor.shape)},"
        f" {kind}_{i}_shape, {_bytes(tensor)}u}},"
        for i, tensor in enumerate(tensors)
    ]
    table = rows or ["    {NULL, 0, 0, NULL, 0},"]
    return [*lines, f"static const gossamer_tensor {kind}[] = {{", *table, "};"]


def _dims(tensor: TensorInfo) -> list[int]:
    """Sizes as gossamer.h has them: -(place + 1) for one that stands in the table."""
    slots = tensor.slots or (-1,) * len(tensor.shape)
    sizes = zip(tensor.shape, slots, strict=True)
    return [-1 - slot if slot >= 0 else int(size) for size, slot in sizes]


def _bytes(tensor: TensorInfo) -> int:
    return 0 if tensor.slots else math.prod(_dims(tensor)) * item_bytes(tensor.dtype)


def _symbol_table(program: Program) -> list[str]:
    if program.table is None:
        return []
    rows = [
        f"    {{{_c_string(symbol.name)}, {symbol.slot}, {symbol.least}, {_most(symbol)}}},"
        for symbol in program.table.symbols
    ]
    return ["static const gossamer_symbol symbols[] = {", *(rows or ["    {NULL, 0, 0, 0},"]), "};"]


def _most(symbol: SymbolInfo) -> int:
    return MOST_SYMBOL if symbol.most is None else symbol.most


def _table_fields(program: Program) -> list[str]:
    table = program.table
    if table is None:
        return []
    return [
        f"    .table_count = {table.count}, .symbol_count = {len(table.symbols)}, .symbols = symbols,"
        f" .sizes = {table.symbol},"
    ]


def _c_string(text: str) -> str:
    """A C literal of the UTF-8 bytes of `text`; anything but plain words is written in octal."""
    plain = re.compile(r"[A-Za-z0-9_./: -]")
    return (
        '"'
        + "".join(chr(b) if plain.match(chr(b)) and b < 128 else f"\\{b:03o}" for b in text.encode())
        + '"'
    )


def weights_source(symbol: str, path: str) -> str:
    """C text that embeds the file `path` as the aligned bytes `symbol`; an empty file as one zero."""
    return (
        '#pragma clang diagnostic ignored "-Wc23-extensions"\n'
        f"extern const unsigned char {symbol}[];\n"
        f"const _Alignas(64) unsigned char {symbol}[] = {{\n#embed {_c_string(path)} if_empty(0)\n}};\n"
    )


def model_header(program: Program, target: Target, version: str, *, embedded: bool) -> str:
    """model.h: what the model computes, the C interface, and the declaration of the model."""
    name = c_name(program)
    guard = f"GOSSAMER_MODEL_{name}_H"
    weights = "embedded in the code" if embedded else f"weights.bin, {len(program.weights)} bytes"
    return "\n".join(
        [
            f"/* {_comment(program.name)}",
            f" * compiled by gossamer {version} for {target.name} ({target.triple})",
            " *",
            *(f" * input  {i}: {_line(tensor)}" for i, tensor in enumerate(program.inputs)),
            *(f" * output {i}: {_line(tensor)}" for i, tensor in enumerate(program.outputs)),
            f" * weights: {weights}; memory of a session: {program.arena_bytes} bytes,",
            f" * {program.scratch_bytes} more for each thread after the first.",
            " */",
            f"#ifndef {guard}",
            f"#define {guard}",
            "",
            runtime_source("gossamer.h").read_text(encoding="utf-8"),
            "#ifdef __cplusplus",
            'extern "C" {',
            "#endif",
            f"GOSSAMER_PUBLIC extern const gossamer_model gossamer_model_{name};",
            "#ifdef __cplusplus",
            "}",
            "#endif",
            "",
            "#endif",
            "",
        ]
    )


def _line(tensor: TensorInfo) -> str:
    return f"{_comment(tensor.name)}: {tensor.dtype} {list(tensor.shape)}"


def _comment(text: str) -> str:
    """`text` where nothing can end the comment."""
    return re.sub(r"[^A-Za-z0-9_.: -]", "_", text)
