"""What factors of each size cost and lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Curve"]

Sizes = npt.NDArray[np.int64]
Errors = npt.NDArray[np.float64]
NEGLIGIBLE = 1e-13
"""A share of the outputs' energy that float32 weights cannot show."""


@dataclass(frozen=True)
class Curve:
    """Sizes of one family's factors for one weight.

    `sizes` are what the family needs to know of each (a rank), `nbytes` is what would be stored, `work` the
    multiply-adds for one output pixel or row, `errors` the energy that the layer's outputs lose, as a share
    of theirs. `basis` [..., greatest rank] is what a family whose sizes are ranks keeps for
    its factors.
    """

    family: str
    sizes: Sequence[tuple[int, ...]]
    nbytes: Sizes
    work: Sizes
    errors: Errors
    basis: npt.NDArray[np.float32] | None = None
    spectrum: Errors | None = None

    def __post_init__(self) -> None:
        """Errors too small to be seen are none, so that a weight of low rank is split without a budget."""
        np.copyto(self.errors, 0, where=self.errors < NEGLIGIBLE * max(1, len(self.errors)))

    def below(self, nbytes: int, work: int) -> Curve | None:
        """The sizes that cost less than `nbytes` and no more than `work`; None if there are none."""
        return self._only((self.nbytes < nbytes) & (self.work <= work))

    def up_to(self, rank: int) -> Curve | None:
        """The sizes whose first number is no more than `rank`; None if there are none."""
        return self._only(np.array([size[0] <= rank for size in self.sizes]))

    def _only(self, mask: npt.NDArray[np.bool_]) -> Curve | None:
        kept = np.flatnonzero(mask)
        if not len(kept):
            return None
        sizes = [self.sizes[int(i)] for i in kept]
        picked = (self.nbytes[kept], self.work[kept], self.errors[kept])
        most = max(size[0] for size in sizes)
        basis = None if self.basis is None else np.ascontiguousarray(self.basis[:, :most])
        return Curve(self.family, sizes, *picked, basis, self.spectrum)
