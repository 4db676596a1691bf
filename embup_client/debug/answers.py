"""What the data debugger answers, as frozen structs; `openapi.json` has the same fields."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

Severity = Literal["error", "warning", "note"]
Action = Literal["relabel", "confirm", "drop", "keep", "annotate_next", "undo"]


class DebugDataset(Struct, frozen=True, kw_only=True):
    """One imported data set."""

    name: str
    kind: str | None = None
    rows: int
    labelled: int
    imported_at: datetime | None = None
    versions: list[int]
    analysed_at: datetime | None = None
    findings: dict[str, int]
    decisions: int
    last_review: int
    problem: str | None = None


class DebugDatasetList(Struct, frozen=True, kw_only=True):
    """Imported data sets by name."""

    datasets: list[DebugDataset]


class DebugDatasetDetails(Struct, frozen=True, kw_only=True):
    """One data set with the figures of its analysis."""

    dataset: DebugDataset
    version: int | None = None
    summary: dict[str, Any]


class DebugFinding(Struct, frozen=True, kw_only=True):
    """Something to look at."""

    finding: int
    kind: str
    severity: Severity
    title: str
    suggestion: str
    score: float | None = None
    evidence: dict[str, Any]
    rows: list[int]
    row_count: int
    decided_rows: int


class DebugFindings(Struct, frozen=True, kw_only=True):
    """A page of findings, the most important first."""

    version: int
    findings: list[DebugFinding]
    next_after: int | None = None


class DebugPrediction(Struct, frozen=True, kw_only=True):
    """What one classifier says of a row."""

    source: str
    label: str
    confidence: float
    candidates: list[DebugCandidate]
    in_sample: bool


class DebugCandidate(Struct, frozen=True, kw_only=True):
    """A label with its probability."""

    label: str
    confidence: float


class DebugNeighbour(Struct, frozen=True, kw_only=True):
    """A row much like another."""

    other: int
    cosine: float
    text: str | None = None
    label: str | None = None


class DebugReview(Struct, frozen=True, kw_only=True):
    """A decision about a row, as it is stored."""

    seq: int
    row: int
    action: Action
    label: str | None = None
    note: str | None = None
    reviewer: str
    version: int | None = None
    reviewed_at: datetime


class DebugRowFinding(Struct, frozen=True, kw_only=True):
    """A finding that a row is in."""

    finding: int
    kind: str
    severity: Severity
    title: str
    suggestion: str


class DebugRow(Struct, frozen=True, kw_only=True):
    """Everything about one row."""

    row: int
    record: int
    external_id: str | None = None
    text: str | None = None
    label: str | None = None
    complete: bool
    usage: str | None = None
    group_name: str | None = None
    given_score: float | None = None
    scores: dict[str, float]
    expected: dict[str, float]
    predictions: list[DebugPrediction]
    failures: list[dict[str, str]]
    neighbours: dict[str, list[DebugNeighbour]]
    findings: list[DebugRowFinding]
    reviews: list[DebugReview]
    decision: Action | None = None


class DebugSlice(Struct, frozen=True, kw_only=True):
    """Rows with something in common, and how their error compares with that of all others."""

    slice: int
    partition: str
    name: str
    metric: str
    rows: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    rest: float | None = None
    p: float | None = None
    q: float | None = None
    worse: bool


class DebugSlices(Struct, frozen=True, kw_only=True):
    """Slices, the worst first."""

    version: int
    slices: list[DebugSlice]


class DebugLegend(Struct, frozen=True, kw_only=True):
    """What the colours of the map mean."""

    colour: str
    entries: list[dict[str, Any]]
    colours: list[str]


class DebugLabelShare(Struct, frozen=True, kw_only=True):
    """How frequent a label is among selected rows."""

    label: str
    rows: int
    share: float
    share_of_all: float


class DebugSelection(Struct, frozen=True, kw_only=True):
    """Rows inside a polygon of the map."""

    rows: int
    all_rows: int
    labels: list[DebugLabelShare]
    findings: dict[str, int]
    first: list[int]


class DebugComparison(Struct, frozen=True, kw_only=True):
    """Two analyses of one data set."""

    name: str
    before: dict[str, Any]
    after: dict[str, Any]
    scores: dict[str, Any]
    findings: dict[str, Any]


class DebugSuggestion(Struct, frozen=True, kw_only=True):
    """A row to label next."""

    row: int
    external_id: str | None = None
    text: str | None = None
    label: str | None = None
    predicted: str | None = None
    confidence: float | None = None
    margin: float | None = None
    why: str


class DebugSuggestions(Struct, frozen=True, kw_only=True):
    """Rows to label next, the most useful first."""

    rows: list[DebugSuggestion]


class DebugReviews(Struct, frozen=True, kw_only=True):
    """Reviews in the order of decision."""

    reviews: list[DebugReview]
    next_after: int | None = None
