"""How new a row is, and what follows from it: how far its residual reaches, and which trend to trust.

Rows like the training rows have residuals of their own: two of them point the same way only when z nearly
agrees. Rows of a corpus that training has never seen share what the regression misses, over a long distance.
Which of the two a row is can be told in part from how much of its length the regression explains and from
how far the nearest training row is. So a number between 0 (like the training rows) and 1 (new) is made of
these two, and with it the residual's reach goes from short to long and the trend from the network to the
line, which ranks unknown rows better.

The numbers behind it are fitted by gradient on cosines of pairs of rows that a network fitted for the purpose
has not seen: some left out at random, and some because their whole cluster was left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.decoders.base import require_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import NDArray

    from embup_core.decoders.uncertainty import DecodedRows

_STEPS = 150
_STEP_ROWS = 256
_KNOWN_COUNTS = 2.0  # how much more a cosine of rows like the training rows counts than one of new rows
_SATURATED = np.float32(30)
"""A logistic function of more is 1 in float32, and its exponential still finite."""
_LEAST_MEAN_COSINE = 0.01
_LEVELS_SQUARED = (0.5, 1.5)
_START = (-1.0, 1.0, 0.5, float(np.log(1.8)), float(np.log(3.5)), 0.0)


@dataclass(frozen=True)
class UnseenRows:
    """Rows that were left out of a fit, and what the fit says about them.

    Attributes
    ----------
    points
        z in standard units: float32, shape (n, 32).
    mean
        Regression: float32, shape (n, d).
    to_line
        What moves the regression's trend from the network to the line: float32, shape (n, d).
    nearest
        Distance to the nearest row of the fit: float32, shape (n,).
    coordinates
        True principal coordinates: float32, shape (n, r) with r >= d.
    """

    points: NDArray[np.float32]
    mean: NDArray[np.float32]
    to_line: NDArray[np.float32]
    nearest: NDArray[np.float32]
    coordinates: NDArray[np.float32]


@dataclass(frozen=True)
class Novelty:
    """What was fitted.

    Attributes
    ----------
    weights
        Of the logistic function: constant, unexplained share, distance to the nearest row: float64, (3,).
    lengths
        Reach of the residual of known and of new rows, in standard units of z: float64, shape (2,).
    line
        Share of the line in the trend of new rows.
    level
        Factor of the regression: what long residuals add to all cosines is taken from it again.
    """

    weights: NDArray[np.float64]
    lengths: NDArray[np.float64]
    line: float
    level: float = 1.0

    def __call__(self, mean: NDArray[np.float32], nearest: NDArray[np.float32]) -> NDArray[np.float32]:
        """How new rows are, from 0 to 1: float32, shape (n,).

        Parameters
        ----------
        mean
            Regression with the network as trend: float32, shape (n, d).
        nearest
            Distance to the nearest training row: float32, shape (n,).
        """
        constant, unexplained, distance = self.weights.astype(np.float32)
        score = constant + unexplained * (1 - np.vecdot(mean, mean)) + distance * nearest
        score = np.minimum(np.maximum(score, -_SATURATED), _SATURATED)
        novelty: NDArray[np.float32] = 1 / (1 + np.exp(-score))
        return novelty

    def reach(self, novelty: NDArray[np.float32]) -> NDArray[np.float32]:
        """Length scale of the residual, in standard units of z: float32, shape (n,)."""
        short, long = np.log(self.lengths).astype(np.float32)
        reach: NDArray[np.float32] = np.exp(short + (long - short) * novelty)
        return reach

    def levelled(self, decoded: Sequence[DecodedRows]) -> Self:
        """One whose cosines between unseen rows are nearly right on average.

        Nearly, because a shorter regression leaves longer residuals. Where originals have no mean direction
        there is nothing to level; and a level beyond bounds would say that the rows are too few to tell.

        Parameters
        ----------
        decoded
            Groups of unseen rows, as decoded at level 1.
        """
        of_mean, of_residual, true = (
            float(np.mean([_mean_cosine(getattr(rows, part)) for rows in decoded]))
            for part in ("mean", "residual", "coordinates")
        )
        if of_mean < _LEAST_MEAN_COSINE:
            return self
        return replace(self, level=float(np.sqrt(np.clip((true - of_residual) / of_mean, *_LEVELS_SQUARED))))

    @classmethod
    def fit(
        cls, known: Sequence[UnseenRows], new: Sequence[UnseenRows], *, residual_dims: int, seed: int
    ) -> Self:
        """Fit on cosines between unseen rows of one fit.

        Parameters
        ----------
        known
            Rows left out at random, of each fit.
        new
            Rows whose whole cluster was left out, of each fit.
        residual_dims
            Dimensions of the residual: the chance dot products of two residuals have variance
            1 / residual_dims.
        seed
            Of the rows that a step sees.
        """
        import torch

        everything = [*known, *new]
        counts = [_KNOWN_COUNTS] * len(known) + [1.0] * len(new)
        groups = [_Group.of(rows) for rows in everything]
        unexplained = np.concatenate([1 - np.vecdot(rows.mean, rows.mean) for rows in everything])
        nearest = np.concatenate([rows.nearest for rows in everything])
        centre = np.array([unexplained.mean(), nearest.mean()])
        scale = np.maximum([unexplained.std(), nearest.std()], 1e-6)
        units = torch.from_numpy(centre.astype(np.float32)), torch.from_numpy(scale.astype(np.float32))
        numbers = torch.nn.Parameter(torch.tensor(_START))
        optimiser = torch.optim.Adam([numbers], lr=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(_STEPS):
            losses = [
                count * group.loss(numbers, units, residual_dims, generator)
                for group, count in zip(groups, counts, strict=True)
            ]
            optimiser.zero_grad()
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        fitted = numbers.detach().numpy().astype(np.float64)
        slopes = fitted[1:3] / scale
        return cls(
            weights=np.array([fitted[0] - slopes @ centre, *slopes]),
            lengths=np.exp(fitted[3:5]),
            line=float(1 / (1 + np.exp(-fitted[5]))),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was fitted, as ``novelty``: float64, shape (7,)."""
        return {"novelty": np.array([*self.weights, *self.lengths, self.line, self.level])}

    @classmethod
    def restore(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` gave; ValueError where its shape or its numbers do not fit."""
        numbers = require_shape(arrays, "novelty", 7).astype(np.float64)
        if not ((numbers[[3, 4, 6]] > 0).all() and 0 <= numbers[5] <= 1):
            raise ValueError(
                "tensor novelty: expected lengths and a level above 0 and a share from 0 to 1, found "
                f"{numbers[3:].tolist()}"
            )
        return cls(numbers[:3], numbers[3:5], line=float(numbers[5]), level=float(numbers[6]))


@dataclass(frozen=True)
class _Group:
    """Unseen rows as tensors, and the variance of their cosines, in which errors are measured."""

    points: torch.Tensor
    mean: torch.Tensor
    to_line: torch.Tensor
    nearest: torch.Tensor
    coordinates: torch.Tensor
    variance: float

    @classmethod
    def of(cls, rows: UnseenRows) -> Self:
        import torch

        sample = rows.coordinates[:: max(1, len(rows.coordinates) // 1000)]
        cosines = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
        names = ("points", "mean", "to_line", "nearest", "coordinates")
        tensors = {name: torch.from_numpy(np.ascontiguousarray(getattr(rows, name))) for name in names}
        return cls(**tensors, variance=max(float(cosines.var()), 1e-9))

    def loss(
        self,
        numbers: torch.Tensor,
        units: tuple[torch.Tensor, torch.Tensor],
        residual_dims: int,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Mean square error of cosines between some of the rows, chance dot products included."""
        import torch

        rows = torch.randperm(len(self.points), generator=generator)[:_STEP_ROWS]
        mean, coordinates = self.mean[rows], self.coordinates[rows]
        clues = torch.stack([1 - mean.square().sum(dim=1), self.nearest[rows]], dim=1)
        score = numbers[0] + ((clues - units[0]) / units[1]) @ numbers[1:3]
        novelty = torch.sigmoid(score)
        mean = mean + (torch.sigmoid(numbers[5]) * novelty)[:, None] * self.to_line[rows]
        unexplained = (1 - mean.square().sum(dim=1)).clamp(min=1e-6).sqrt()
        warped = self.points[rows] / torch.exp(numbers[3] + (numbers[4] - numbers[3]) * novelty)[:, None]
        squared = warped.square().sum(dim=1)
        distance = (squared[:, None] + squared - 2 * warped @ warped.T).clamp(min=0)
        alike = torch.exp(-distance / 2)
        residuals = unexplained[:, None] * unexplained
        off_diagonal = ~torch.eye(len(rows), dtype=torch.bool)
        error = (mean @ mean.T + residuals * alike - coordinates @ coordinates.T)[off_diagonal]
        chance = ((residuals * (1 - alike.square())).square() / residual_dims)[off_diagonal]
        return (error.square() + chance).mean() / self.variance


def _mean_cosine(rows: NDArray[np.float32]) -> float:
    """Mean dot product of two different rows."""
    total = rows.sum(axis=0, dtype=np.float64)
    n = len(rows)
    return float((total @ total - np.vecdot(rows, rows).sum(dtype=np.float64)) / (n * (n - 1)))
