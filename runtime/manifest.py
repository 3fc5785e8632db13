"""manifest.json, version 2 or 3: what an artifact holds. `docs/artifact.md` describes each field.

Version 3 is that of artifacts with sizes that a run brings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .blocks import read_blocks
from .element_types import DTYPES
from .errors import ArtifactError
from .fields import Fields, check_text, refuse
from .specs import (
    CodeSpec,
    FileSpec,
    LedgerSpec,
    LeftSpec,
    StepSpec,
    TableSpec,
    TargetSpec,
    TensorSpec,
    WeightSpec,
    WeightsSpec,
)
from .tables import check_table, read_sizes, read_slots, read_table

__all__ = [
    "DTYPES",
    "FORMAT",
    "MANIFEST",
    "VERSION",
    "CodeSpec",
    "FileSpec",
    "LedgerSpec",
    "LeftSpec",
    "Manifest",
    "StepSpec",
    "TableSpec",
    "TargetSpec",
    "TensorSpec",
    "WeightSpec",
    "WeightsSpec",
    "parse_manifest",
    "read_manifest",
]

FORMAT = "gossamer-artifact"
VERSION = 2  # of artifacts whose sizes are all known
OPEN_VERSION = 3  # of others
MANIFEST = "manifest.json"
ALIGNMENT = 64  # bytes, of every tensor in the weights blob
FAMILIES = ("x86", "arm64", "arm", "wasm")
CONTAINERS = ("elf", "macho", "wasm")
ROLES = ("shared", "static", "header", "object", "wasm")

MOST_MANIFEST_BYTES = 64 << 20
MOST_BYTES = 1 << 40
MOST_TENSORS = 1 << 16
MOST_MACS = 1 << 60
MOST_THREADS = 16
MOST_PAGES = 1 << 16
IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_]{0,199}"
FILE_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}"
SHA256 = r"[0-9a-f]{64}"


@dataclass(frozen=True)
class Manifest:
    """A checked manifest; `layers` are the report lines of lowering, as plain data.

    Artifacts written before there was a `ledger` are read as if it were empty.
    """

    name: str
    gossamer: str
    target: TargetSpec
    entry: str
    threads: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arena_bytes: int
    arena_bound_bytes: int
    scratch_bytes: int
    weights: WeightsSpec
    code: tuple[CodeSpec, ...]
    layers: tuple[Mapping[str, Any], ...] = ()
    steps: tuple[StepSpec, ...] = ()
    ledger: LedgerSpec = field(default_factory=LedgerSpec)
    files: Mapping[str, FileSpec] = field(default_factory=dict)
    table: TableSpec | None = None

    @property
    def symbol(self) -> str:
        """The name of the model in C: what follows `gossamer_entry_` and `gossamer_model_`."""
        return self.entry.removeprefix("gossamer_entry_")

    def to_json(self) -> str:
        """The text of manifest.json."""
        version = VERSION if self.table is None else OPEN_VERSION
        data = {"format": FORMAT, "version": version, **asdict(self)}
        data["code"] = [_code_json(code) for code in self.code]
        for tensor in (*data["inputs"], *data["outputs"]):
            if not tensor["slots"]:
                del tensor["slots"]
        if self.table is None:
            del data["table"]
        return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def _code_json(code: CodeSpec) -> dict[str, Any]:
    data = asdict(code)
    return data if code.role == "wasm" else {"role": data["role"], "file": data["file"]}


def read_manifest(path: Path) -> Manifest:
    """The manifest in file `path`. Raises ArtifactError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MOST_MANIFEST_BYTES + 1)
    except OSError as error:
        raise ArtifactError("cannot be read", where=path, got=error.strerror) from error
    if len(data) > MOST_MANIFEST_BYTES:
        raise ArtifactError("is too large", where=path, expected=f"at most {MOST_MANIFEST_BYTES} bytes")
    return parse_manifest(data)


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in the UTF-8 JSON text `data`. Raises ArtifactError naming the field that is wrong."""
    try:
        loaded = json.loads(data.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ArtifactError("is not JSON", where=MANIFEST, got=str(error)[:120]) from error
    top = Fields(loaded)
    top.choice("format", (FORMAT,))
    version = top.raw("version")
    if type(version) is not int or version not in (VERSION, OPEN_VERSION):
        raise ArtifactError(
            "was written in another version of the format",
            where=MANIFEST,
            expected=f"version {VERSION} or {OPEN_VERSION}",
            got=str(version)[:20],
            advice="compile the model again, or install the gossamer that wrote it",
        )
    manifest = _manifest(top)
    _cross_check(manifest)
    return manifest


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not a JSON number")


def _manifest(top: Fields) -> Manifest:
    files = Fields(top.raw("files"), "files")
    return Manifest(
        name=top.text("name"),
        gossamer=top.text("gossamer", longest=100),
        target=_target(Fields(top.raw("target"), "target")),
        entry=top.text("entry", "gossamer_entry_" + IDENTIFIER),
        threads=top.integer("threads", 1, MOST_THREADS),
        inputs=top.items("inputs", _tensor, MOST_TENSORS),
        outputs=top.items("outputs", _tensor, MOST_TENSORS),
        arena_bytes=top.integer("arena_bytes", 0, MOST_BYTES),
        arena_bound_bytes=top.integer("arena_bound_bytes", 0, MOST_BYTES),
        scratch_bytes=top.integer("scratch_bytes", 0, MOST_BYTES),
        weights=_weights(Fields(top.raw("weights"), "weights")),
        code=top.items("code", _code),
        layers=top.items("layers", _layer),
        steps=top.items("steps", _step),
        ledger=_ledger(Fields(top.raw("ledger"), "ledger")) if top.has("ledger") else LedgerSpec(),
        files={name: _file(files, name) for name in files.keys()},  # noqa: SIM118
        table=read_table(top) if top.raw("version") == OPEN_VERSION else None,
    )


def _target(fields: Fields) -> TargetSpec:
    return TargetSpec(
        name=fields.text("name", longest=200),
        triple=fields.text("triple", longest=200),
        family=fields.choice("family", FAMILIES),
        container=fields.choice("container", CONTAINERS),
        requires=fields.items("requires", lambda value, path: check_text(path, value)),
    )


def _tensor(value: object, path: str) -> TensorSpec:
    fields = Fields(value, path)
    shape = read_sizes(fields)
    dtype = fields.choice("dtype", tuple(DTYPES))
    tensor = TensorSpec(fields.text("name"), dtype, shape, read_slots(fields, shape))
    if tensor.bytes > MOST_BYTES:
        raise refuse(f"{path}.shape", "is too large", f"at most {MOST_BYTES} bytes", list(shape))
    return tensor


def _weights(fields: Fields) -> WeightsSpec:
    size = fields.integer("bytes", 0, MOST_BYTES)
    head, digest, blocks = read_blocks(fields, size)
    weights = WeightsSpec(
        file=None if fields.raw("file") is None else fields.text("file", FILE_NAME),
        bytes=size,
        sha256=fields.text("sha256", SHA256),
        tensors=fields.items("tensors", _weight),
        head_bytes=head,
        head_sha256=digest,
        blocks=blocks,
    )
    for i, tensor in enumerate(weights.tensors):
        if tensor.offset + tensor.bytes > weights.bytes:
            expected = f"a tensor inside the {weights.bytes} bytes of weights"
            raise refuse(f"weights.tensors[{i}]", "is wrong", expected, [tensor.offset, tensor.bytes])
    return weights


def _weight(value: object, path: str) -> WeightSpec:
    fields = Fields(value, path)
    offset = fields.integer("offset", 0, MOST_BYTES)
    if offset % ALIGNMENT:
        raise refuse(f"{path}.offset", "is wrong", f"a multiple of {ALIGNMENT}", offset)
    return WeightSpec(
        name=fields.text("name"),
        offset=offset,
        bytes=fields.integer("bytes", 0, MOST_BYTES),
        dtype=fields.text("dtype", longest=100),
        packing=fields.text("packing", longest=200),
    )


def _code(value: object, path: str) -> CodeSpec:
    fields = Fields(value, path)
    role = fields.choice("role", ROLES)
    file = fields.text("file", FILE_NAME)
    if role != "wasm":
        return CodeSpec(role, file)
    return CodeSpec(
        role,
        file,
        relaxed=fields.boolean("relaxed"),
        heap_base=fields.integer("heap_base", 0, (1 << 32) - 1),
        initial_pages=fields.integer("initial_pages", 0, MOST_PAGES),
    )


def _layer(value: object, path: str) -> Mapping[str, Any]:
    fields = Fields(value, path)
    for key in ("name", "operator", "kernel"):
        fields.text(key)
    read_sizes(fields)
    for key in ("sparsity", "bits_per_weight", "weight_bytes", "macs"):
        if fields.has(key):
            fields.number(key)
    return {key: fields.raw(key) for key in fields.keys()}  # noqa: SIM118


def _step(value: object, path: str) -> StepSpec:
    fields = Fields(value, path)
    return StepSpec(
        kernel=fields.text("kernel", longest=100),
        layers=fields.items("layers", lambda name, where: check_text(where, name), longest=MOST_TENSORS),
        shape=read_sizes(fields),
        tile=fields.text("tile", longest=100),
        macs=fields.integer("macs", 0, MOST_MACS),
        read_bytes=fields.integer("read_bytes", 0, MOST_BYTES),
        written_bytes=fields.integer("written_bytes", 0, MOST_BYTES),
        scratch_bytes=fields.integer("scratch_bytes", 0, MOST_BYTES),
    )


def _ledger(fields: Fields) -> LedgerSpec:
    nodes = fields.integer("integer_nodes", 0, MOST_MACS)
    return LedgerSpec(nodes, fields.items("left", _left))


def _left(value: object, path: str) -> LeftSpec:
    fields = Fields(value, path)
    return LeftSpec(fields.text("name"), fields.text("operator", longest=100), fields.text("reason"))


def _file(files: Fields, name: str) -> FileSpec:
    path = files.path(name)
    if not _is_file_name(name):
        raise refuse("files", "names a file wrongly", f"a plain name matching {FILE_NAME}", name)
    fields = Fields(files.raw(name), path)
    return FileSpec(fields.integer("bytes", 0, MOST_BYTES), fields.text("sha256", SHA256))


def _is_file_name(name: str) -> bool:
    return name != MANIFEST and re.fullmatch(FILE_NAME, name) is not None


def _cross_check(manifest: Manifest) -> None:
    """What two fields say about one thing must agree."""
    for kind, tensors in (("inputs", manifest.inputs), ("outputs", manifest.outputs)):
        names = [tensor.name for tensor in tensors]
        if len(set(names)) != len(names):
            raise refuse(kind, "is wrong", "different names", names)
    check_table(manifest.table, manifest.inputs, manifest.outputs, manifest.symbol)
    weights = manifest.weights
    if weights.file is not None:
        listed = manifest.files.get(weights.file)
        if listed != FileSpec(weights.bytes, weights.sha256):
            raise refuse("weights.file", "is wrong", "a file whose entry in files agrees", weights.file)
    if not manifest.code:
        raise refuse("code", "is wrong", "at least one code file", [])
    for i, code in enumerate(manifest.code):
        if code.file not in manifest.files:
            raise refuse(f"code[{i}].file", "is wrong", "a file listed in files", code.file)
