"""One month: check its drop, keep the verdict, train on all accepted drops, publish."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.drops.acceptance import check_drop, keep_verdict
from embup_core.drops.folder import DropsFolder, open_drops
from embup_core.drops.training_set import TrainingSet, write_training_set
from embup_core.errors import SourceUnavailableError
from embup_core.training.selection import AUTO
from embup_core.training.train import train

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from embup_core.artifacts.registry import Registry
    from embup_core.drops.report import DropReport
    from embup_core.progress import Progress
    from embup_core.training.result import TrainingResult

TRAINING_SETS = "training-sets"
DROPS_CACHE = "drops"


@dataclass(frozen=True)
class MonthResult:
    """What became of a month.

    Attributes
    ----------
    month
        ``YYYY-MM``.
    report
        On the drop.
    training_set
        What was trained on; None where the drop was refused.
    training
        The new version, and whether it is in service; None where the drop was refused.
    seconds
        Of checks and training.
    checks_s
        Of the checks alone.
    """

    month: str
    report: DropReport
    training_set: TrainingSet | None
    training: TrainingResult | None
    seconds: float
    checks_s: float

    @property
    def decision(self) -> str:
        """``refused``, ``promoted`` or ``held``: the version in service stays."""
        if self.training is None:
            return "refused"
        return "promoted" if self.training.promoted else "held"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was refused, or what to know of the new version, a sentence each."""
        if self.training is None:
            return self.report.reasons
        return (*self.report.warnings, *self.training.warnings)

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        training, rows = self.training, self.training_set
        scores = None if training is None else training.scores
        return {
            "month": self.month,
            "decision": self.decision,
            "reasons": list(self.reasons),
            "seconds": self.seconds,
            "checks_s": self.checks_s,
            "version": None if training is None else training.version,
            "previous": None if training is None or training.previous is None else training.previous.version,
            "champion": None if training is None else training.champion,
            "basis": self.report.basis,
            "rows": None if rows is None else rows.rows,
            "held_out_rows": None if rows is None else rows.held_out_rows,
            "rows_by_drop": None if rows is None else rows.months,
            "r2": None if scores is None else scores.test_test.r2,
            "recall_at_10": None if scores is None else scores.recall_at_10,
            "gate": None if training is None or training.gate is None else training.gate.to_json(),
            "drop": self.report.to_json(),
        }


def next_month(place: DropsFolder) -> str:
    """The first month with a complete drop and without a verdict.

    Raises
    ------
    SourceUnavailableError
        There is no complete drop, or each has a verdict.
    """
    months = place.months()
    if not months:
        waiting = place.incomplete()
        raise SourceUnavailableError(
            f"{place.root} has no complete drop"
            + (f"; {', '.join(waiting)} has no drop.json yet." if waiting else "."),
            remedy="Make one: embup drops make.",
        )
    for month in months:
        if place.report(month) is None:
            return month
    raise SourceUnavailableError(
        f"{place.root} has no new drop: each of {months[0]} to {months[-1]} has a verdict.",
        remedy="Deliver another one, or name the month to run again.",
    )


def promotion_asked(place: DropsFolder, month: str, asked: bool | None) -> bool | None:
    """Whether a month's version is asked to go into service: of an older month not unless said so.

    Its decoder knows less than that of the last accepted drop, and the gate lets pass what is little worse.
    """
    accepted = [one.month for one in place.accepted()]
    return False if asked is None and accepted and month < accepted[-1] else asked


def run_month(
    place: DropsFolder | str | os.PathLike[str],
    registry: Registry | str | os.PathLike[str],
    month: str | None = None,
    *,
    work: str | os.PathLike[str] = "data",
    decoder: str = AUTO,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    seed: int = 0,
    promote: bool | None = None,
    progress: Progress | None = None,
) -> MonthResult:
    """Check the drop of a month, and train on it and all accepted drops before it.

    A refused drop is an answer, not an error: the version in service stays.

    Parameters
    ----------
    place
        Where the drops are.
    registry
        Where to publish.
    month
        ``YYYY-MM``; None takes the first complete drop without a verdict.
    work
        The data folder; the training set is written below it, and replaces that of the last month.
    decoder, settings, seed
        As for `train`.
    output_dims
        Dimensions of the originals.
    promote
        Whether the new version goes into service; None lets the gate decide, and of an older month than
        the last accepted one no version does.
    progress
        Called with what is being done, units done and units in all.

    Raises
    ------
    SourceError
        There is no complete drop of this month, or what is kept of earlier ones is damaged.
    TrainingError
        A required fit failed, or the champion does not pass a gate; nothing is published.
    ArtifactError
        The registry cannot be written.
    """
    place = place if isinstance(place, DropsFolder) else open_drops(place, cache=Path(work) / DROPS_CACHE)
    started_s = time.monotonic()
    month = next_month(place) if month is None else month
    checked = check_drop(place, month, output_dims=output_dims, progress=progress)
    keep_verdict(place, checked)
    report = checked.report
    del checked  # its coordinates are on the disk
    checks_s = time.monotonic() - started_s
    if not report.accepted:
        return MonthResult(month, report, None, None, checks_s, checks_s)
    rows = unite_drops(place, work, month)
    promote = promotion_asked(place, month, promote)
    trained = train_on_drops(
        rows.folder,
        registry,
        work=work,
        decoder=decoder,
        settings=settings,
        output_dims=output_dims,
        seed=seed,
        promote=promote,
        progress=progress,
    )
    return MonthResult(month, report, rows, trained, time.monotonic() - started_s, checks_s)


def unite_drops(place: DropsFolder, work: str | os.PathLike[str], month: str) -> TrainingSet:
    """Write the training set of all accepted drops up to a month, below the data folder.

    Those of other months are removed, as they can be written again. Parameters and errors are those of
    `write_training_set` and `run_month`.
    """
    folder = training_folder(work, month)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for other in folder.parent.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return write_training_set(place, folder, through=month)


def train_on_drops(
    source: Path,
    registry: Registry | str | os.PathLike[str],
    *,
    work: str | os.PathLike[str],
    decoder: str = AUTO,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    seed: int = 0,
    promote: bool | None = None,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train on a training set and publish: the one place where a month becomes a version.

    Promotion is decided where `train` publishes; parameters and errors are those of `run_month`.
    """
    return train(
        source,
        registry=registry,
        decoder=decoder,
        settings=settings,
        output_dims=output_dims,
        seed=seed,
        promote=promote,
        progress=progress,
        work=work,
    )


def training_folder(work: str | os.PathLike[str], month: str) -> Path:
    """Folder of a month's training set."""
    return (Path(work) / TRAINING_SETS / f"drops-{month}").absolute()
