"""The part of a manifest that describes stacked weights: `weights.head_bytes`, `head_sha256` and `blocks`."""

from __future__ import annotations

from collections.abc import Sequence

from .fields import Fields, refuse
from .specs import BlockSpec

__all__ = ["read_blocks"]

ALIGNMENT = 64
_MOST_BLOCKS = 1 << 20
_SHA256 = r"[0-9a-f]{64}"


def read_blocks(fields: Fields, size: int) -> tuple[int, str, tuple[BlockSpec, ...]]:
    """(head_bytes, head_sha256, blocks) of `fields`, a blob of `size` bytes; artifacts without stacks have
    none. Raises ArtifactError."""
    if not fields.has("blocks"):
        return 0, "", ()
    blocks = fields.items("blocks", lambda value, path: _block(value, path, size), _MOST_BLOCKS)
    if not blocks:
        return 0, "", ()
    head = fields.integer("head_bytes", 0, size)
    _check(fields.path("blocks"), blocks, head)
    return head, fields.text("head_sha256", _SHA256), blocks


def _block(value: object, path: str, size: int) -> BlockSpec:
    fields = Fields(value, path)
    offset = fields.integer("offset", 0, size)
    if offset % ALIGNMENT:
        raise refuse(f"{path}.offset", "is wrong", f"a multiple of {ALIGNMENT}", offset)
    return BlockSpec(
        name=fields.text("name"),
        offset=offset,
        bytes=fields.integer("bytes", 0, size - offset),
        sha256=fields.text("sha256", _SHA256),
        counter=fields.integer("counter", 0, size),
        level=fields.integer("level", 1, _MOST_BLOCKS),
    )


def _check(path: str, blocks: Sequence[BlockSpec], head: int) -> None:
    """Blocks follow each other behind the head, and the levels of every counter go up by one."""
    end, levels = head, dict[int, int]()
    for i, block in enumerate(blocks):
        if not end <= block.offset < end + ALIGNMENT:
            raise refuse(
                f"{path}[{i}].offset", "is wrong", f"the next multiple of 64 from {end}", block.offset
            )
        if block.counter % ALIGNMENT or block.counter + 4 > head:
            raise refuse(f"{path}[{i}].counter", "is wrong", f"a tensor inside the head of {head} bytes")
        level = levels.get(block.counter, 0) + 1
        if block.level != level:
            raise refuse(f"{path}[{i}].level", "is wrong", level, block.level)
        end, levels[block.counter] = block.offset + block.bytes, level
