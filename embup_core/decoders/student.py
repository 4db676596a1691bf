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

from embup_core.blocks import row_blocks
from embup_core.decoders.base import Seed
from embup_core.decoders.completed_regression import MeanDims
from embup_core.decoders.neural_kriging import NeuralKrigingDecoder
from embup_core.decoders.novelty import Novelty
from embup_core.decoders.regression_by_novelty import RegressionByNovelty
from embup_core.decoders.residual_network import NetworkTraining, ResidualNetwork
from embup_core.decoders.standard_units import Reach

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_NOVELTY = 1e-4
"""Nearer to 0 or 1, the logarithm of a novelty's odds says more about rounding than about rows."""


class StudentDecoder(RegressionByNovelty):
    """Network distilled from neural kriging, residual by novelty.

    How new a row is, the teacher tells by what its regression leaves unexplained and by the distance to the
    nearest training row; the student by the first alone. Errors are foretold by the teacher's law: no row is
    left on which the student's own could be fitted. A report shows how well that does, on test rows.

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
        seed: Seed = 0,
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
        self.reach_ = teacher.line_.reach
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
        moved = self.reach_(moved)
        answers, novelty = np.empty((m, self.mean_dims), np.float32), np.empty(m, np.float32)
        for block in row_blocks(m):
            answers[block], novelty[block], _ = teacher.regression(moved[block])
        return moved, answers, novelty

    def _without_neighbours(
        self, novelty: Novelty, points: NDArray[np.float32], taught: NDArray[np.float32]
    ) -> Novelty:
        """The teacher's law with its score regressed on the share that the student leaves unexplained."""
        mean = np.concatenate([self.network_(points[block]) for block in row_blocks(len(points))])
        share = np.clip(taught.astype(np.float64), _LEAST_NOVELTY, 1 - _LEAST_NOVELTY)
        slope, constant = np.polyfit(1 - np.vecdot(mean, mean), np.log(share / (1 - share)), 1)
        if slope < 0:  # what is left unexplained told the student nothing
            constant, slope = float(np.log(share / (1 - share)).mean()), 0.0
        return Novelty(np.array([constant, slope, 0.0]), novelty.lengths, 0.0)

    def regression(
        self, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Network and novelty; see `RegressionByNovelty.regression`."""
        mean = self.network_(self.reach_(points))
        novelty = self.novelty_(mean, np.zeros(len(mean), np.float32))
        return mean, novelty, points / self.novelty_.reach(novelty)[:, None]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), **self.reach_.arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        self.reach_ = Reach.restore(arrays)
        return super().restore(arrays)
