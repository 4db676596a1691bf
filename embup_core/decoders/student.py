"""A network distilled from `neural_kriging`: no neighbour search, and no training rows in the artifact.

Distillation (Hinton, Vinyals & Dean, 2015): the teacher is fitted first and decodes examples, without limit
in number; the student is a network fitted to its outputs. Examples are training rows shifted along
differences of others (difference augmentation, see `embup_core.decoders.neural_kriging.network`), far enough
to lie among the training rows as unseen rows do: at the rows themselves the teacher reproduces what it has
stored.

The artifact holds neither training rows nor their coordinates, and does not grow with them. That is no proof
of secrecy: a network may memorise some of its training data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from annotated_types import Ge, Gt

from embup_core.blocks import row_blocks
from embup_core.decoders.base import Seed
from embup_core.decoders.neural_kriging.network import NetworkTraining, ResidualNetwork
from embup_core.decoders.neural_kriging.neural_kriging import NeuralKriging
from embup_core.decoders.parts.calibrated_regression import CalibratedRegression
from embup_core.decoders.parts.complemented_decoder import MeanDims
from embup_core.decoders.parts.out_of_distribution import OutOfDistribution
from embup_core.decoders.parts.standard_units import RadialClamp

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST_SCORE = 1e-4
"""Nearer to 0 or 1, the log odds of a score reflect rounding, not rows."""


class Student(CalibratedRegression):
    """Network distilled from neural kriging, complement by out-of-distribution score.

    The teacher's score depends on what its regression leaves unexplained and on the distance to the nearest
    training row; the student's on the first alone. Errors are predicted by the teacher's error model: no
    held-out row is left to fit another one. The report compares it with observed errors on test rows.

    Parameters
    ----------
    teacher_epochs
        Of the teacher's fit, which otherwise has the defaults of `neural_kriging`.
    examples
        Shifted rows that the teacher decodes.
    example_augmentation_scale
        How far they are shifted, as a share of the difference of two rows (standard deviation).
    epochs
        Passes over the examples.
    width
        Of the network.
    blocks
        Of the network.
    batch_rows
        Examples a step.
    learning_rate
        The maximum of a one-cycle schedule.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    seed
        Of everything drawn at random.
    """

    name: ClassVar[str] = "student"
    summary: ClassVar[str] = "network distilled from neural_kriging + complement by out-of-distribution score"
    fitted_with: ClassVar[tuple[str, ...]] = ("pytorch", "scikitlearn")
    opt_in: ClassVar[bool] = True

    def __init__(
        self,
        *,
        teacher_epochs: Annotated[int, Ge(2)] = 30,
        examples: Annotated[int, Ge(2)] = 120_000,
        example_augmentation_scale: Annotated[float, Ge(0)] = 0.4,
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
        self.example_augmentation_scale = example_augmentation_scale
        self.epochs = epochs
        self.width = width
        self.blocks = blocks
        self.batch_rows = batch_rows
        self.learning_rate = learning_rate
        self.mean_dims = mean_dims
        self.seed = seed

    def _fit_principal(self, projected: NDArray[np.float32], principal: NDArray[np.float32]) -> None:
        """Fit the teacher, then the student to its outputs.

        Raises
        ------
        TrainingError
            Too few rows for the teacher.
        """
        teacher = NeuralKriging(epochs=self.teacher_epochs, mean_dims=self.mean_dims, seed=self.seed)
        teacher_steps = 0

        def teacher_step_done(done: int, total: int) -> None:
            nonlocal teacher_steps
            teacher_steps = total
            fit, errors = list(teacher.history_["squared_error"].items())[-1]
            self.report_progress(done, total + self.epochs, fit=f"teacher, {fit}", squared_error=errors[-1])

        teacher.on_progress = teacher_step_done
        teacher.fit(projected, principal, output_dims=self.output_dims_, basis=self._basis)
        self.standardisation_ = teacher.standardisation_
        self.radial_clamp_ = teacher.radial_clamp_
        self.frequencies_ = teacher.frequencies_
        self.error_model_ = teacher.error_model_
        points, outputs, ood_score = self._examples(teacher, self.standardisation_(projected))
        training = NetworkTraining(
            width=self.width,
            blocks=self.blocks,
            epochs=self.epochs,
            batch_rows=self.batch_rows,
            learning_rate=self.learning_rate,
            dropout=0.0,  # many distinct examples: no overfitting to prevent
            augmentation_scale=self.example_augmentation_scale / 4,
            seed=self.seed,
        )
        self.network_ = ResidualNetwork.fit(
            points,
            outputs,
            training,
            lambda done, loss: self.report_progress(
                teacher_steps + done, teacher_steps + self.epochs, fit="student", squared_error=loss
            ),
        )
        self.ood_ = self._without_neighbours(teacher.ood_, points, ood_score)

    def _examples(
        self, teacher: NeuralKriging, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Shifted rows (m, input_dims), the teacher's regression (m, mean_dims) and score (m,)."""
        rng = np.random.default_rng(self.seed)
        n, m = len(points), self.examples
        row, one, other = rng.integers(0, n, (3, m))  # (m,) each
        shifted = points[one]
        shifted -= points[other]
        shifted *= rng.standard_normal((m, 1), np.float32) * np.float32(self.example_augmentation_scale)
        shifted += points[row]
        shifted = self.radial_clamp_(shifted)
        outputs, ood_score = np.empty((m, self.mean_dims_), np.float32), np.empty(m, np.float32)
        for block in row_blocks(m):
            outputs[block], ood_score[block], _ = teacher.regression(shifted[block])
        return shifted, outputs, ood_score

    def _without_neighbours(
        self, of_teacher: OutOfDistribution, points: NDArray[np.float32], ood_score: NDArray[np.float32]
    ) -> OutOfDistribution:
        """The teacher's log odds regressed on the share that the student leaves unexplained."""
        mean = np.concatenate([self.network_(points[block]) for block in row_blocks(len(points))])
        share = np.clip(ood_score.astype(np.float64), _LEAST_SCORE, 1 - _LEAST_SCORE)
        log_odds = np.log(share / (1 - share))
        slope, constant = np.polyfit(1 - np.vecdot(mean, mean), log_odds, 1)
        if slope < 0:  # the unexplained share carries no signal
            constant, slope = float(log_odds.mean()), 0.0
        return OutOfDistribution(np.array([constant, slope, 0.0]), of_teacher.length_scales, 0.0)

    def regression(
        self, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Network and out-of-distribution score; see `CalibratedRegression.regression`."""
        mean = self.network_(self.radial_clamp_(points))
        ood_score = self.ood_(mean, np.zeros(len(mean), np.float32))
        return mean, ood_score, points / self.ood_.length_scale(ood_score)[:, None]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), **self.network_.arrays(), **self.radial_clamp_.arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        self.network_ = ResidualNetwork.restore(
            arrays, inputs=self.input_dims_, width=self.width, blocks=self.blocks, outputs=self.mean_dims_
        )
        self.radial_clamp_ = RadialClamp.restore(arrays)
        return self
