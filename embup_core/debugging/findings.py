"""Findings in the order in which they are looked at, and those that any rows can have."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.debugging.analysis import Finding
from embup_core.debugging.features.duplicates import members
from embup_core.debugging.kinds import FINDING_KINDS, SEVERITIES
from embup_core.debugging.statistics import far_above

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.analysis import Slice
    from embup_core.debugging.features.duplicates import DuplicateSets

    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

MOST_FINDINGS: Final = 2000
"""Of one kind; the scores of all rows are kept."""
MOST_LISTED: Final = 200
"""Rows in a finding that ranks rows, and nothing more."""

_QUOTED = 200
_NAMED = 5


@dataclass(frozen=True)
class RowNames:
    """What a finding says of a row beside its number.

    Attributes
    ----------
    labels, texts, usages, groups
        A value a row, None where there is none.
    """

    labels: Sequence[str | None] | None = None
    texts: Sequence[str] | None = None
    usages: Sequence[str | None] | None = None
    groups: Sequence[str | None] | None = None

    def describe(self, row: int) -> dict[str, Any]:
        """JSON values."""
        named: dict[str, Any] = {"row": row}
        for name, values in (("label", self.labels), ("usage", self.usages), ("group", self.groups)):
            if values is not None and values[row] is not None:
                named[name] = values[row]
        if self.texts is not None:
            named["text"] = quoted(self.texts[row])
        return named

    def common(self, rows: Indices) -> dict[str, dict[str, int]]:
        """The most frequent labels, usages and groups of some rows, with their counts."""
        found = {}
        for name, values in (("labels", self.labels), ("usages", self.usages), ("groups", self.groups)):
            if values is not None:
                counts = Counter(values[row] for row in rows.tolist() if values[row] is not None)
                found[name] = {str(value): count for value, count in counts.most_common(_NAMED)}
        return found


def quoted(text: str) -> str:
    """The beginning of a text."""
    return text if len(text) <= _QUOTED else f"{text[: _QUOTED - 1]}…"


def ranked(findings: Iterable[Finding]) -> tuple[tuple[Finding, ...], dict[str, int]]:
    """Most severe first, then by kind, then by score.

    Returns
    -------
    At most 2,000 findings of each kind, and how many of each kind are left out.
    """
    by_kind: dict[str, list[Finding]] = {}
    for finding in findings:
        by_kind.setdefault(finding.kind, []).append(finding)
    left_out = {
        kind: len(some) - MOST_FINDINGS for kind, some in by_kind.items() if len(some) > MOST_FINDINGS
    }
    severities, kinds = list(SEVERITIES), list(FINDING_KINDS)
    kept = [
        finding
        for some in by_kind.values()
        for finding in sorted(some, key=lambda one: (severities.index(one.severity), -one.score))[
            :MOST_FINDINGS
        ]
    ]
    kept.sort(key=lambda one: (severities.index(one.severity), kinds.index(one.kind), -one.score))
    return tuple(kept), left_out


def not_analysed(title: str, suggestion: str) -> Finding:
    """Something that could not be looked at, and why."""
    return Finding("not_analysed", "note", np.empty(0, np.int64), title, {}, suggestion, 0.0)


def count(number: int, noun: str = "row") -> str:
    """A number with its noun, which takes an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def slice_findings(slices: Sequence[Slice], names: RowNames, errors: dict[str, Floats]) -> list[Finding]:
    """One for each slice that is significantly worse.

    Parameters
    ----------
    slices
        All that were looked at.
    names
        Of rows.
    errors
        That the slices were compared by: float64, shape (n,) each.
    """
    tests = Counter(one.metric for one in slices)
    findings = []
    for one in slices:
        if not one.worse:
            continue
        what = f'{one.partition} "{one.name}"'
        share = f"{one.value:.1%} against {one.rest:.1%}"
        figures = share if one.metric.startswith("wrong") else f"{one.value:.4g} against {one.rest:.4g}"
        worst = one.rows[np.argsort(-errors[one.metric][one.rows], kind="stable")]
        evidence = {
            "partition": one.partition, "name": one.name, "metric": one.metric, "rows": len(one.rows),
            "value": one.value, "low": one.low, "high": one.high, "rest": one.rest, "p": one.p, "q": one.q,
            "slices_tested": tests[one.metric], "common": names.common(one.rows),
            "worst": [names.describe(row) for row in worst[:_NAMED].tolist()],
        }  # fmt: skip
        findings.append(
            Finding(
                kind="weak_slice",
                severity="warning",
                rows=worst,
                title=f"The {count(len(one.rows))} of {what} are worse than the rest: "
                f"{metric_name(one.metric)} {figures}.",
                evidence=evidence,
                suggestion="Look for wrong data among its worst rows; if there is none, add rows like them.",
                score=one.value / one.rest if one.rest > 0 else float(one.value > 0) * 1e6,
            )
        )
    return findings


