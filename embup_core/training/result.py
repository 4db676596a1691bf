"""What a training returns, whichever way it was started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embup_core.sources import GROUPS_FILE, LABELS_FILE
from embup_core.training.split import SplitBy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.evaluation import Scores
    from embup_core.training.promotion import GateResult, PreviousVersion
    from embup_core.training.selection import Evaluation
    from embup_core.upsampler import Upsampler


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a training.

    Attributes
    ----------
    version
        Version of the new decoder, ``YYYYMMDD-HHMMSS-<8 of the content hash>``.
    model
        The new decoder, ready to use.
    evaluation
        Scores of all candidates and baselines.
    rows
        Number of sample rows, N.
    recovery_s
        Seconds that the recovery of the coordinates took.
    published
        Whether a registry holds it.
    promoted
        Whether it is in service there.
    previous
        The version that was in service before; None where there was none.
    warnings
        What to know beside the scores, a sentence each.
    basis
        Id of the decoder's basis, and where it is from, in a clause. Vectors of versions with the same id are
        comparable.
    left_out
        Rows of the source that were left out: their row of z does not belong to the matrix's, or they were
        listed to be.
    service
        What a running service that was named answered, in a sentence; empty where none was named.
    gate
        How it compares with the previous version on held-out rows; None where there were none.
    run_id
        Of the run in Dagster's records; None where Dagster did not run it.
    """

    version: str
    model: Upsampler
    evaluation: Evaluation
    rows: int
    recovery_s: float
    published: bool
    promoted: bool
    previous: PreviousVersion | None = None
    warnings: tuple[str, ...] = ()
    basis: str = ""
    left_out: tuple[int, ...] = ()
    service: str = ""
    gate: GateResult | None = None
    run_id: str | None = None

    @property
    def champion(self) -> str:
        """Name of the new decoder."""
        return self.evaluation.champion

    @property
    def chosen_because(self) -> str:
        """Why the champion was chosen, in a clause."""
        return self.evaluation.chosen_because

    @property
    def scores(self) -> Scores:
        """The champion's scores on test rows."""
        return self.evaluation.test[self.champion]

    @property
    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column names and rows of text: scores of all candidates and baselines."""
        return self.evaluation.table()


def evaluation_warnings(evaluation: Evaluation, *, has_groups: bool) -> Iterator[str]:
    """What a reader of an evaluation's table should know beside it, a sentence each.

    Parameters
    ----------
    evaluation
        Of the training.
    has_groups
        Whether the source names the group of each row.
    """
    for name, why in evaluation.not_fitted.items():
        yield f"{name} could not be fitted: {why}"
    if evaluation.probe_left_out:
        yield f"{LABELS_FILE} was not used: {evaluation.probe_left_out}"
    if has_groups and evaluation.split != SplitBy.groups:
        yield (
            f"{GROUPS_FILE} was not used: rows of one group are on both sides of the split. "
            "--split groups holds out whole groups."
        )
