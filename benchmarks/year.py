"""A year of monthly drops: what is planted is found, and decoders get better.

    python -m benchmarks.year --originals FILE.npy [--first-rows 3000] [--decoder kriging]
                              [--folder DIR] [--months 12] [--plot year.png] [--json year.json]

The originals, floats (n, D), are cut in random order into a first drop and eleven equal ones, and projected
by a random affine map; embup sees z and cosines alone. Planted are: month 4, 3 % of the rows of z exchanged;
month 6, all of them; month 8, another map; month 10, 30 % rows of earlier months; month 12, a decoder that is
worse on purpose. Each month runs as `embup monthly` does.

"R2" and "recall@10" are of the month's version on the rows held out for ever: those of the whole year, at its
end, so that all versions are asked for the same rows; recall is among these rows. "found" is what the checks
said, "as planted" whether that is exactly what was planted.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from benchmarks.figures import say, table
from embup_core.drops import DropsFolder, run_month
from embup_core.drops.make import make_drop
from embup_core.drops.report import Status
from embup_core.evaluation.ranking import shared_nearest
from embup_core.sources.files import COORDINATES_FILE, HELD_OUT_FILE, PROJECTED_FILE
from embup_core.sources.synthetic import project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embup_core.drops import MonthResult

    Floats = NDArray[np.float32]

MISMATCHED, SHUFFLED, OTHER_MAP, DUPLICATES, WORSE = 4, 6, 8, 10, 12
MISMATCHED_SHARE: Final = 0.03
DUPLICATE_SHARE: Final = 0.30
WORSE_DECODER: Final = "linear_residual"
NEAREST: Final = 10
COLUMNS = ("month", "rows", "held out", "R2", "recall@10", "decision", "s", "found", "as planted")


@dataclass(eq=False)
class Year:
    """Rows of twelve months, and what is wrong with them.

    Attributes
    ----------
    originals
        float32, shape (n, D), unit rows, in the order of delivery.
    first_rows
        Of the first drop; it needs more rows than the originals have dimensions, and some to spare.
    months
        How many drops.
    planted
        By month, rows that have to be found; filled as months are delivered.
    """

    originals: Floats
    first_rows: int
    months: int = 12
    seed: int = 0
    planted: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.projected = project(self.originals, seed=self.seed)
        self.by_another_map = project(self.originals, seed=self.seed + 1)

    @classmethod
    def of(cls, path: Path, *, first_rows: int, months: int = 12, seed: int = 0) -> Year:
        """Load originals in random order."""
        given = np.load(path, mmap_mode="r", allow_pickle=False)
        rows = np.asarray(given[np.random.default_rng(seed).permutation(len(given))], np.float32)
        return cls(rows / np.linalg.norm(rows, axis=1, keepdims=True), first_rows, months, seed)

    def name(self, month: int) -> str:
        """Of a drop."""
        return f"{2026 + (month - 1) // 12}-{(month - 1) % 12 + 1:02d}"

    def rows_of(self, month: int) -> NDArray[np.int64]:
        """Rows of the originals that are new in a month."""
        if month == 1:
            return np.arange(self.first_rows)
        count = (len(self.originals) - self.first_rows) // (self.months - 1)
        start = self.first_rows + (month - 2) * count
        return np.arange(start, start + count)

    def deliver(self, place: DropsFolder, month: int) -> None:
        """Write the drop of a month, with its trouble."""
        rng = np.random.default_rng([self.seed, month])
        rows = self.rows_of(month)
        z = self.projected[rows].copy()
        if month == MISMATCHED:
            wrong = np.sort(rng.permutation(len(rows))[: round(MISMATCHED_SHARE * len(rows))])
            z[wrong] = z[np.roll(wrong, 1)]
            self.planted[month] = wrong
        elif month == SHUFFLED:
            z = z[rng.permutation(len(rows))]
        elif month == OTHER_MAP:
            z = self.by_another_map[rows]
        elif month == DUPLICATES:
            again = round(DUPLICATE_SHARE * len(rows))
            rows = np.concatenate([rows[again:], rng.permutation(self.first_rows)[:again]])
            z = self.projected[rows]
            self.planted[month] = np.arange(len(rows) - again, len(rows))
        landmarks = None
        if month > 1:
            landmarks = self.originals[np.load(place.root / "landmarks" / "rows.npy")]
        make_drop(place, self.name(month), z, originals=self.originals[rows], landmark_originals=landmarks)

    def as_planted(self, month: int, result: MonthResult) -> bool:
        """Whether a month ended as it had to."""
        report = result.report
        failed = [one.name for one in report.checks if one.status == Status.failed]
        expected = {SHUFFLED: ["rows_belong"], OTHER_MAP: ["same_map"]}.get(month, [])
        quarantined = self.planted.get(month, ()) if month == MISMATCHED else ()
        duplicates = self.planted.get(month, ()) if month == DUPLICATES else ()
        held = month != WORSE or result.decision == "held"
        return (
            failed == expected
            and list(report.quarantined) == list(quarantined)
            and list(report.duplicates) == list(duplicates)
            and held
        )


def found(result: MonthResult) -> str:
    """What the checks found, in a few words."""
    report = result.report
    failed = [one.name for one in report.checks if one.status == Status.failed]
    parts = [f"failed: {', '.join(failed)}"] if failed else []
    parts += [f"{len(report.quarantined)} quarantined"] if report.quarantined else []
    parts += [f"{len(report.duplicates)} duplicates"] if report.duplicates else []
    return "; ".join(parts) or "-"


class HeldOutScores(NamedTuple):
    """Of one version on the rows that were held out in the whole year."""

    r2: float
    recall_at_10: float


def score_versions(results: Sequence[tuple[str, MonthResult, bool]]) -> dict[str, HeldOutScores]:
    """Scores of each month's version on all rows held out in the year; none was trained on any of them."""
    trained = [(name, one.training, one.training_set) for name, one, _ in results if one.training]
    last = trained[-1][2] if trained else None
    if last is None:
        return {}
    rows = np.flatnonzero(np.load(last.folder / HELD_OUT_FILE))
    z = np.load(last.folder / PROJECTED_FILE)[rows]
    c = np.load(last.folder / COORDINATES_FILE, mmap_mode="r")[rows]
    true, itself = c @ c.T, np.eye(len(rows), dtype=bool)
    found = {}
    for name, training, _ in trained:
        decoded, _ = training.model.upsample(z)
        predicted = decoded @ decoded.T
        kept, expected = predicted[~itself], true[~itself]
        r2 = 1 - float(np.mean(np.square(kept - expected)) / np.var(expected))
        ranked = [np.where(itself, -np.inf, one) for one in (predicted, true)]
        shared = shared_nearest(ranked[0], ranked[1], [NEAREST])
        found[name] = HeldOutScores(r2, float(shared.mean()) / NEAREST)
    return found


