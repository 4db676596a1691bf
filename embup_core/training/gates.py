"""What a training must pass before it publishes. Each gate compares one figure with the one it must reach."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embup_core.errors import EmbupError, InvalidDataError, TrainingError
from embup_core.geometry.noise import LARGEST_SHARE
from embup_core.training.selection import BASELINE, CONSTANT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embup_core.evaluation import Scores
    from embup_core.training.selection import Evaluation

UNIT_TOLERANCE = 1e-6
SAMPLED_PAIRS = 10_000


@dataclass(frozen=True)
class Gate:
    """The outcome of one comparison.

    Attributes
    ----------
    passed
        Whether it allows publication.
    problem, remedy
        What to say where it does not.
    figures
        What was compared, by name.
    error
        Type to raise where it does not pass.
    """

    passed: bool
    problem: str
    remedy: str
    figures: Mapping[str, str | float] = field(default_factory=dict)
    error: type[EmbupError] = TrainingError

    def require(self) -> None:
        """Raise `error` unless the gate passed."""
        if not self.passed:
            raise self.error(self.problem, remedy=self.remedy)


def coordinates_gate(found: float, cosine_deviation: float) -> Gate:
    """Dot products of the recovered coordinates are the matrix's cosines, but for 5 % of their variance.

    `recover` compares them with the matrix's own noise; this gate finds coordinates of another matrix.

    Parameters
    ----------
    found
        As from `reconstruction_residual`.
    cosine_deviation
        Standard deviation of the cosines.
    """
    expected = LARGEST_SHARE**0.5 * cosine_deviation
    return Gate(
        passed=found <= expected,
        problem=f"The recovered coordinates miss sampled cosines by {found:.2g} (root mean square), "
        f"expected at most {expected:.2g}.",
        remedy="Use more landmarks, or set the dimensions of the originals (--output-dims).",
        figures={"expected_at_most": expected, "found": found, "sampled_pairs": SAMPLED_PAIRS},
        error=InvalidDataError,
    )


def beats_constant_mean(evaluation: Evaluation) -> Gate:
    """The champion predicts cosines better than their mean does, beyond its interval.

    On validation rows and on test rows: the lower end of its 95 % interval of R2 must lie above the R2 of
    `constant_mean`. Test rows may only forbid a publication here, never choose between candidates.
    """
    champion = evaluation.champion
    parts = {
        "validation": (evaluation.validation[champion], evaluation.validation_baselines[CONSTANT]),
        "test": (evaluation.test[champion], evaluation.baselines[CONSTANT]),
    }
    figures: dict[str, str | float] = {"champion": champion}
    failures = []
    for part, (scores, constant) in parts.items():
        low, high = _interval(scores)
        expected = constant.test_test.r2
        figures |= {f"found_on_{part}": scores.test_test.r2, f"expected_above_on_{part}": expected}
        figures[f"interval_low_on_{part}"] = low
        if not low > expected:  # NaN, of rows that are too few to resample, does not pass
            failures.append(
                f"R2 {scores.test_test.r2:.3f} [{low:.3f}, {high:.3f}] on {part} rows, where the mean cosine "
                f"for every pair has {expected:.3f}"
            )
    return Gate(
        passed=not failures,
        problem=f"{champion} predicts cosines no better than chance allows: {'; '.join(failures)}. "
        "Nothing is published.",
        remedy="Check that both files hold the same originals in the same order, or give more rows.",
        figures=figures,
    )


def beats_linear_residual(evaluation: Evaluation) -> Gate:
    """The champion predicts cosines of validation rows better than `linear_residual` does.

    Passed where `linear_residual` itself was asked for.
    """
    champion = evaluation.champion
    found, expected = (evaluation.validation[name].test_test.r2 for name in (champion, BASELINE))
    return Gate(
        passed=found > expected or champion == evaluation.choice == BASELINE,
        problem=f"{champion} reaches R2 {found:.3f} on validation rows, {BASELINE} {expected:.3f}; "
        "nothing is published.",
        remedy="Give more or better data, or choose another decoder.",
        figures={
            "champion": champion,
            "expected_above": expected,
            "found": found,
            "found_on_test": evaluation.test[champion].test_test.r2,
            "baseline_on_test": evaluation.test[BASELINE].test_test.r2,
        },
    )


def rows_are_unit(evaluation: Evaluation) -> Gate:
    """Decoded test rows of the champion have length 1."""
    champion = evaluation.champion
    measured = evaluation.test[champion].unit_norm_error
    found = float("inf") if measured is None else measured
    return Gate(
        passed=found <= UNIT_TOLERANCE,
        problem=f"A row of {champion} misses length 1 by {found:.2g}, expected at most {UNIT_TOLERANCE:g}.",
        remedy="Nothing is published: the decoder is at fault.",
        figures={"champion": champion, "expected_at_most": UNIT_TOLERANCE, "found": found},
    )


GATES: tuple[Callable[[Evaluation], Gate], ...] = (beats_constant_mean, beats_linear_residual, rows_are_unit)
"""What the champion of an evaluation must pass."""


def require_publishable(evaluation: Evaluation) -> None:
    """Raise `TrainingError` for the first gate that the champion does not pass."""
    for gate in GATES:
        gate(evaluation).require()


def _interval(scores: Scores) -> tuple[float, float]:
    return (float("nan"), float("nan")) if scores.intervals is None else scores.intervals.r2
