"""What became of a month, whether that is what was planted, and how good its version is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from benchmarks.year.rows import DUPLICATES, LATE, MISMATCHED, OTHER_MAP, RACE, SHUFFLED, WORSE
from embup_core.drops.report import Status
from embup_core.evaluation.ranking import shared_nearest
from embup_core.sources.files import COORDINATES_FILE, HELD_OUT_FILE, PROJECTED_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry
    from embup_core.drops import DropReport

NEAREST: Final = 10
REFUSED_BY: Final = {SHUFFLED: ["rows_belong"], OTHER_MAP: ["same_map"]}
COLUMNS = ("month", "rows", "held out", "R2", "recall@10", "decision", "s", "found", "as planted")


@dataclass(frozen=True)
class MonthOutcome:
    """What became of a month.

    Attributes
    ----------
    number, name
        1 for the first, and ``YYYY-MM``.
    report
        On the drop.
    decision
        ``refused``, ``promoted``, or ``held``: published, and not in service.
    seconds
        Of the run.
    messages
        Titles of what was sent.
    in_service
        Version that the registry names afterwards.
    version
        That was trained; empty for a refused drop.
    rows, held_out
        Of the training set.
    reasons
        What speaks against the version.
    overtaken_by
        Version that another publisher put into service meanwhile.
    """

    number: int
    name: str
    report: DropReport
    decision: str
    seconds: float
    messages: tuple[str, ...]
    in_service: str
    version: str = ""
    rows: int = 0
    held_out: int = 0
    reasons: str = ""
    overtaken_by: str = ""

    def differences(self, planted: Mapping[int, NDArray[np.int64]]) -> list[str]:
        """What did not end as planted; nothing where all did.

        Parameters
        ----------
        planted
            Rows that have to be found, by month.
        """
        report, rows = self.report, list(planted.get(self.number, ()))
        failed = [one.name for one in report.checks if one.status == Status.failed]
        decision = "refused" if self.number in REFUSED_BY else "promoted"
        if self.number in {RACE, WORSE}:
            decision = "held"
        reason = {RACE: "moved CURRENT meanwhile", WORSE: "The promotion gate holds it"}
        told = {
            MISMATCHED: f"{len(rows)} of {report.rows:,} rows of drop {self.name} quarantined",
            LATE: f"drop {self.name} is late",
            **dict.fromkeys(REFUSED_BY, f"drop {self.name} refused"),
            **dict.fromkeys((RACE, WORSE), f"{self.version} is held"),
        }.get(self.number, f"{self.version} is in service")
        in_service = {"promoted": self.version, "held": self.overtaken_by}.get(self.decision, "")
        expected = {
            "decision": (self.decision, decision),
            "failed checks": (failed, REFUSED_BY.get(self.number, [])),
            "quarantined": (list(report.quarantined), rows if self.number == MISMATCHED else []),
            "duplicates": (list(report.duplicates), rows if self.number == DUPLICATES else []),
            "in service": (self.in_service, in_service or self.in_service),
        }
        found = [f"{what}: {one}, not {other}" for what, (one, other) in expected.items() if one != other]
        if reason.get(self.number, "") not in self.reasons:
            found.append(f"reasons: {self.reasons}")
        if sum(told in title for title in self.messages) != 1:
            found.append(f"messages: {self.messages}, not one of {told!r}")
        return found

    def found(self) -> str:
        """What the checks found, in a few words."""
        report = self.report
        failed = [one.name for one in report.checks if one.status == Status.failed]
        parts = [f"failed: {', '.join(failed)}"] if failed else []
        parts += [f"{len(report.quarantined)} quarantined"] if report.quarantined else []
        parts += [f"{len(report.duplicates)} duplicates"] if report.duplicates else []
        parts += ["late"] if any("is late" in title for title in self.messages) else []
        parts += ["another publisher was first"] if self.overtaken_by else []
        return "; ".join(parts) or "-"

    def cells(self, scores: HeldOutScores | None, *, as_planted: bool) -> list[str]:
        """A line of the table."""
        return [
            self.name,
            f"{self.rows:,}" if self.rows else "-",
            f"{self.held_out:,}" if self.rows else "-",
            "-" if scores is None else f"{scores.r2:.3f}",
            "-" if scores is None else f"{scores.recall_at_10:.3f}",
            self.decision,
            f"{self.seconds:.0f}",
            self.found(),
            "yes" if as_planted else "NO",
        ]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"report": self.report.to_json(), "found": self.found()}


class HeldOutScores(NamedTuple):
    """Of one version on the rows that were held out in the whole year."""

    r2: float
    recall_at_10: float


def score_versions(
    outcomes: Sequence[MonthOutcome], registry: Registry, training_set: Path
) -> dict[str, HeldOutScores]:
    """Scores of each month's version on all rows held out in the year; none was trained on any of them.

    Parameters
    ----------
    outcomes
        The months.
    registry
        Where their versions are.
    training_set
        Folder of the last one.
    """
    rows = np.flatnonzero(np.load(training_set / HELD_OUT_FILE))
    z = np.load(training_set / PROJECTED_FILE)[rows]
    c = np.load(training_set / COORDINATES_FILE, mmap_mode="r")[rows]
    true, itself = c @ c.T, np.eye(len(rows), dtype=bool)
    found = {}
    for one in outcomes:
        if not one.version:
            continue
        decoded, _ = registry.load(one.version).upsample(z)
        predicted = decoded @ decoded.T
        kept, expected = predicted[~itself], true[~itself]
        r2 = 1 - float(np.mean(np.square(kept - expected)) / np.var(expected))
        ranked = [np.where(itself, -np.inf, cosines) for cosines in (predicted, true)]
        shared = shared_nearest(ranked[0], ranked[1], [NEAREST])
        found[one.name] = HeldOutScores(r2, float(shared.mean()) / NEAREST)
    return found


def plot(path: Path, scores: Mapping[str, HeldOutScores]) -> None:
    """R2 and recall@10 by month."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(list(scores), [one.r2 for one in scores.values()], "o-", label="R2")
    axes.plot(list(scores), [one.recall_at_10 for one in scores.values()], "s-", label="recall@10")
    axes.set_ylabel("on the rows held out for ever")
    axes.tick_params(axis="x", rotation=45)
    axes.legend()
    figure.savefig(path, dpi=120)
