"""A network that has learned to answer as `neural_kriging` does: no neighbours to look up, no rows to ship.

Distillation (Hinton, Vinyals & Dean, 2015): the teacher is fitted first and answers as many examples as one
likes; the student is a network fitted to its answers. Examples are training rows moved by differences of
others (see `embup_core.decoders.residual_network`), so far that they lie among the training rows as unseen
rows do: at the rows themselves the teacher answers what it has looked up.

The artifact holds neither training rows nor their coordinates, and does not grow with them. That is no proof
of secrecy: a network may know some of what it was fitted on by heart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt

from embup_core.decoders.base import Decoder, require_shape
from embup_core.decoders.completed_regression import MeanDims
from embup_core.decoders.neural_kriging import NeuralKrigingDecoder
from embup_core.decoders.novelty import Novelty
from embup_core.decoders.residual import completed
from embup_core.decoders.residual_network import NetworkTraining, ResidualNetwork
from embup_core.decoders.standard_units import Standardisation
from embup_core.decoders.uncertainty import Uncertainty
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_ROWS = 256
_LEAST_NOVELTY = 1e-4
"""Nearer to 0 or 1, the logarithm of a novelty's odds says more about rounding than about rows."""


class StudentDecoder(Decoder):
    """Network distilled from neural kriging, residual by novelty.

    How new a row is, the teacher tells by what its regression leaves unexplained and by the distance to the
    nearest training row; the student by the first alone.

    Parameters
    ----------
    teacher_epochs
        Of the teacher's fit, which is otherwise the one of `neural_kriging` as it stands.
    examples
        Moved rows that the teacher answers.
    example_moves
        How far they are moved, as a share of the difference of two rows (standard deviation).
    epochs
        Passes over the examples.
    width
        Of the network.
    blocks
        Of the network.
    batch_rows
        Examples a step.
    learning_rate
        The largest of a one-cycle schedule.
    mean_dims
        Dimensions of the regression; the other 1536 - mean_dims hold the residual. Even.
    seed
        Of everything drawn at random.
    """

    name: ClassVar[str] = "student"
    summary: ClassVar[str] = "network distilled from neural_kriging + residual by novelty"
    fitted_with: ClassVar[tuple[str, ...]] = ("pytorch", "scikitlearn")
    by_name_only: ClassVar[bool] = True

    def __init__(
        self,
        *,
        teacher_epochs: Annotated[int, Ge(2)] = 30,
        examples: Annotated[int, Ge(2)] = 120_000,
        example_moves: Annotated[float, Ge(0)] = 0.4,
        epochs: Annotated[int, Ge(1)] = 6,
        width: Annotated[int, Ge(8)] = 768,
        blocks: Annotated[int, Ge(1)] = 3,
        batch_rows: Annotated[int, Ge(2)] = 512,
        learning_rate: Annotated[float, Gt(0)] = 4e-3,
        mean_dims: MeanDims = 384,
        seed: int = 0,
    ) -> None:
        self.teacher_epochs = teacher_epochs
        self.examples = examples
        self.example_moves = example_moves
        self.epochs = epochs
        self.width = width
        self.blocks = blocks
        self.batch_rows = batch_rows
        self.learning_rate = learning_rate
        self.mean_dims = mean_dims
        self.seed = seed

    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Fit the teacher, then the student to what it answers; see `Decoder.fit`.

        Raises
        ------
        TrainingError
            Too few rows for the teacher.
        """
        teacher = NeuralKrigingDecoder(epochs=self.teacher_epochs, mean_dims=self.mean_dims, seed=self.seed)
        taught = 0

        def taught_step(done: int, total: int) -> None:
            nonlocal taught
            taught = total
            self.note_step(done, total + self.epochs, squared_error=teacher.history_["squared_error"][-1])

        teacher.on_step = taught_step
        teacher.fit(projected, coordinates)
        self.standardisation_ = teacher.standardisation_
        self.reach_ = np.array([teacher.line_.reach])
        self.frequencies_ = teacher.frequencies_
        self.uncertainty_ = teacher.uncertainty_
        points, answers, novelty = self._examples(teacher, self.standardisation_(projected))
        training = NetworkTraining(
            width=self.width,
            blocks=self.blocks,
            epochs=self.epochs,
            batch_rows=self.batch_rows,
            learning_rate=self.learning_rate,
            dropout=0.0,  # examples do not run out, so there is nothing to learn by heart
            moves=self.example_moves / 4,
            seed=self.seed,
        )
        self.network_ = ResidualNetwork.fit(
            points,
            answers,
            training,
            lambda done, loss: self.note_step(taught + done, taught + self.epochs, squared_error=loss),
        )
        self.novelty_ = self._without_neighbours(teacher.novelty_, points, novelty)
        return self

    def _examples(
        self, teacher: NeuralKrigingDecoder, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Moved rows, what the teacher answers, and how new it takes them for."""
        rng = np.random.default_rng(self.seed)
        n, m = len(points), self.examples
        row, one, other = rng.integers(0, n, (3, m))
        moved = points[one]
        moved -= points[other]
        moved *= rng.standard_normal((m, 1), np.float32) * np.float32(self.example_moves)
        moved += points[row]
        moved = self._within_reach(moved)
        answers, novelty = np.empty((m, self.mean_dims), np.float32), np.empty(m, np.float32)
        for start in range(0, m, _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            answers[block], novelty[block], _ = teacher.regression(moved[block])
        return moved, answers, novelty

    def _without_neighbours(
        self, novelty: Novelty, points: NDArray[np.float32], taught: NDArray[np.float32]
    ) -> Novelty:
        """The teacher's law with its score regressed on the share that the student leaves unexplained."""
        mean = np.concatenate(
            [
                self.network_(points[start : start + _BLOCK_ROWS])
                for start in range(0, len(points), _BLOCK_ROWS)
            ]
        )
        share = np.clip(taught.astype(np.float64), _LEAST_NOVELTY, 1 - _LEAST_NOVELTY)
        slope, constant = np.polyfit(1 - np.vecdot(mean, mean), np.log(share / (1 - share)), 1)
        return Novelty(np.array([constant, slope, 0.0]), novelty.lengths, 0.0)

    def predict_with_confidence(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode; see `Decoder.predict_with_confidence`."""
        points = self.standardisation_(projected)
        mean = self.network_(self._within_reach(points))
        novelty = self.novelty_(mean, np.zeros(len(mean), np.float32))
        rows, explained = completed(mean, points / self.novelty_.reach(novelty)[:, None], self.frequencies_)
        return rows, self.uncertainty_.confidence(explained, novelty)

    def _within_reach(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where rows beyond the farthest training row are asked: farther out is nearer to the mean."""
        reach_squared = np.square(self.reach_, dtype=np.float32)
        shrink = reach_squared / np.maximum(np.vecdot(points, points), reach_squared)
        within: NDArray[np.float32] = points * shrink[:, None]
        return within

    def cosine_standard_error(
        self,
        rows: NDArray[np.float32],
        confidence: NDArray[np.float32],
        other_rows: NDArray[np.float32],
        other_confidence: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Standard errors of decoded cosines; see `Decoder.cosine_standard_error`."""
        d = self.mean_dims
        return self.uncertainty_.cosine_standard_error(
            rows[:, d:], confidence, other_rows[:, d:], other_confidence
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {
            **self.standardisation_.arrays(),
            **self.network_.arrays(),
            **self.novelty_.arrays(),
            **self.uncertainty_.arrays(),
            "reach": self.reach_,
            "frequencies": self.frequencies_,
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        self.standardisation_ = Standardisation.restore(arrays)
        self.network_ = ResidualNetwork.restore(arrays, INPUT_DIMS, self.width, self.blocks, self.mean_dims)
        self.novelty_ = Novelty.restore(arrays)
        self.uncertainty_ = Uncertainty.restore(arrays)
        self.reach_ = require_shape(arrays, "reach", 1)
        self.frequencies_ = require_shape(
            arrays, "frequencies", INPUT_DIMS, (OUTPUT_DIMS - self.mean_dims) // 2
        )
        return self
