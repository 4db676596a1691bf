"""Two decoders on the same rows: how much better one is, and how far that would move with other rows.

Both err on the same pairs, so the difference of their errors moves far less from draw to draw than either.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from embup_core.evaluation.bootstrap import REPLICATES, RowDraws

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


@dataclass(frozen=True)
class PairedDifference:
    """One figure of both decoders.

    Attributes
    ----------
    old, new
        The figure.
    standard_error
        Of new - old, over other draws of the rows.
    rows
        Rows that it was measured on.
    """

    old: float
    new: float
    standard_error: float
    rows: int

    @property
    def difference(self) -> float:
        """new - old."""
        return self.new - self.old

    def lower(self, level: float) -> float:
        """What new - old exceeds with this one-sided confidence, 0.5 to 1."""
        return self.difference - NormalDist().inv_cdf(level) * self.standard_error

    def upper(self, level: float) -> float:
        """What new - old falls short of with this one-sided confidence, 0.5 to 1."""
        return self.difference + NormalDist().inv_cdf(level) * self.standard_error


def paired_r2(
    old: NDArray[np.float32],
    new: NDArray[np.float32],
    true: NDArray[np.float32],
    parts: Mapping[str, NDArray[np.bool_]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> tuple[PairedDifference, dict[str, PairedDifference]]:
    """R2 of cosines between all rows, and of those of each part's rows with all rows.

    Within a part the cosines vary little, and an R2 of its own would say little. So its mean square error,
    too, is divided by the variance of all cosines.

    Parameters
    ----------
    old, new
        Cosines between the same n rows, as each decoder decodes them: float32, shape (n, n).
    true
        True cosines: float32, shape (n, n). Diagonals are not looked at.
    parts
        Which rows belong to it, by the part's name: bool, shape (n,), at least one row each.
    replicates, seed
        How often to resample rows, and which.

    Returns
    -------
    Of all rows, and of each part.
    """
    n = len(true)
    draws = RowDraws.of(n, replicates=replicates, seed=seed)
    variance = draws.variance(true)
    off_diagonal = ~np.eye(n, dtype=bool)
    old_error = np.square(old - true) * off_diagonal
    improvement = old_error - np.square(new - true) * off_diagonal  # (n, n)

    def measured(part: NDArray[np.bool_] | None) -> PairedDifference:
        moved = draws.pair_means(improvement, part) / variance
        of_old = old_error if part is None else old_error[part]
        chosen = n if part is None else int(part.sum())
        old_r2 = 1 - float(of_old.sum(dtype=np.float64)) / (chosen * (n - 1) * float(variance[0]))
        return PairedDifference(
            old=old_r2,
            new=old_r2 + float(moved[0]),
            standard_error=float(np.nanstd(moved[1:], ddof=1)),
            rows=chosen,
        )

    return measured(None), {name: measured(part) for name, part in parts.items()}


def paired_mean(old: NDArray[np.floating], new: NDArray[np.floating]) -> PairedDifference:
    """Mean of a figure that each row has by itself: shape (n,) each, n >= 2."""
    moved = np.asarray(new, np.float64) - old
    return PairedDifference(
        float(np.mean(old)), float(np.mean(new)), float(moved.std(ddof=1) / len(moved) ** 0.5), len(moved)
    )