def metric_name(metric: str) -> str:
    """An error's name in a sentence."""
    return metric.replace("_", " ")


def isolated_rows(isolation: Floats, names: RowNames) -> list[Finding]:
    """Rows unlike all others, beyond the far-out fence.

    Parameters
    ----------
    isolation
        1 minus the mean cosine with the nearest rows: float64, shape (n,), NaN where not known.
    names
        Of rows.
    """
    fence = far_above(isolation)
    rows = np.flatnonzero(isolation > fence)
    if not len(rows):
        return []
    rows = rows[np.argsort(-isolation[rows], kind="stable")]
    return [
        Finding(
            kind="isolated_rows",
            severity="note",
            rows=rows[:MOST_LISTED],
            title=f"{count(len(rows))} {'is' if len(rows) == 1 else 'are'} unlike all other rows.",
            evidence={
                "fence": fence,
                "found": len(rows),
                "median": float(np.nanmedian(isolation)),
                "rows": [names.describe(row) for row in rows[:_NAMED].tolist()],
            },
            suggestion="Check that they belong to this data set; if they do, add rows like them.",
            score=float(len(rows)),
        )
    ]


def duplicate_findings(sets: DuplicateSets, names: RowNames) -> list[Finding]:
    """Sets of copies that stand in two usages, one each; all other copies together.

    Parameters
    ----------
    sets
        Copies and near copies.
    names
        Of rows.
    """
    findings = []
    usages = names.usages
    within = {"copies": _repeats(sets.copies), "near copies": _repeats(sets.near)}
    within["near copies"] = np.setdiff1d(within["near copies"], within["copies"])
    for what, rows in within.items():
        if len(rows):
            findings.append(
                Finding(
                    kind="duplicates",
                    severity="note",
                    rows=rows,
                    title=f"{count(len(rows))} repeat{'s' * (len(rows) == 1)} an earlier row ({what}).",
                    evidence={"what": what, "rows": [names.describe(row) for row in rows[:_NAMED].tolist()]},
                    suggestion="Keep one row of each set, unless their frequency is meant.",
                    score=float(len(rows)),
                )
            )
    if usages is None:
        return findings
    code = {usage: i for i, usage in enumerate(sorted({usage for usage in usages if usage is not None}))}
    codes = np.array([-1 if usage is None else code[usage] for usage in usages], dtype=np.int64)
    for rows in members(sets.near):
        placed = rows[codes[rows] >= 0]
        if len(set(codes[placed].tolist())) < 2:
            continue
        # A leak is certain where equal rows stand in two usages, and probable where nearly equal ones do.
        meetings = np.unique(np.stack([sets.copies[placed], codes[placed]]), axis=1)[0]
        exact = bool((np.bincount(np.unique(meetings, return_inverse=True)[1].ravel()) > 1).any())
        counts = Counter(str(usages[row]) for row in placed.tolist())
        findings.append(
            Finding(
                kind="duplicate_across_usages",
                severity="error" if exact else "warning",
                rows=placed,
                title=f"{'The same' if exact else 'Nearly the same'} row in {' and '.join(sorted(counts))}.",
                evidence={
                    "exact": exact,
                    "usages": dict(counts),
                    "rows": [names.describe(row) for row in placed[: 2 * _NAMED].tolist()],
                },
                suggestion="Keep it in one usage: leave the others out, or move them.",
                score=float(len(placed)),
            )
        )
    return findings


def _repeats(sets: Indices) -> Indices:
    """Rows that are not the first of their set: int64, sorted."""
    first = np.unique(sets, return_index=True)[1]
    return np.setdiff1d(np.arange(len(sets)), first)
