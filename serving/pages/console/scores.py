"""Scores of published versions, one beside the other, with what each score means and which is better."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from embup_core.training.comparison import Basis, compare_recorded
from serving.pages.texts import figure, signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.artifacts.registry import Registry
    from embup_core.evaluation.bootstrap import Intervals
    from embup_core.evaluation.scores import Scores

Verdict = Literal["better", "worse", "unclear", ""]


class Score(NamedTuple):
    """One score.

    Attributes
    ----------
    name, meaning
        For people.
    of, interval
        Where it stands in recorded scores, and its 95 % interval, if there is one.
    digits
        That are shown.
    direction
        1 where more is better, -1 where less is, 0 where what is nearer to 0 is.
    least
        The smallest difference that counts where no interval says how much chance makes.
    """

    name: str
    meaning: str
    of: Callable[[Scores], float | None]
    interval: Callable[[Intervals], tuple[float, float] | None]
    digits: int
    direction: int
    least: float = 0.01


def _none(_: Intervals) -> None:
    return None


SCORES: Final = (
    Score(
        "R²",
        "Share of the variance of cosines between unseen rows that is explained; 1 is perfect, 0 is what the "
        "mean cosine reaches.",
        lambda scores: scores.test_test.r2,
        lambda intervals: intervals.r2,
        3,
        1,
    ),
    Score(
        "RMSE",
        "Root mean square error of those cosines.",
        lambda scores: scores.test_test.rmse,
        lambda intervals: intervals.rmse,
        4,
        -1,
    ),
    Score(
        "Recall@10",
        "Share of the 10 true nearest rows that are found.",
        lambda scores: scores.recall_at_10,
        lambda intervals: intervals.recall_at_10,
        3,
        1,
    ),
    Score(
        "Spearman",
        "Correlation of the ranks of the cosines.",
        lambda scores: scores.test_test.spearman,
        _none,
        3,
        1,
    ),
    Score("Bias", "Mean error of the cosines.", lambda scores: scores.test_test.bias, _none, 4, 0, 0.002),
    Score(
        "Trustworthiness@10",
        "How truly decoded neighbours are neighbours.",
        lambda scores: scores.trustworthiness_at_10,
        _none,
        3,
        1,
    ),
    Score(
        "Continuity@10",
        "How many true neighbours stay neighbours.",
        lambda scores: scores.continuity_at_10,
        _none,
        3,
        1,
    ),
)


class ScoreText(NamedTuple):
    """A value as text, and its interval."""

    value: str
    interval: str


class ScoreLine(NamedTuple):
    """One score of two versions, and whether the second one is better; `unclear` where intervals overlap."""

    name: str
    meaning: str
    first: ScoreText
    second: ScoreText
    difference: str
    verdict: Verdict


@dataclass(frozen=True)
class Side:
    """One version of a comparison: what it is, and the data it was trained on with its rows."""

    version: str
    decoder: str
    source: str
    rows: int | None


@dataclass(frozen=True)
class SideBySide:
    """Two versions.

    Attributes
    ----------
    first, second
        The versions.
    lines
        The scores that one of them has.
    same_rows
        Whether both were scored on the same test rows; else the differences are those of the rows, too.
    """

    first: Side
    second: Side
    lines: tuple[ScoreLine, ...]
    same_rows: bool


@lru_cache(maxsize=16)  # what a version says of itself never changes
def side_by_side(registry: Registry, first: str, second: str) -> SideBySide:
    """Compare the scores that were recorded when two versions were trained; raises `ArtifactError`.

    Reads files, and is not for the event loop.
    """
    found = compare_recorded(registry, (first, second))
    one, other = found.versions
    return SideBySide(
        Side(one.version, one.decoder, one.source, _rows(registry, first)),
        Side(other.version, other.decoder, other.source, _rows(registry, second)),
        score_lines(one.scores, other.scores),
        found.basis is Basis.recorded,
    )


def _rows(registry: Registry, version: str) -> int | None:
    rows = registry.info(version).manifest.get("data", {}).get("rows")
    return rows if isinstance(rows, int) else None


def score_lines(first: Scores | None, second: Scores | None) -> tuple[ScoreLine, ...]:
    """Put the scores of two versions side by side; None where a version has none recorded."""
    lines = []
    for score in SCORES:
        values = [None if scores is None else score.of(scores) for scores in (first, second)]
        if values == [None, None]:
            continue
        intervals = [
            None if scores is None or scores.intervals is None else score.interval(scores.intervals)
            for scores in (first, second)
        ]
        before, after = values
        difference = None if before is None or after is None else after - before
        lines.append(
            ScoreLine(
                score.name,
                score.meaning,
                _text(score, before, intervals[0]),
                _text(score, after, intervals[1]),
                signed(difference, score.digits),
                _verdict(score, before, after, intervals),
            )
        )
    return tuple(lines)


def _text(score: Score, value: float | None, interval: tuple[float, float] | None) -> ScoreText:
    shown = ""
    if interval is not None:
        shown = f"{figure(interval[0], score.digits)} to {figure(interval[1], score.digits)}"
    return ScoreText(figure(value, score.digits), shown)


def _verdict(
    score: Score, before: float | None, after: float | None, intervals: list[tuple[float, float] | None]
) -> Verdict:
    if before is None or after is None:
        return ""
    first, second = intervals
    if first is not None and second is not None and first[0] <= second[1] and second[0] <= first[1]:
        return "unclear"
    gain = (after - before) * score.direction if score.direction else abs(before) - abs(after)
    known = first is not None and second is not None
    if abs(gain) < (0.5 * 10**-score.digits if known else score.least):
        return "unclear"
    return "better" if gain > 0 else "worse"
