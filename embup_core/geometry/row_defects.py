"""Rows of z that do not belong to their row of the cosine matrix.

The recovered affine map predicts z within 2e-4 radians where the matrix is exact; a row of another original
is off by 0.2 to 0.6. Files out of step as a whole defeat the fit, because no majority is right, so they are
aligned first: cosines of rows with their near neighbours form one series in z and one in the coordinates, and
the lag of the largest cross-correlation is the shift. The series need no map, so any shift is found, and the
reversed order too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.geometry.transform import AffineTransform, recover_transform
from embup_core.sources.row_ranges import describe_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

Verdict = Literal["consistent", "wrong_rows", "reordered", "unrelated", "not_affine", "undecided"]

DETECTABLE_SHARE = 0.95
"""Where fewer random exchanges would be noticed, finding none means nothing."""
SHORT_COSINE_CORRELATION = 0.9999
"""Correlation with the cosines of z above which G holds nothing beyond z. Measured: 0.99999 for the float16
cosines of z, 0.69 to 0.79 for real matrices."""

_NEIGHBOURS = 8
_BETTER_EXPLAINED = 0.05
_RELATED_DEVIATIONS = 6.0
_PERMUTATIONS = 20
_LEAST_ROWS = 64


@dataclass(frozen=True)
class Reordering:
    """Rows of z in a systematic order other than that of the matrix.

    Attributes
    ----------
    is_reversed
        False: row i of z belongs to row i + `shift` of the matrix.
        True: row i of z belongs to row n - 1 - i + `shift` of the matrix.
    shift
        In rows.
    rows
        How many rows this order explains.
    of_rows
        Out of how many: all rows for a file as a whole, else the wrong ones.
    """

    is_reversed: bool
    shift: int
    rows: int
    of_rows: int

    def describe(self, n_rows: int) -> str:
        """One clause in plain English."""
        start = f"{n_rows - 1} - i" if self.is_reversed else "i"
        step = f" {'+' if self.shift > 0 else '-'} {abs(self.shift)}" if self.shift else ""
        return (
            f"row i of z belongs to row {start}{step} of the matrix, "
            f"in {self.rows:,} of {self.of_rows:,} {'rows' if self.of_rows == n_rows else 'wrong rows'}"
        )


@dataclass(frozen=True, eq=False)
class RowDefects:
    """What the comparison of z with the matrix found.

    Attributes
    ----------
    verdict
        consistent: every row fits. wrong_rows: `wrong_rows` do not fit. reordered: the rows are out of step
        as a whole. unrelated: the two files do not belong together. not_affine: the rows are related but no
        affine map fits, so rows cannot be judged. undecided: too few rows to notice wrong ones.
    z_rows
        For each row of the matrix, the row of z that belongs there, or -1 where none does: int64, shape (n,).
        Its own row where rows cannot be judged (not_affine, undecided). No row of z stands twice.
    reordering
        A systematic order that explains more than half of the wrong rows, if there is one.
    detectable_share
        Share of random exchanges of two rows that would be noticed.
    transform
        The map that was fitted: for reordered files, to the rows in the matrix's order.
    """

    verdict: Verdict
    z_rows: Indices
    reordering: Reordering | None
    detectable_share: float
    transform: AffineTransform

    @cached_property
    def wrong_rows(self) -> Indices:
        """Rows of z that are not in their place, 0-based and sorted: int64, shape (w,)."""
        return np.flatnonzero(self.z_rows != np.arange(len(self.z_rows)))

    @property
    def belongs(self) -> Indices:
        """For each wrong row of the matrix, the row of z that belongs there, or -1: int64, shape (w,)."""
        return self.z_rows[self.wrong_rows]

    @property
    def belongs_to(self) -> Indices:
        """For each wrong row of z, the row of the matrix that it belongs to, or -1: int64, shape (w,)."""
        destinations = np.full(len(self.z_rows), -1, dtype=np.int64)
        taken = self.z_rows >= 0
        destinations[self.z_rows[taken]] = np.flatnonzero(taken)
        return destinations[self.wrong_rows]

    @property
    def note(self) -> str | None:
        """A sentence where rows could not be judged, or not all of them."""
        if self.verdict in ("not_affine", "undecided"):
            return self.describe()
        if self.verdict in ("wrong_rows", "reordered") and self.detectable_share < DETECTABLE_SHARE:
            return (
                f"Only {self.detectable_share:.0%} of exchanged rows would be noticed: "
                "more rows than those found may be wrong."
            )
        return None

    def describe(self) -> str:
        """One sentence in plain English, for a message or a report."""
        n_rows = len(self.transform.angles)
        order = f"; {self.reordering.describe(n_rows)}" if self.reordering else ""
        match self.verdict:
            case "unrelated":
                return "The rows of the two files do not belong together: z and the matrix are unrelated."
            case "not_affine":
                return (
                    "No affine map from the originals to z fits "
                    f"(median angle {self.transform.median_angle:.2g}, R2 {self.transform.explained:.3f}); "
                    "wrong rows cannot be told from right ones."
                )
            case "undecided":
                return (
                    f"{n_rows:,} rows are too few to find wrong ones: "
                    f"only {self.detectable_share:.0%} of exchanged rows would be noticed."
                )
            case "reordered":
                return f"The rows of z are out of step{order}."
            case "wrong_rows":
                return (
                    f"{len(self.wrong_rows):,} of {n_rows:,} rows of z do not belong to their row of the "
                    f"matrix: {describe_rows(self.wrong_rows)}{order}."
                )
            case _:
                return f"All {n_rows:,} rows of z belong to their row of the matrix."


def find_row_defects(
    projected: NDArray[np.floating],
    coordinates: NDArray[np.floating],
    *,
    fit_rows: int = 4000,
    seed: int = 0,
) -> RowDefects:
    """Find the rows of z that do not belong to their row of the matrix.

    Parameters
    ----------
    projected
        z: floats, shape (n, r).
    coordinates
        The originals up to a rotation, recovered from the matrix: floats, shape (n, d).
    fit_rows
        The fit uses at most this many random rows; all rows are judged.
    seed
        Which rows the fit uses, and the random pairs.

    Raises
    ------
    ValueError
        As for `recover_transform`.
    """
    n_rows = len(projected)
    transform = recover_transform(projected, coordinates, fit_rows=fit_rows, seed=seed)
    share = _detectable_share(transform, projected, coordinates, seed)
    if transform.is_affine and transform.fits().all() and share >= DETECTABLE_SHARE:
        return RowDefects("consistent", np.arange(n_rows), None, share, transform)
    order, in_order = _alignment(projected, coordinates), projected
    if order is not None:
        in_order = projected[_z_rows(order, n_rows)]
        aligned = recover_transform(in_order, coordinates, fit_rows=fit_rows, seed=seed)
        better = aligned.explained > transform.explained + _BETTER_EXPLAINED
        if aligned.is_affine and (better or not transform.is_affine):
            transform = aligned
            share = _detectable_share(transform, in_order, coordinates, seed)
            order = replace(order, rows=int(transform.fits().sum()))
        else:
            order, in_order = None, projected
    if not transform.is_affine:
        if not _related(projected, coordinates, seed):
            return RowDefects("unrelated", np.full(n_rows, -1), None, share, transform)
        return RowDefects("not_affine", np.arange(n_rows), None, share, transform)
    z_rows = np.arange(n_rows)
    wrong = np.flatnonzero(~transform.fits())
    z_rows[wrong] = _owners(
        transform.project(coordinates[wrong]), in_order[wrong], transform.tolerances[wrong], wrong
    )
    if order is not None:
        z_rows = np.where(z_rows < 0, -1, _z_rows(order, n_rows)[z_rows])
        return RowDefects("reordered", z_rows, order, share, transform)
    if len(wrong):
        return RowDefects("wrong_rows", z_rows, _systematic(wrong, z_rows[wrong]), share, transform)
    verdict: Verdict = "consistent" if share >= DETECTABLE_SHARE else "undecided"
    return RowDefects(verdict, z_rows, None, share, transform)


def short_cosine_share(
    projected: NDArray[np.floating],
    cosines: NDArray[np.floating],
    left: NDArray[np.integer] | None = None,
    right: NDArray[np.integer] | None = None,
    *,
    pairs: int = 100_000,
    seed: int = 0,
) -> float:
    """Correlation of the matrix's cosines with those of z itself.

    Above `SHORT_COSINE_CORRELATION` the matrix holds nothing beyond z, so there is nothing to learn from it.

    Parameters
    ----------
    projected
        z: floats, shape (n, r).
    cosines
        The matrix, shape (n, n); or, with `left` and `right`, the cosines of those pairs, shape (p,).
    left, right
        Rows of each pair: integers, shape (p,). Pairs of a row with itself are ignored.
    pairs
        How many random pairs to read from a matrix.
    seed
        Which pairs.

    Returns
    -------
    The correlation, in [-1, 1]; NaN where all cosines are equal.

    Raises
    ------
    ValueError
        One of `left` and `right` is missing, or no pair of two different rows is left.
    """
    if (left is None) != (right is None):
        raise ValueError("Expected both left and right, or a matrix and neither.")
    if left is None or right is None:
        left, right = np.random.default_rng(seed).integers(0, len(projected), (2, pairs))
        different = left != right
        left, right = left[different], right[different]
        values = np.asarray(cosines[left, right], dtype=np.float64)
    else:
        different = left != right
        left, right = left[different], right[different]
        values = np.asarray(cosines[different], dtype=np.float64)
    if not len(values):
        raise ValueError("Expected pairs of two different rows, found none.")
    return _correlation(values, _pair_cosines(_units(projected), left, right))


def _units(rows: NDArray[np.floating]) -> Floats:
    wide = np.asarray(rows, dtype=np.float64)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def _row_angles(left: NDArray[np.floating], right: NDArray[np.floating]) -> Floats:
    """Radians between the rows, shape (n,)."""
    chord = np.linalg.norm(_units(left) - _units(right), axis=1)
    return np.asarray(2 * np.arcsin(np.minimum(chord / 2, 1)))


def _pair_cosines(
    rows: NDArray[np.floating], left: NDArray[np.integer], right: NDArray[np.integer]
) -> Floats:
    cosines = np.empty(len(left))
    for block in row_blocks(len(left), 4096):  # two blocks of 1536 dimensions take 50 MB
        cosines[block] = np.einsum("ij,ij->i", rows[left[block]], rows[right[block]])
    return cosines


def _correlation(left: Floats, right: Floats) -> float:
    left, right = left - left.mean(), right - right.mean()
    scale = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / scale if scale > 0 else float("nan")


def _detectable_share(
    transform: AffineTransform, projected: NDArray[np.floating], coordinates: NDArray[np.floating], seed: int
) -> float:
    """Share of random mispairings beyond the rows' tolerances."""
    fitting = np.flatnonzero(transform.fits())
    if len(fitting) < 2:
        return 0.0
    rng = np.random.default_rng(seed)
    rows = rng.choice(fitting, min(len(fitting), 2000), replace=False)
    others = np.roll(rng.permutation(rows), 1)
    different = rows != others
    rows, others = rows[different], others[different]
    angles = _row_angles(transform.project(coordinates[rows]), projected[others])
    return float(np.mean(angles > transform.tolerances[rows])) if len(rows) else 0.0


