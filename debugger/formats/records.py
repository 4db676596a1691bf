"""Records of a file as they come: where each lies, what it holds, and what cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

LONGEST_RECORD: Final = 32 << 20
"""Characters of one record at most."""
MAX_TEXT: Final = 2_000_000
MAX_LABEL: Final = 1_000
MAX_ID: Final = 1_000


@dataclass(frozen=True, slots=True)
class Record:
    """One record.

    Attributes
    ----------
    number
        0-based, counted over all records of the file, unusable ones included.
    line
        1-based line of the file that it begins in, or the record's own number where lines say nothing.
    values
        Values by field; None where the record cannot be read.
    reason
        Why it cannot be read.
    text
        As it stands in the file; empty for formats that are not text.
    """

    number: int
    line: int
    values: Mapping[str, Any] | None
    reason: str = ""
    text: str = ""


class RecordFile(Protocol):
    """A file of records in one format."""

    format: ClassVar[str]
    ending: ClassVar[str]
    unit: ClassVar[str]
    """What `Record.line` counts: ``line`` or ``row``."""

    def records(self, fields: tuple[str, ...] | None = None) -> Iterator[Record]:
        """Read the records in their order; only these fields where they are named and the format can.

        Raises
        ------
        InputFileError
            The rest of the file cannot be read.
        """

    def fields(self) -> list[str] | None:
        """Names of the fields where the file states them; None where each record has its own."""

    def rewrite(self, target: Path, keep: Callable[[int], bool], change: Callable[[Record], Any]) -> int:
        """Write the records again, in their order and format.

        Parameters
        ----------
        target
            The file to write.
        keep
            Whether the record of a number is written.
        change
            Gives the values that differ, by field, or None where a record stays as it is.

        Returns
        -------
        How many records were written.
        """


def is_unicode(text: str) -> bool:
    """Whether a text can be stored: it has no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def unreadable(path: Path, reason: object, remedy: str) -> InputFileError:
    """The error of a file that cannot be read to its end."""
    return InputFileError(f"{path}: {reason}.", remedy=remedy)
