"""What the data debugger's addresses take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from debugger.reviews import Action

Severity = Literal["error", "warning", "note"]


class DebugDataset(Struct, frozen=True, kw_only=True):
    """One imported data set."""

    name: str
    kind: Annotated[
        str | None, Meta(description="`annotated` rows with labels, or `source`: training data of a decoder.")
    ]
    rows: int
    labelled: Annotated[int, Meta(description="Rows that had a label at import.")]
    imported_at: datetime | None
    versions: Annotated[list[int], Meta(description="Analyses, oldest first.")]
    analysed_at: Annotated[datetime | None, Meta(description="When the newest analysis was made.")]
    findings: Annotated[dict[str, int], Meta(description="How many there are by kind, worst first.")]
    decisions: Annotated[int, Meta(description="Rows with a review that holds.")]
    last_review: Annotated[int, Meta(description="Number of the last review; 0 for none.")]
    problem: Annotated[str | None, Meta(description="Why it cannot be opened; null when it can.")] = None


class DebugDatasetList(Struct, frozen=True):
    """Imported data sets by name."""

    datasets: list[DebugDataset]


class DebugDatasetDetails(Struct, frozen=True):
    """One data set with the figures of its analysis."""

    dataset: DebugDataset
    version: Annotated[int | None, Meta(description="The analysis; null before the first.")]
    summary: Annotated[
        dict[str, Any], Meta(description="Accuracy, estimated label errors, leaks between usages, and so on.")
    ]


class DebugFinding(Struct, frozen=True, kw_only=True):
    """Something to look at."""

    finding: Annotated[int, Meta(description="Its number, in the order of importance.")]
    kind: str
    severity: Severity
    title: str
    suggestion: str
    score: Annotated[float | None, Meta(description="Ranks findings of a kind; higher is worse.")]
    evidence: dict[str, Any]
    rows: Annotated[list[int], Meta(description="The first 200, worst first.")]
    row_count: int
    decided_rows: Annotated[int, Meta(description="Rows of it with a review that holds.")]


class DebugFindings(Struct, frozen=True):
    """A page of findings, the most important first."""

    version: int
    findings: list[DebugFinding]
    next_after: Annotated[int | None, Meta(description="`after` of the next page; null on the last.")]


class DebugPrediction(Struct, frozen=True, kw_only=True):
    """What one classifier says of a row."""

    source: str
    label: str
    confidence: float
    candidates: list[DebugCandidate]
    in_sample: Annotated[bool, Meta(description="Whether the classifier was fitted on the row.")]


class DebugCandidate(Struct, frozen=True):
    """A label with its probability."""

    label: str
    confidence: float


class DebugNeighbour(Struct, frozen=True, kw_only=True):
    """A row much like another."""

    other: int
    cosine: float
    text: Annotated[str | None, Meta(description="Its first 200 characters.")]
    label: str | None


class DebugReview(Struct, frozen=True, kw_only=True):
    """A decision about a row, as it is stored."""

    seq: Annotated[int, Meta(description="Its number, in the order of decision.")]
    row: int
    action: Action
    label: str | None
    note: str | None
    reviewer: str
    version: int | None
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
    record: Annotated[int, Meta(description="Number of its record in the imported file.")]
    external_id: str | None
    text: str | None
    label: str | None
    complete: bool
    usage: str | None
    group_name: str | None
    given_score: float | None
    scores: dict[str, float]
    expected: Annotated[dict[str, float], Meta(description="Scores that were predicted, by kind.")]
    predictions: list[DebugPrediction]
    failures: Annotated[list[dict[str, str]], Meta(description="Classifiers that were asked in vain.")]
    neighbours: Annotated[
        dict[str, list[DebugNeighbour]], Meta(description="Nearest rows by what they are alike in.")
    ]
    findings: list[DebugRowFinding]
    reviews: list[DebugReview]
    decision: Annotated[Action | None, Meta(description="The review that holds.")]


class DebugSlice(Struct, frozen=True, kw_only=True):
    """Rows with something in common, and how their error compares with that of all others."""

    slice: int
    partition: str
    name: str
    metric: str
    rows: int
    value: float | None
    low: float | None
    high: float | None
    rest: Annotated[float | None, Meta(description="The mean over all other rows.")]
    p: float | None
    q: Annotated[float | None, Meta(description="p, corrected for how many slices were looked at.")]
    worse: Annotated[bool, Meta(description="Significantly worse, and by enough to matter.")]


class DebugSlices(Struct, frozen=True):
    """Slices, the worst first."""

    version: int
    slices: list[DebugSlice]


class DebugLegend(Struct, frozen=True):
    """What the colours of the map mean."""

    colour: str
    entries: Annotated[
        list[dict[str, Any]],
        Meta(
            description="Categories: `name` and `rows`, by the number that is their colour. Scores: the "
            "`value` at some quantiles; colours are quantiles from 0 to 65534, 65535 is none."
        ),
    ]
    colours: Annotated[list[str], Meta(description="What colours can stand for.")]


class DebugLabelShare(Struct, frozen=True):
    """How frequent a label is among selected rows."""

    label: str
    rows: int
    share: float
    share_of_all: float


class DebugSelection(Struct, frozen=True, kw_only=True):
    """Rows inside a polygon of the map."""

    rows: int
    all_rows: int
    labels: Annotated[list[DebugLabelShare], Meta(description="The 10 most frequent.")]
    findings: Annotated[dict[str, int], Meta(description="How many of the rows are in one, by kind.")]
    first: Annotated[list[int], Meta(description="The first 1,000 rows, the most doubtful first.")]


class DebugComparison(Struct, frozen=True, kw_only=True):
    """Two analyses of one data set."""

    name: str
    before: dict[str, Any]
    after: dict[str, Any]
    scores: Annotated[dict[str, Any], Meta(description="By kind: means, rows that got worse, worst slices.")]
    findings: Annotated[dict[str, Any], Meta(description="By kind: before, after, new and gone.")]


class DebugSuggestion(Struct, frozen=True, kw_only=True):
    """A row to label next."""

    row: int
    external_id: str | None
    text: str | None
    label: str | None
    predicted: str | None
    confidence: float | None
    margin: float | None
    why: str


class DebugSuggestions(Struct, frozen=True):
    """Rows to label next, the most useful first."""

    rows: list[DebugSuggestion]


class NewReview(Struct, frozen=True, forbid_unknown_fields=True):
    """A decision about a row."""

    row: int
    action: Annotated[
        Action,
        Meta(
            description="`relabel` with `label`; `confirm`: the label is right; `drop`: leave the row out; "
            "`keep`; `annotate_next`; `undo` takes the last one back."
        ),
    ]
    label: Annotated[str, Meta(max_length=1000)] | None = None
    note: Annotated[str, Meta(max_length=10_000)] | None = None
    version: (
        Annotated[int, Meta(ge=1, le=2**31 - 1, description="The analysis that was looked at.")] | None
    ) = None


class NewReviews(Struct, frozen=True, forbid_unknown_fields=True):
    """Decisions about rows: all are stored, or none."""

    reviews: Annotated[list[NewReview], Meta(min_length=1, max_length=1000)]
    unchanged_since: (
        Annotated[
            int,
            Meta(
                ge=-1,
                le=2**40,
                description="Number of the last review that you know of: 409 where a row was reviewed since. "
                "null does not ask.",
            ),
        ]
        | None
    ) = None


class DebugReviews(Struct, frozen=True):
    """Reviews in the order of decision."""

    reviews: list[DebugReview]
    next_after: Annotated[int | None, Meta(description="`after` of the next page; null on the last.")] = None
