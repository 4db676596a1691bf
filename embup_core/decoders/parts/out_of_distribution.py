"""Out-of-distribution score of a row, and what depends on it: the complement's length scale and the trend.

Complements of in-distribution rows are nearly independent: two agree only when their z nearly agree.
Out-of-distribution rows, such as those of a corpus absent from training, share what the regression misses,
over a long distance. Two signals tell them apart in part: how much of its length the regression explains, and
the distance to the nearest training row. A logistic regression on both gives a score between 0
(in-distribution) and 1 (out-of-distribution). With the score the complement's length scale rises from short
to long, and the regression moves towards a broader one, which ranks out-of-distribution rows better.

The parameters are fitted on cosines of pairs of rows held out of a fit: some in-distribution (rows left out
at random) and some out-of-distribution (whole clusters left out).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.decoders.base import require_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.decoders.parts.error_model import DecodedRows

_FIT_ROWS = 500  # of each group: all their pairs count
_STEPS = 60
_IN_DISTRIBUTION_WEIGHT = 5.0  # of an in-distribution cosine's error; an out-of-distribution one has 1
_SATURATED = np.float32(30)
"""A logistic function of more is 1 in float32, and its exponential still finite."""
_LEAST_MEAN_COSINE = 0.01
_MEAN_SCALES_SQUARED = (0.5, 1.5)
# Logistic regression of standardised signals (constant, unexplained, distance), logarithms of the short and
# the long length scale, log odds of the broad regression's share.
_START = (-1.0, 1.0, 0.5, float(np.log(1.8)), float(np.log(3.5)), 0.0)
_BOUNDS = ((-10, 10), (-10, 10), (-10, 10), (-4, 4), (-4, 4), (-5, 5))


@dataclass(frozen=True)
class HeldOutRows:
    """Rows held out of a fit, and what the fit predicts for them.

    Attributes
    ----------
    points
        z in standard units: float32, shape (n, input_dims).
    mean
        Regression: float32, shape (n, d).
    to_broad
        What leads to the broad regression: float32, shape (n, d).
    nearest
        Distance to the nearest row of the fit: float32, shape (n,).
    coordinates
        True principal coordinates: float32, shape (n, r) with r >= d.
    """

    points: NDArray[np.float32]
    mean: NDArray[np.float32]
    to_broad: NDArray[np.float32]
    nearest: NDArray[np.float32]
    coordinates: NDArray[np.float32]


@dataclass(frozen=True)
class OutOfDistribution:
    """The fitted score, and what depends on it.

    Attributes
    ----------
    weights
        Of the logistic regression: constant, unexplained share, distance to the nearest row: float64, (3,).
    length_scales
        Of the complement at score 0 and at score 1, in standard units of z: float64, shape (2,).
    broad_share
        Share of the broad regression at score 1.
    mean_scale
        Factor of the regression. Long complements add to all cosines; this removes the bias.
    """

    weights: NDArray[np.float64]
    length_scales: NDArray[np.float64]
    broad_share: float
    mean_scale: float = 1.0

    def __call__(self, mean: NDArray[np.float32], nearest: NDArray[np.float32]) -> NDArray[np.float32]:
        """Out-of-distribution score, from 0 to 1: float32, shape (n,).

        Parameters
        ----------
        mean
            Regression, before it moves towards the broad one: float32, shape (n, d).
        nearest
            Distance to the nearest training row: float32, shape (n,).
        """
        constant, unexplained, distance = self.weights.astype(np.float32)
        log_odds = constant + unexplained * (1 - np.vecdot(mean, mean)) + distance * nearest
        log_odds = np.minimum(np.maximum(log_odds, -_SATURATED), _SATURATED)
        score: NDArray[np.float32] = 1 / (1 + np.exp(-log_odds))
        return score

    def length_scale(self, score: NDArray[np.float32]) -> NDArray[np.float32]:
        """Length scale of the complement, geometric between the two: float32, shape (n,)."""
        short, long = np.log(self.length_scales).astype(np.float32)
        scale: NDArray[np.float32] = np.exp(short + (long - short) * score)
        return scale

    def bias_corrected(self, decoded: Sequence[DecodedRows]) -> Self:
        """With the mean scale that makes the mean cosine between held-out rows right.

        Approximately: a shorter regression leaves longer complements. Originals without a common direction
        have no bias to correct. Beyond the bounds the rows are too few for an estimate.

        Parameters
        ----------
        decoded
            Groups of held-out rows, decoded with mean scale 1.
        """
        of_mean, of_complement, true = (
            float(np.mean([_mean_cosine(getattr(rows, part)) for rows in decoded]))
            for part in ("mean", "complement", "coordinates")
        )
        if of_mean < _LEAST_MEAN_COSINE:
            return self
        squared = np.clip((true - of_complement) / of_mean, *_MEAN_SCALES_SQUARED)
        return replace(self, mean_scale=float(np.sqrt(squared)))

    @classmethod
    def fit(
        cls,
        in_distribution: Sequence[HeldOutRows],
        out_of_distribution: Sequence[HeldOutRows],
        *,
        complement_dims: int,
        seed: int,
    ) -> Self:
        """Fit on cosines between rows held out of the same fit.

        Parameters
        ----------
        in_distribution
            Rows left out at random, of each fit.
        out_of_distribution
            Rows of clusters left out whole, of each fit.
        complement_dims
            The chance dot products of two complements have variance 1 / complement_dims.
        seed
            Of the rows that are used.
        """
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        everything = [*in_distribution, *out_of_distribution]
        weights = [_IN_DISTRIBUTION_WEIGHT] * len(in_distribution) + [1.0] * len(out_of_distribution)
        rng = np.random.default_rng(seed)
        groups = [_Group.from_rows(rows, rng) for rows in everything]
        # One size of step suits all parameters when signals are standardised: (2,) each.
        signals = np.concatenate([group.signals for group in groups])
        centre, scale = signals.mean(axis=0), np.maximum(signals.std(axis=0), 1e-6)

        def loss(parameters: NDArray[np.float64]) -> float:
            return sum(
                weight * group.loss(parameters, centre, scale, complement_dims)
                for group, weight in zip(groups, weights, strict=True)
            )

        with threadpool_limits(1):  # several threads would add up in any order
            fitted = minimize(
                loss,
                _START,
                method="L-BFGS-B",
                bounds=_BOUNDS,
                # Steps of the numeric gradient: losses are sums in float32.
                options={"maxiter": _STEPS, "ftol": 1e-6, "eps": 1e-3},
            ).x
        slopes = fitted[1:3] / scale  # back from standardised signals
        return cls(
            weights=np.array([fitted[0] - slopes @ centre, *slopes]),
            length_scales=np.exp(fitted[3:5]),
            broad_share=float(1 / (1 + np.exp(-fitted[5]))),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``ood``, the attributes in their order, float64, shape (7,)."""
        return {"ood": np.array([*self.weights, *self.length_scales, self.broad_share, self.mean_scale])}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; ValueError where the shape or the numbers do not fit."""
        numbers = require_shape(arrays, "ood", 7).astype(np.float64)
        if not ((numbers[[3, 4, 6]] > 0).all() and 0 <= numbers[5] <= 1):
            raise ValueError(
                "tensor ood: expected length scales and a mean scale above 0 and a share from 0 to 1, found "
                f"{numbers[3:].tolist()}"
            )
        return cls(numbers[:3], numbers[3:5], broad_share=float(numbers[5]), mean_scale=float(numbers[6]))


@dataclass(frozen=True)
class _Group:
    """Some held-out rows of one fit: what a loss needs of all their pairs.

    Attributes
    ----------
    signals
        Unexplained share, distance to the nearest row: float64, shape (b, 2).
    points, cosines
        Dot products of z in standard units, and of the true coordinates: float32, shape (b, b).
    means, crossed, steps
        Dot products mu.mu', mu.t' and t.t' with t the way to the broad regression: float32, shape (b, b).
    variance
        Of the true cosines; errors are measured in its units.
    """

    signals: NDArray[np.float64]
    points: NDArray[np.float32]
    cosines: NDArray[np.float32]
    means: NDArray[np.float32]
    crossed: NDArray[np.float32]
    steps: NDArray[np.float32]
    variance: float

    @classmethod
    def from_rows(cls, rows: HeldOutRows, rng: np.random.Generator) -> Self:
        chosen = np.sort(rng.permutation(len(rows.points))[:_FIT_ROWS])
        points, mean, step = rows.points[chosen], rows.mean[chosen], rows.to_broad[chosen]
        coordinates = rows.coordinates[chosen]
        cosines = coordinates @ coordinates.T
        signals = np.stack([1 - np.vecdot(mean, mean), rows.nearest[chosen]], axis=1).astype(np.float64)
        variance = max(float(cosines[np.triu_indices(len(cosines), 1)].var()), 1e-9)
        return cls(signals, points @ points.T, cosines, mean @ mean.T, mean @ step.T, step @ step.T, variance)

    def loss(
        self,
        parameters: NDArray[np.float64],
        centre: NDArray[np.float64],
        scale: NDArray[np.float64],
        complement_dims: int,
    ) -> float:
        """Expected squared error of the decoded cosines of all pairs, over their variance.

        A decoded cosine is mu.mu' + s s' r.r', where s = sqrt(1 - |mu|^2) is the length of the complement and
        r.r' its random-feature dot product: exp(-distance^2 / 2) plus chance. The expectation over the random
        frequencies is known in closed form, so none are drawn here.

        Parameters
        ----------
        parameters
            As `_START`.
        centre, scale
            Of the two signals: float64, shape (2,) each.
        complement_dims
            Of r.
        """
        # The score, and with it the regression: as in `OutOfDistribution.__call__`.
        log_odds = parameters[0] + ((self.signals - centre) / scale) @ parameters[1:3]  # (b,)
        score = (1 / (1 + np.exp(-log_odds))).astype(np.float32)
        share = score * np.float32(1 / (1 + np.exp(-parameters[5])))  # (b,)
        crossed = self.crossed * share  # mu_i . share_j t_j
        dots = self.means + crossed + crossed.T + self.steps * (share[:, None] * share)  # (b, b)

        # Lengths of the complements, and each row's z in units of its own length scale. A pair of different
        # scales is compared in two units at once; still a kernel, as it is a dot product of features.
        length = np.sqrt(np.maximum(1 - np.diag(dots), 1e-6))  # (b,)
        rate = np.exp(-(parameters[3] + (parameters[4] - parameters[3]) * score)).astype(np.float32)  # 1 / l
        scaled = self.points * (rate[:, None] * rate)  # x.x' / (l l'): (b, b)
        half = np.diag(scaled) / 2
        kernel = np.exp(np.minimum(scaled - half[:, None] - half, 0))  # exp(-|x / l - x' / l'|^2 / 2): (b, b)

        lengths = length[:, None] * length  # s s' of each pair: (b, b)
        error = dots + lengths * kernel - self.cosines
        # m random frequencies estimate the kernel k with variance (1 - k^2)^2 / (2 m), and 2 m =
        # complement_dims (random Fourier features of a Gaussian kernel: Sutherland & Schneider, 2015). This
        # keeps the fit from preferring long complements, which would add noise to all cosines.
        chance = np.square(lengths * (1 - kernel * kernel)) / np.float32(complement_dims)
        squares = np.square(error) + chance
        np.fill_diagonal(squares, 0)  # a row's cosine with itself is always 1
        return float(squares.sum(dtype=np.float64) / (len(squares) * (len(squares) - 1)) / self.variance)


def _mean_cosine(rows: NDArray[np.float32]) -> float:
    """Mean dot product of two different rows; from the rows' sum, without the (n, n) products."""
    total = rows.sum(axis=0, dtype=np.float64)
    n = len(rows)
    return float((total @ total - np.vecdot(rows, rows).sum(dtype=np.float64)) / (n * (n - 1)))
