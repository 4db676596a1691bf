"""Reviews: what people decide about rows. A log that only grows; undoing is an entry, too.

Reviews change nothing of what was imported: `debugger.exports` applies them to what it writes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from debugger.formats.records import MAX_LABEL
from debugger.store import log
from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from debugger.store.names import DatasetFolder

Action: TypeAlias = Literal["relabel", "confirm", "drop", "keep", "annotate_next", "undo"]
"""Give another label; the label is right; leave the row out; keep it; have it labelled next; take back."""
ACTIONS: Final[tuple[str, ...]] = get_args(Action)
MOST_AT_ONCE: Final = 100_000
_MAX_NOTE: Final = 10_000
_MAX_REVIEWER: Final = 200


@dataclass(frozen=True, kw_only=True)
class Review:
    """One decision about one row.

    Attributes
    ----------
    row
        Number of the row.
    action
        What was decided.
    label
        New label of a relabel, else None.
    note
        In the reviewer's words, or None.
    reviewer
        Who decided.
    version
        Analysis that was looked at; None where there was none.
    reviewed_at
        When, UTC, ISO 8601.
    seq
        Number in the order of decision, from 1; 0 until it is stored.
    """

    row: int
    action: Action
    reviewer: str
    label: str | None = None
    note: str | None = None
    version: int | None = None
    reviewed_at: str = ""
    seq: int = 0


def add_reviews(
    folder: DatasetFolder,
    reviews: Sequence[Review],
    *,
    rows: int,
    unchanged_since: int | None = None,
) -> list[Review]:
    """Store reviews; they survive a kill and a power cut once this returns.

    Parameters
    ----------
    folder
        Of the data set.
    reviews
        At most 100,000.
    rows
        How many rows the data set has.
    unchanged_since
        Number of the last review that the reviewer knew of; None does not ask.

    Returns
    -------
    The reviews as stored, with their numbers and times.

    Raises
    ------
    InputError
        A review is not complete, names no row, or undoes nothing; or, with the code ``conflict``, one of the
        rows was reviewed after `unchanged_since`. None is stored.
    OutputError
        They cannot be written.
    """
    if len(reviews) > MOST_AT_ONCE:
        raise InputError(f"Expected at most {MOST_AT_ONCE:,} reviews at once, found {len(reviews):,}.")
    for review in reviews:
        _check(review, rows)
    now = datetime.now(UTC).replace(tzinfo=None).isoformat()
    concerned = {review.row for review in reviews}

    def check(_last: int) -> None:
        stored = [review for review in read_reviews(folder) if review.row in concerned]
        if unchanged_since is not None:
            later = next((review for review in stored if review.seq > unchanged_since), None)
            if later is not None:
                raise InputError(
                    f"Row {later.row} was reviewed by {later.reviewer} meanwhile: {later.action}.",
                    remedy="Look at it again.",
                    code="conflict",
                )
        held = _held(stored)
        for review in reviews:
            if review.action == "undo" and not held.get(review.row):
                raise InputError(
                    f"There is no review of row {review.row} to undo.", remedy="Look at it with show."
                )
            _apply(held, review)

    given = [asdict(review) | {"reviewed_at": now} for review in reviews]
    for entry in given:
        del entry["seq"]
    last = log.append(folder.review_log, given, check=check)
    first = last - len(given) + 1
    return [Review(**entry, seq=seq) for seq, entry in enumerate(given, first)]


def read_reviews(folder: DatasetFolder, *, after: int = 0) -> Iterator[Review]:
    """Read the stored reviews whose number is above `after`, in their order."""
    return (Review(**entry) for entry in log.entries(folder.review_log, after=after))


def decisions(reviews: Iterable[Review]) -> dict[int, Review]:
    """The reviews that hold: by row, the last one that was not undone.

    An undo takes the last review of its row back that holds; a second one the review before.
    """
    return {row: of_row[-1] for row, of_row in _held(reviews).items() if of_row}


def _held(reviews: Iterable[Review]) -> dict[int, list[Review]]:
    """By row, the reviews that were not undone, oldest first."""
    held: dict[int, list[Review]] = {}
    for review in reviews:
        _apply(held, review)
    return held


def _apply(held: dict[int, list[Review]], review: Review) -> None:
    of_row = held.setdefault(review.row, [])
    if review.action != "undo":
        of_row.append(review)
    elif of_row:
        of_row.pop()


def label_after(label: str | None, decision: Review | None) -> str | None:
    """The label of a row once a decision is applied; a dropped row has none."""
    if decision is None:
        return label
    if decision.action == "relabel":
        return decision.label
    return None if decision.action == "drop" else label


def as_json(review: Review) -> Mapping[str, Any]:
    """JSON values by name."""
    return asdict(review)


def _check(review: Review, rows: int) -> None:
    if review.action not in ACTIONS:
        raise InputError(
            f"Expected an action of {', '.join(ACTIONS)}, found {review.action!r}.",
            remedy="Choose one of them.",
        )
    if not 0 <= review.row < rows:
        raise InputError(
            f"There is no row {review.row}: there are 0 to {rows - 1:,}.",
            remedy="Take the number from a list.",
        )
    if review.action == "relabel" and not (review.label or "").strip():
        raise InputError("A relabel needs the new label.", remedy="Give it with --label.")
    if review.action != "relabel" and review.label is not None:
        raise InputError(f"{review.action} takes no label.", remedy="Give a label with relabel only.")
    for name, text, longest in (
        ("label", review.label, MAX_LABEL),
        ("note", review.note, _MAX_NOTE),
        ("reviewer", review.reviewer, _MAX_REVIEWER),
    ):
        if text is None:
            continue
        if len(text) > longest:
            raise InputError(f"Expected a {name} of at most {longest:,} characters, found {len(text):,}.")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"The {name} is no Unicode text: {text[:40]!r}.", remedy="Use UTF-8.") from error