def _z_rows(order: Reordering, n_rows: int) -> Indices:
    """For each row of the matrix, the row of z that belongs there, around the end: int64, shape (n,)."""
    rows = (np.arange(n_rows) - order.shift) % n_rows
    return n_rows - 1 - rows if order.is_reversed else rows


def _alignment(projected: NDArray[np.floating], coordinates: NDArray[np.floating]) -> Reordering | None:
    """The order in which the similarities of neighbouring rows agree best, unless it is the present one."""
    n_rows = len(projected)
    if n_rows < _LEAST_ROWS:
        return None
    z = _units(projected)
    # Padded with zeros to twice the length, so that no end meets another: (2, 2 n)
    correlation = np.zeros((2, 2 * n_rows))
    for step in range(1, _NEIGHBOURS + 1):
        spectrum = np.fft.rfft(_neighbour_series(coordinates, step), 2 * n_rows)
        for is_reversed, rows in enumerate((z, z[::-1])):
            other = np.conj(np.fft.rfft(_neighbour_series(rows, step), 2 * n_rows))
            correlation[is_reversed] += np.fft.irfft(spectrum * other, 2 * n_rows)
    is_reversed, lag = divmod(int(np.argmax(correlation)), 2 * n_rows)
    if not is_reversed and not lag:
        return None
    shift = lag if lag < n_rows else lag - 2 * n_rows
    return Reordering(is_reversed=bool(is_reversed), shift=shift, rows=0, of_rows=n_rows)


