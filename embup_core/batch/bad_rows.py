"""Refused rows of a batch: the report on them, and the limit on their number."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec

from embup_core.batch.inputs.formats import fault_of, format_of, row_remedy
from embup_core.batch.inputs.input_file import no_rows
from embup_core.batch.outputs.part_file import PartFile
from embup_core.errors import BadRowError
from embup_core.text.parser import RAW_CHARACTERS

if TYPE_CHECKING:
    from embup_core.batch.spec import BatchSpec
    from embup_core.files.held_folder import FolderEntry
    from embup_core.text.parser import BadRow


def bad_row(
    spec: BatchSpec, line: int, reason: str, raw: str = "", *, code: str | None = None
) -> BadRowError:
    """Return the error for a row that ends the batch."""
    remedy = "Correct the row, or ask for nans in its place (on_bad_row: nan)."
    if code == "too_many_bad_rows":
        remedy = "Correct the rows, or raise max_bad_rows."
    elif spec.on_bad_row == "nan":
        remedy = row_remedy(spec.input_path)
    if (fault := fault_of(spec.input_path, raw)) is not None:
        reason, remedy = f"{reason} ({fault.words})", fault.remedy
    unit = format_of(spec.input_path).unit
    return BadRowError(line, reason, raw, file=spec.input_path, unit=unit, remedy=remedy, code=code)


def append_report(entry: FolderEntry, report: PartFile | None, bad: tuple[BadRow, ...]) -> PartFile:
    """Append refused rows to the report, which the first of them creates, and return it.

    Raises
    ------
    OutputError
        It cannot be written, or its name was taken meanwhile.
    """
    lines = [msgspec.json.encode({"line": one.line, "reason": one.reason, "raw": one.raw}) for one in bad]
    text = b"".join(line + b"\n" for line in lines)
    if report is not None:
        report.append(text)
        return report
    report = PartFile.create(entry)
    try:
        report.append(text)
    except BaseException:
        report.remove()  # the run holds no reference to it yet
        raise
    return report


def require_good_row(spec: BatchSpec, report: PartFile | None, *, rows: int, failed_rows: int) -> None:
    """Check that one row at least could be answered.

    Raises
    ------
    InputFileError
        There is none.
    BadRowError
        All were refused.
    """
    if failed_rows < rows:
        return
    if not rows:
        raise no_rows(spec.input_path)
    line, reason, raw = _first_refusal(report)
    reason = f"{reason}; none of the {rows} rows can be used"
    raise bad_row(spec, line, reason, raw, code="no_good_row")


def require_few_bad_rows(
    spec: BatchSpec, report: PartFile | None, *, rows: int, failed_rows: int, most_to_come: int | None
) -> None:
    """Check the limit on refused rows: a count at once, a share when no row to come can mend it.

    Parameters
    ----------
    spec, report
        The batch, and its report by now.
    rows, failed_rows
        Rows answered by now, and how many of them by nans.
    most_to_come
        How many good rows can follow; None where that is not known.

    Raises
    ------
    BadRowError
        There are too many.
    """
    limit = spec.max_bad_rows
    if limit is None or not failed_rows:
        return
    allowed: float | Fraction = limit
    if 0 < limit < 1:
        if most_to_come is None:
            return
        # Exact: as a product of floats, 0.29 of 100 rows are fewer than 29.
        allowed = Fraction(repr(limit)) * (rows + most_to_come)
    if failed_rows <= allowed:
        return
    line, reason, raw = _first_refusal(report)
    reason += (
        f"; this is the first of {failed_rows} bad rows among {rows},"
        f" more than max_bad_rows allows ({limit:.15g})"
    )
    raise bad_row(spec, line, reason, raw, code="too_many_bad_rows")


def _first_refusal(report: PartFile | None) -> tuple[int, str, str]:
    """Return line, reason and text of the first refused row."""
    assert report is not None  # noqa: S101 - a row was refused
    # Escapes take up to six bytes a character.
    first = msgspec.json.decode(report.read(8 * RAW_CHARACTERS).partition(b"\n")[0])
    return first["line"], first["reason"], first["raw"]
