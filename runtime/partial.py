"""Weights of which only the first blocks are loaded, as many as a budget allows.

Stacked weights lie at the end of the weights blob, block by block in the order of what they gain. What comes
before them (the head), and one block of every stack, must be loaded. A counter in the head tells the code how
many blocks of a stack there are. The head and every block have hashes of their own, so that nothing else of
the file is read.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from .artifact import Artifact
from .errors import ArtifactError, OptionError
from .specs import WeightsSpec

__all__ = ["MEGABYTE", "PartialWeights", "least_bytes", "loaded_bytes"]

MEGABYTE = 1_000_000


def least_bytes(weights: WeightsSpec) -> int:
    """Bytes without which nothing runs: the head, and the first block of every stack."""
    if not weights.blocks:
        return weights.bytes
    return max(block.offset + block.bytes for block in weights.blocks if block.level == 1)


def loaded_bytes(weights: WeightsSpec, budget_mb: float) -> int:
    """The longest prefix that ends with a block and fits. Raises OptionError naming the least budget."""
    budget = budget_mb * MEGABYTE
    ends = [block.offset + block.bytes for block in weights.blocks] or [weights.bytes]
    least = least_bytes(weights)
    if not budget >= least:
        advice = (
            None if weights.blocks else "only weights stacked by the pass stack-bits can be loaded in part"
        )
        raise OptionError(
            "the budget is too small for the weights",
            where="budget_mb",
            expected=f"at least {-(-least // 1000) / 1000:.3f}",
            got=f"{budget_mb:g}",
            advice=advice,
        )
    return max(end for end in ends if least <= end <= budget)


class PartialWeights:
    """The weights of `artifact` of which a prefix is loaded, in `memory`, as long as the blob."""

    def __init__(self, artifact: Artifact, memory: memoryview) -> None:
        self._weights = artifact.manifest.weights
        if self._weights.file is None:
            raise OptionError("weights inside the code are loaded with it, whatever the budget")
        self._path = artifact.unread(self._weights.file)
        self._memory = memory
        self.bytes = 0

    def resize(self, budget_mb: float) -> int:
        """Loads what is missing, or forgets what is too much; the bytes that count now.

        Raises OptionError where the budget is too small, and ArtifactError where the file is damaged: then
        all stays as it was.
        """
        end = loaded_bytes(self._weights, budget_mb)
        with self._path.open("rb") as stream:
            if self.bytes == 0 and not self._weights.blocks:
                self._read(stream, 0, end, self._weights.sha256)
            elif self.bytes == 0:
                self._read(stream, 0, self._weights.head_bytes, self._weights.head_sha256)
            for block in self._weights.blocks:
                if self.bytes < block.offset + block.bytes <= end:
                    self._read(stream, block.offset, block.bytes, block.sha256)
        for block in self._weights.blocks:
            if block.offset + block.bytes <= end:
                self._memory[block.counter : block.counter + 4] = block.level.to_bytes(4, "little")
        self.bytes = end
        return end

    def _read(self, stream: BinaryIO, offset: int, size: int, sha256: str) -> None:
        stream.seek(offset)
        part = self._memory[offset : offset + size]
        count = stream.readinto(part)  # type: ignore[attr-defined]
        if count != size or hashlib.sha256(part).hexdigest() != sha256:
            raise ArtifactError(
                "has a damaged part",
                where=self._path,
                expected=f"the SHA-256 of bytes {offset} to {offset + size}",
                advice="compile the model again or copy the folder again",
            )