def cells(month: str, result: MonthResult, scores: HeldOutScores | None, *, as_planted: bool) -> list[str]:
    """A line of the table."""
    rows = result.training_set
    return [
        month,
        "-" if rows is None else f"{rows.rows:,}",
        "-" if rows is None else f"{rows.held_out_rows:,}",
        "-" if scores is None else f"{scores.r2:.3f}",
        "-" if scores is None else f"{scores.recall_at_10:.3f}",
        result.decision,
        f"{result.seconds:.0f}",
        found(result),
        "yes" if as_planted else "NO",
    ]


def run_year(
    year: Year, folder: Path, *, decoder: str, output_dims: int, promote: bool | None = None
) -> list[tuple[str, MonthResult, bool]]:
    """Deliver and run each month: its name, what became of it, and whether that was planted."""
    place = DropsFolder(folder / "place")
    results = []
    for month in range(1, year.months + 1):
        year.deliver(place, month)
        result = run_month(
            place,
            folder / "registry",
            year.name(month),
            work=folder / "data",
            decoder=WORSE_DECODER if month == WORSE else decoder,
            output_dims=output_dims,
            promote=promote,
        )
        results.append((year.name(month), result, year.as_planted(month, result)))
        say(f"{year.name(month)}: {result.decision} after {result.seconds:.0f} s; {found(result)}")
    return results


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 where a month did not end as planted."""
    parser = argparse.ArgumentParser(description="A year of monthly drops.")
    parser.add_argument("--originals", type=Path, required=True, help=".npy of floats (n, D)")
    parser.add_argument("--first-rows", type=int, default=3000, help="rows of the first drop")
    parser.add_argument("--months", type=int, default=12)
    parser.add_argument("--decoder", default="kriging", help="auto, ladder, or a decoder's name")
    parser.add_argument("--folder", type=Path, help="for drops, registry and data; default: a temporary one")
    parser.add_argument("--plot", type=Path, help="PNG of R2 and recall@10 by month")
    parser.add_argument("--json", type=Path, help="all results")
    options = parser.parse_args(arguments)
    year = Year.of(options.originals, first_rows=options.first_rows, months=options.months)
    with ExitStack() as temporary:
        folder = options.folder or Path(temporary.enter_context(tempfile.TemporaryDirectory()))
        results = run_year(year, folder, decoder=options.decoder, output_dims=year.originals.shape[1])
        scores = score_versions(results)
    lines = [cells(name, one, scores.get(name), as_planted=right) for name, one, right in results]
    print(table(COLUMNS, lines))
    if options.plot:
        plot(options.plot, scores)
    if options.json:
        written: list[dict[str, Any]] = [
            one.to_json()
            | {"as_planted": right, "held_out": scores[name]._asdict() if name in scores else None}
            for name, one, right in results
        ]
        options.json.write_text(json.dumps(written, indent=2) + "\n")
    return 0 if all(right for *_, right in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