def _neighbour_series(rows: NDArray[np.floating], step: int) -> Floats:
    """Standardised cosines of rows `step` apart: shape (n - step,)."""
    series: Floats = np.einsum("ij,ij->i", rows[:-step], rows[step:]).astype(np.float64)
    scale = float(series.std())
    return np.asarray((series - series.mean()) / (scale if scale > 0 else 1.0))


def _related(projected: NDArray[np.floating], coordinates: NDArray[np.floating], seed: int) -> bool:
    """Whether rows that are alike in z are alike in the matrix (Mantel's permutation test)."""
    n_rows = len(projected)
    if n_rows < 3:
        return True
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, n_rows, (2, 50_000))
    different = left != right
    left, right = left[different], right[different]
    cosines = _pair_cosines(coordinates, left, right)
    z = _units(projected)
    actual = _correlation(cosines, _pair_cosines(z, left, right))
    chance = []
    for _ in range(_PERMUTATIONS):
        order = rng.permutation(n_rows)
        chance.append(_correlation(cosines, _pair_cosines(z, order[left], order[right])))
    return bool(actual > np.mean(chance) + _RELATED_DEVIATIONS * np.std(chance))


def _owners(predicted: Floats, misplaced: NDArray[np.floating], tolerances: Floats, rows: Indices) -> Indices:
    """For each wrong row of the matrix, one of the misplaced rows of z within its tolerance, or -1.

    Each row of z has one owner: of several rows of the matrix that are nearest to it, the nearest. The others
    choose again among what is left, so that equal rows of z find places, too.

    Parameters
    ----------
    predicted
        Rows that belong to the wrong rows of the matrix: shape (w, r).
    misplaced
        Rows of z that are there: shape (w, r).
    tolerances
        Of the angles: shape (w,).
    rows
        Their row numbers: shape (w,).
    """
    z = _units(misplaced)
    owners = np.full(len(rows), -1, dtype=np.int64)
    free = np.ones(len(rows), dtype=bool)
    seeking = np.arange(len(rows))
    while len(seeking) and free.any():
        nearest, angles = np.empty(len(seeking), np.int64), np.empty(len(seeking))
        for block in row_blocks(len(seeking)):
            some = predicted[seeking[block]]
            similar = np.where(free, some @ z.T, -np.inf)  # (block, w)
            similar[np.arange(len(some)), seeking[block]] = -np.inf  # its present row is known to be wrong
            nearest[block] = np.argmax(similar, axis=1)
            angles[block] = _row_angles(some, z[nearest[block]])
        within = angles <= tolerances[seeking]
        seeking, nearest, angles = seeking[within], nearest[within], angles[within]
        _, first = np.unique(nearest[np.argsort(angles, kind="stable")], return_index=True)
        chosen = np.argsort(angles, kind="stable")[first]
        owners[seeking[chosen]] = rows[nearest[chosen]]
        free[nearest[chosen]] = False
        seeking = np.delete(seeking, chosen)
    return owners


def _systematic(wrong: Indices, belongs: Indices) -> Reordering | None:
    """The one shift of more than half of the wrong rows, if any."""
    known = belongs >= 0
    shifts, counts = np.unique((wrong - belongs)[known], return_counts=True)
    if len(wrong) < 3 or not len(shifts) or 2 * counts.max() <= len(wrong):
        return None
    most = int(np.argmax(counts))
    return Reordering(is_reversed=False, shift=int(shifts[most]), rows=int(counts[most]), of_rows=len(wrong))
