"""One annotated row, checked: what a record says once its fields have a meaning."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from debugger.formats.fields import ABSENT, VECTORS, FieldError, FieldMap
from debugger.formats.json_records import parse_json
from debugger.formats.records import MAX_ID, MAX_LABEL, MAX_TEXT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from debugger.formats.records import Record

USAGES: Final[Mapping[str, str | None]] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "validate", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
    **dict.fromkeys(("", "none", "null"), None),
}
TRUTH: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("true", "1", "1.0", "yes"), True),
    **dict.fromkeys(("false", "0", "0.0", "no"), False),
}
_MOST_DIMS: Final = 100_000
_LARGEST: Final = float(np.finfo(np.float32).max)


class Row(NamedTuple):
    """One row.

    Attributes
    ----------
    record
        Number of its record in the file, 0-based.
    external_id, text, label, usage, score, group
        As the record says; None where it says nothing. `usage` is ``train``, ``validation`` or ``test``.
    complete
        Whether people are done with it; by default whether it has a label.
    vectors
        float32, shape (d,) each, by name.
    """

    record: int
    external_id: str | None
    text: str | None
    label: str | None
    complete: bool
    usage: str | None
    score: float | None
    group: str | None
    vectors: Mapping[str, NDArray[np.float32]]


class Refused(NamedTuple):
    """A record that is no row.

    Attributes
    ----------
    line
        Where it lies, as `Record.line`.
    field
        Which meaning is at fault; empty for the record as a whole.
    reason, remedy
        What was expected and found, and what to do.
    """

    line: int
    field: str
    reason: str
    remedy: str


class _FaultyError(ValueError):
    def __init__(self, field: str, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.field, self.reason, self.remedy = field, reason, remedy


class RowReader:
    """Makes rows of records.

    Parameters
    ----------
    fields
        What the records' fields mean.
    """

    def __init__(self, fields: FieldMap) -> None:
        self._fields = fields
        self._dims: dict[str, int] = {}

    def read(self, record: Record) -> Row | Refused:
        """The row of a record, or why there is none."""
        if record.values is None:
            return Refused(record.line, "", record.reason, "Correct the record.")
        try:
            found = self._fields.read(record.values)
            label = _label(found.get("label"))
            return Row(
                record=record.number,
                external_id=_id(found.get("id")),
                text=_text(found.get("text")),
                label=label,
                complete=read_complete(found.get("complete"), default=label is not None),
                usage=_usage(found.get("usage")),
                score=_score(found.get("score")),
                group=_short("group", found.get("group")),
                vectors={
                    name: v for name in VECTORS if (v := self._vector(name, found.get(name))) is not None
                },
            )
        except FieldError as error:
            return Refused(record.line, "", str(error), "Correct the record, or map another field.")
        except _FaultyError as error:
            return Refused(record.line, error.field, error.reason, error.remedy)

    def _vector(self, name: str, value: Any) -> NDArray[np.float32] | None:
        if is_missing(value):
            return None
        remedy = "Give a list of finite numbers, of one length in all rows."
        if isinstance(value, str):
            try:
                value = parse_json(value)
            except ValueError as error:
                raise _FaultyError(
                    name, f"expected a list of numbers, found {_shown(value)}", remedy
                ) from error
        try:
            wide = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise _FaultyError(name, f"expected a list of numbers, found {_shown(value)}", remedy) from error
        if wide.ndim != 1 or not 1 <= len(wide) <= _MOST_DIMS:
            raise _FaultyError(name, f"expected a list of numbers, found shape {wide.shape}", remedy)
        if np.isnan(wide).all():
            return None
        if not (np.abs(wide) <= _LARGEST).all():  # NaN and infinity, too
            raise _FaultyError(name, "expected finite numbers, found others", remedy)
        expected = self._dims.setdefault(name, len(wide))
        if len(wide) != expected:
            reason = f"expected {expected} numbers as in the rows before, found {len(wide)}"
            raise _FaultyError(name, reason, remedy)
        return wide.astype(np.float32)


def is_missing(value: Any) -> bool:
    """Whether a record says nothing: no such field, null, NaN, or an empty string."""
    if value is None or value is ABSENT or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return _checked("text", value, MAX_TEXT)
    if is_missing(value):
        return None
    return _checked("text", _scalar("text", value, "Give a string."), MAX_TEXT)


def _label(value: Any) -> str | None:
    if is_missing(value):
        return None
    text = value if isinstance(value, str) else _scalar("label", value, "Give one label a row, as a string.")
    return _checked("label", text.strip(), MAX_LABEL)


def _id(value: Any) -> str | None:
    return _short("id", value)


def _short(field: str, value: Any) -> str | None:
    if is_missing(value):
        return None
    text = value if isinstance(value, str) else _scalar(field, value, "Give a number or a string.")
    return _checked(field, text, MAX_ID)


def _scalar(field: str, value: Any, remedy: str) -> str:
    if isinstance(value, bool | int | float):
        return str(value)
    raise _FaultyError(field, f"expected a string, found {_shown(value)}", remedy)


def _checked(field: str, text: str, longest: int) -> str:
    if len(text) > longest:
        reason = f"expected at most {longest:,} characters, found {len(text):,}"
        raise _FaultyError(field, reason, "Shorten it, or leave the row out.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"{text[error.start]!r} at character {error.start + 1:,}"
        raise _FaultyError(
            field, f"expected Unicode text, found {found}", "Write the file in UTF-8."
        ) from error
    return text


def _usage(value: Any) -> str | None:
    if is_missing(value):
        return None
    found = USAGES.get(value.strip().lower(), ABSENT) if isinstance(value, str) else ABSENT
    if found is ABSENT:
        reason = f"expected training, validation, testing or nothing, found {_shown(value)}"
        raise _FaultyError("usage", reason, "Correct it, or leave the field out: --field usage=")
    return found if isinstance(found, str) else None


def read_complete(value: Any, *, default: bool) -> bool:
    """Whether people are done with a row; `default` where the record says nothing."""
    if is_missing(value):
        return default
    if isinstance(value, bool):
        return value
    found = TRUTH.get(str(value).strip().lower())
    if found is None:
        reason = f"expected true or false, found {_shown(value)}"
        raise _FaultyError("complete", reason, "Correct it, or leave the field out: --field complete=")
    return found


def _score(value: Any) -> float | None:
    if is_missing(value):
        return None
    remedy = "Give a finite number, or leave the field out: --field score="
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _FaultyError("score", f"expected a number, found {_shown(value)}", remedy) from error
    if not math.isfinite(number):
        raise _FaultyError("score", f"expected a finite number, found {_shown(value)}", remedy)
    return number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
