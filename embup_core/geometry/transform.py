"""The hidden affine map from the originals' coordinates to z, recovered from pairs of rows.

Each projected row is z_i = (x_i A + b) / |x_i A + b|, and the recovered coordinates are c_i = x_i R for some
rotation R. So [c_i, 1] P = s_i z_i for one matrix P and unknown lengths s_i. Given P, the best s are
projections; given s, the best P is least squares. Both together: s is the top eigenvector of the operator
v -> rowwise_dot(Z, H (v * Z)), where H is the hat matrix of [C, 1]. Lanczos finds it in about 40 products.

Two additions make it robust. A ridge penalty, chosen by leave-one-out error, replaces the choice of a number
of dimensions: with fewer rows than dimensions, or with a rounded matrix, its errors are smaller than those of
truncated coordinates. And rows that do not belong to the map are trimmed: least trimmed squares (Rousseeuw,
1984) starts from the half of the rows that fits best, then each row with an ordinary leave-one-out error
returns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.blocks import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Mask = NDArray[np.bool_]

ERROR_MEDIANS = 3.0
"""A row is wrong where its standardised error exceeds this many medians. Measured: right rows reach 2.3."""
ANGLE_FLOOR = 3e-3
"""Radians. A smaller angle is never wrong: float16 rounding of z alone makes up to 1.5e-3."""
EXACT_ANGLE = 1e-3
"""Radians. At a smaller median angle, curvature is without consequence."""
MOST_CURVATURE = 0.05
"""Largest share of curved errors of an affine map. Measured: 0.01 for noise, 0.09 and more for tanh."""
LEAST_EXPLAINED = 0.5
"""Smallest R2 of an affine map. Measured: 0.7 with 400 rows, 0.99 with 4,000, below 0.4 for shifted rows."""

_TINY_PENALTY = 1e-8
_START_PENALTY = 0.02
_PENALTIES = (1e-2, 1e-3, 1e-4, _TINY_PENALTY)
_ROUNDS = 6
_JUDGED_BLOCK_ROWS = 1024
_SPARE_ROWS = 1.1


@dataclass(frozen=True, eq=False)
class AffineTransform:
    """A fitted map z = normalise(c A + b), and how each row agrees with it.

    Attributes
    ----------
    matrix
        A: float64, shape (d, r), for coordinates of d dimensions and z of r.
    offset
        b: float64, shape (r,). A and b have one common, arbitrary positive scale.
    angles
        Radians between each row of z and its prediction: float64, shape (n,). Leave-one-out for rows of the
        fit, held out for all others.
    tolerances
        Largest angle of a row that belongs: float64, shape (n,). It grows with the row's leverage.
    median_angle, p99_angle
        Of the rows that belong.
    explained
        R2 of z, leave-one-out, over the rows of the fit.
    curvature
        Share of the errors that squares and cubes of the prediction explain (adjusted R2): about 0 for an
        affine map with noise.
    penalty
        The ridge penalty, chosen by leave-one-out error; tiny where the map is exact.
    rows_used
        Rows of the fit that were not trimmed.
    is_affine
        Whether an affine map fits: at least half of the rows kept, `explained` at least 0.5, and either a
        median angle of at most 1e-3 or a `curvature` of at most 0.05.
    """

    matrix: Floats
    offset: Floats
    angles: Floats
    tolerances: Floats
    median_angle: float
    p99_angle: float
    explained: float
    curvature: float
    penalty: float
    rows_used: int
    is_affine: bool

    def project(self, coordinates: NDArray[np.floating]) -> Floats:
        """Apply the map.

        Parameters
        ----------
        coordinates
            Shape (m, d), in the basis of the fit.

        Returns
        -------
        float64, shape (m, r), unit rows.
        """
        projected = np.empty((len(coordinates), len(self.offset)))
        for block in row_blocks(len(coordinates), _JUDGED_BLOCK_ROWS):
            projected[block] = coordinates[block].astype(np.float64) @ self.matrix + self.offset
        return _unit_rows(projected)

    def to_json(self) -> dict[str, float | int | bool]:
        """How well the map fits, without its arrays."""
        return {
            "affine": self.is_affine,
            "median_angle": self.median_angle,
            "p99_angle": self.p99_angle,
            "explained": self.explained,
            "curvature": self.curvature,
            "penalty": self.penalty,
            "rows_used": self.rows_used,
        }

    def fits(self) -> Mask:
        """Rows whose angle is within their tolerance: bool, shape (n,)."""
        return self.angles <= self.tolerances


def recover_transform(
    projected: NDArray[np.floating],
    coordinates: NDArray[np.floating],
    *,
    fit_rows: int = 4000,
    seed: int = 0,
) -> AffineTransform:
    """Fit the affine map between coordinates and z, and measure every row against it.

    Parameters
    ----------
    projected
        z: floats, shape (n, r). Rows are made unit length.
    coordinates
        The originals up to a rotation: floats, shape (n, d).
    fit_rows
        The fit uses at most this many random rows; all rows are measured.
    seed
        Which rows the fit uses.

    Raises
    ------
    ValueError
        The arrays do not have the same number of rows, are empty, or hold values that are not finite.
    """
    if (
        projected.ndim != 2
        or coordinates.ndim != 2
        or len(projected) != len(coordinates)
        or not len(projected)
    ):
        raise ValueError(
            "Expected two 2-d arrays with the same number of rows, "
            f"found shapes {projected.shape} and {coordinates.shape}."
        )
    z = _unit_rows(projected.astype(np.float64))
    # By blocks: coordinates may be a mapped file that is larger than the memory.
    finite = (np.isfinite(coordinates[block]).all() for block in row_blocks(len(z), _JUDGED_BLOCK_ROWS))
    if not (np.isfinite(z).all() and all(finite)):
        raise ValueError("Expected finite values and no zero row of z, found NaN or infinity.")
    n_rows = len(z)
    sample = np.sort(np.random.default_rng(seed).permutation(n_rows)[:fit_rows])
    # The column of ones carries the offset b.
    design = np.concatenate([coordinates[sample].astype(np.float64), np.ones((len(sample), 1))], axis=1)
    fit = _robust_fit(design, z[sample])
    kept = fit.kept
    error_scale = float(np.median(fit.errors[kept]))
    angles, tolerances = np.empty(n_rows), np.empty(n_rows)
    angles[sample] = fit.angles
    tolerances[sample] = fit.spread * error_scale
    others = np.ones(n_rows, dtype=bool)
    others[sample] = False
    for block in row_blocks(n_rows, _JUDGED_BLOCK_ROWS):
        rows = np.flatnonzero(others[block]) + block.start
        if len(rows):
            new = np.concatenate([coordinates[rows].astype(np.float64), np.ones((len(rows), 1))], axis=1)
            angles[rows], spread = fit.judge(new, z[rows])
            tolerances[rows] = spread * error_scale
    tolerances = np.maximum(ERROR_MEDIANS * tolerances, ANGLE_FLOOR)
    belonging = angles[angles <= tolerances] if (angles <= tolerances).any() else angles
    median_angle = float(np.median(belonging))
    curvature = _curvature(fit.predicted[kept], z[sample][kept])
    smooth = median_angle <= EXACT_ANGLE or curvature <= MOST_CURVATURE
    return AffineTransform(
        matrix=fit.parameters[:-1],
        offset=fit.parameters[-1],
        angles=angles,
        tolerances=tolerances,
        median_angle=median_angle,
        p99_angle=float(np.quantile(belonging, 0.99)),
        explained=fit.explained,
        curvature=curvature,
        penalty=fit.penalty,
        rows_used=int(kept.sum()),
        is_affine=bool(fit.found and smooth and 2 * kept.sum() >= len(sample) and fit.explains()),
    )


@dataclass(eq=False)
class _Fit:
    """One ridge fit of P, and the leave-one-out errors of all rows of its design."""

    penalty: float
    kept: Mask  # (m,): the rows it was fitted on
    parameters: Floats  # P, (d + 1, r)
    cholesky: Floats  # lower factor of X^T X + penalty, (d + 1, d + 1)
    predicted: Floats  # (m, r), unit rows, leave-one-out where kept
    angles: Floats  # (m,)
    errors: Floats  # (m,): errors in units of what the leverage lets expect
    spread: Floats  # (m,): angle = error * spread
    lengths: Floats  # (m,): |c A + b|
    explained: float  # R2 over the kept rows
    found: bool = True

    def explains(self) -> bool:
        """Whether this could be the map at all."""
        return self.explained >= LEAST_EXPLAINED

    def kept_angle(self) -> float:
        """Median leave-one-out angle of the kept rows."""
        return float(np.median(self.angles[self.kept]))

    def judge(self, design: Floats, z: Floats) -> tuple[Floats, Floats]:
        """Angles of rows outside the fit, and their spread."""
        predicted = design @ self.parameters
        lengths = np.linalg.norm(predicted, axis=1)
        return _angles(predicted / lengths[:, None], z), np.sqrt(
            1 + _leverage(self.cholesky, design)
        ) / lengths

    def ordinary(self) -> Mask:
        """Rows that belong to the fitted map."""
        scale = ERROR_MEDIANS * np.median(self.errors[self.kept])
        return np.asarray((self.errors <= scale) | (self.angles <= ANGLE_FLOOR))


def _robust_fit(design: Floats, z: Floats) -> _Fit:
    """Fit, without the rows that do not belong."""
    n_rows, n_columns = design.shape
    if n_rows >= _SPARE_ROWS * n_columns:  # the usual case, clean and of full rank, takes this one fit
        fit = _ridge_fit(design, z, np.ones(n_rows, dtype=bool), _TINY_PENALTY)
        if fit.ordinary().all() and np.median(fit.angles) <= ANGLE_FLOOR:
            return fit
    fit = _best_half(design, z)
    fit.found = fit.explains()
    return _sharpened(design, z, fit) if fit.found else fit


def _best_half(design: Floats, z: Floats) -> _Fit:
    """Least trimmed squares, by concentration steps from a fit on all rows.

    Lengths vary by a tenth only, so unit lengths serve here. The eigenvector is not robust: a few wrong rows
    attract it.
    """
    kept = np.ones(len(z), dtype=bool)
    fit = _ridge_fit(design, z, kept, _START_PENALTY, equal_lengths=True)
    for _ in range(_ROUNDS):
        best = fit.errors <= np.quantile(fit.errors, 0.5)
        if (best == kept).all():
            break
        kept = best
        fit = _ridge_fit(design, z, kept, _START_PENALTY, equal_lengths=True)
    return fit


def _sharpened(design: Floats, z: Floats, rough: _Fit) -> _Fit:
    """The fit of least leave-one-out error over falling penalties, trimmed at each.

    Smaller penalties tell right from wrong more sharply, but only with the wrong rows gone.
    """
    best: _Fit | None = None
    kept, fit = rough.ordinary(), rough
    # With rows to spare the exact map, if there is one, needs no steps in between.
    direct = kept.sum() >= _SPARE_ROWS * design.shape[1]
    for penalty in (_PENALTIES[0], _TINY_PENALTY, *_PENALTIES[1:-1]) if direct else _PENALTIES:
        for _ in range(_ROUNDS):
            fit = _ridge_fit(design, z, kept, penalty, start=fit.lengths)
            ordinary = fit.ordinary()
            if (ordinary == kept).all() or not fit.explains() or 2 * ordinary.sum() < len(z):
                break
            kept = ordinary
        if not fit.explains():
            break
        if best is not None and fit.kept_angle() >= best.kept_angle():
            if direct and penalty == _TINY_PENALTY:
                kept = best.kept
                continue
            break
        best = fit
        if penalty == _TINY_PENALTY and fit.kept_angle() <= ANGLE_FLOOR:
            break
    if best is None:
        rough.found = False
        return rough
    return best


def _ridge_fit(
    design: Floats,
    z: Floats,
    kept: Mask,
    penalty: float,
    *,
    start: Floats | None = None,
    equal_lengths: bool = False,
) -> _Fit:
    """Lengths and P from the kept rows; errors of all rows, leave-one-out for the kept ones."""
    from scipy.linalg import cholesky, solve_triangular

    x_kept, z_kept = design[kept], z[kept]  # (k, d + 1), (k, r)
    gram = x_kept.T @ x_kept
    gram[np.diag_indices(len(gram))] += penalty
    lower = cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
    # H = Q Q^T, and the diagonal of H is the leverage.
    q = solve_triangular(lower, x_kept.T, lower=True, check_finite=False).T  # (k, d + 1)
    if equal_lengths:
        lengths = np.ones(len(z_kept))
    else:
        lengths = _lengths(q, z_kept, np.ones(len(z_kept)) if start is None else start[kept])
    target = lengths[:, None] * z_kept  # (k, r)
    parameters = solve_triangular(lower, q.T @ target, lower=True, trans=1, check_finite=False)
    hat = np.einsum("ij,ij->i", q, q)  # (k,)
    left = 1 - hat
    predicted = design @ parameters  # (m, r)
    predicted[kept] = (predicted[kept] - hat[:, None] * target) / left[:, None]
    leverage = np.empty(len(design))
    leverage[kept] = hat / left  # of the row under the fit without it
    if not kept.all():
        leverage[~kept] = _leverage(lower, design[~kept])
    norms = np.linalg.norm(predicted, axis=1)
    predicted /= norms[:, None]
    angles = _angles(predicted, z)
    spread = np.sqrt(1 + leverage) / norms
    explained = _explained(predicted[kept], z_kept)
    return _Fit(
        penalty, kept, parameters, lower, predicted, angles, angles / spread, spread, norms, explained
    )


def _lengths(q: Floats, z: Floats, start: Floats) -> Floats:
    """s: the top eigenvector of v -> rowwise_dot(Z, Q Q^T (v * Z)), of mean square 1."""
    from scipy.sparse.linalg import LinearOperator, eigsh

    def product(v: Floats) -> Floats:
        scaled = v.reshape(-1, 1) * z  # (k,) or (k, 1) -> (k, r)
        return np.asarray(np.einsum("ij,ij->i", z, q @ (q.T @ scaled)))

    operator = LinearOperator((len(z), len(z)), matvec=product, dtype=np.float64)
    _, vectors = eigsh(operator, k=1, which="LA", v0=start, tol=1e-6)
    lengths = vectors[:, 0] * np.sqrt(len(z))
    return np.asarray(lengths * np.sign(lengths.sum()))


def _leverage(lower: Floats, design: Floats) -> Floats:
    """x^T (X^T X + penalty)^-1 x of rows outside the fit: shape (m,)."""
    from scipy.linalg import solve_triangular

    leverage = np.empty(len(design))
    for block in row_blocks(len(design), _JUDGED_BLOCK_ROWS):
        half = solve_triangular(lower, design[block].T, lower=True, check_finite=False)
        leverage[block] = np.einsum("ij,ij->j", half, half)
    return leverage


def _unit_rows(rows: Floats) -> Floats:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = np.divide(rows, norms, out=np.full_like(rows, np.nan), where=norms > 0)
    return unit


def _angles(left: Floats, right: Floats) -> Floats:
    """Radians between unit rows. From the chord: an arc cosine has no digits left below 1e-8."""
    chord = np.linalg.norm(left - right, axis=1)
    return np.asarray(2 * np.arcsin(np.minimum(chord / 2, 1)))


def _explained(predicted: Floats, z: Floats) -> float:
    """R2 of unit rows."""
    return float(1 - np.sum((predicted - z) ** 2) / np.sum((z - z.mean(axis=0)) ** 2))


def _curvature(predicted: Floats, z: Floats) -> float:
    """Adjusted R2 of squares and cubes of the prediction in what its linear terms leave of the errors."""
    scale = predicted.std(axis=0)
    features = (predicted - predicted.mean(axis=0)) / np.where(scale > 0, scale, 1)
    linear = np.concatenate([np.ones((len(z), 1)), features], axis=1)
    curved = np.concatenate([linear, features**2, features**3], axis=1)
    if len(z) <= 2 * curved.shape[1]:
        return 0.0  # too few rows to tell

    def variance(design: Floats) -> float:
        rest = z - predicted
        rest = rest - design @ np.linalg.lstsq(design, rest, rcond=None)[0]
        squares = float(np.sum(rest**2))
        return squares / float(len(z) - design.shape[1])

    total = variance(linear)
    return 1 - variance(curved) / total if total > 0 else 0.0
