"""What a batch is asked to do, and the names of the files it touches."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from embup_core.errors import InputError, InputFileError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

# The last bits of a row depend on how many are decoded at once: with one number for all who run batches, the
# same file and model give the same bytes. More rows decode a little faster and leave a core's cache.
DEFAULT_CHUNK_ROWS: Final = 128

_OWN_ENDINGS: Final = (".part", ".errors.jsonl")
# What is left of a path that can only be a folder's.
_FOLDERS: Final = ("", "..")

BadRowPolicy = Literal["fail", "nan"]


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """One batch.

    Attributes
    ----------
    input_path
        A file of rows, in the format of its ending: see `embup_core.batch.inputs.formats`.
    output_path
        Where the answer appears once it is whole, in the format of its ending: see
        `embup_core.batch.outputs.encoding`. Row i answers row i.
    on_bad_row
        "fail": the first refused row ends the batch. "nan": it is answered by a row of nans and reported in
        `errors_path`.
    overwrite
        Whether the output may replace a file.
    max_bad_rows
        With "nan", how many rows may be refused before the batch fails: 1 or more is a count, 0 allows none,
        between 0 and 1 is a share of all rows. None: all but one.

    Raises
    ------
    InputFileError, OutputError
        A path that no file can have.
    InputError
        `max_bad_rows` is negative, a fraction above 1, or given with "fail".
    """

    input_path: Path
    output_path: Path
    on_bad_row: BadRowPolicy = "fail"
    overwrite: bool = False
    max_bad_rows: float | None = None

    def __post_init__(self) -> None:
        if not _can_be_a_path(self.input_path):
            raise InputFileError("the input path holds a character that no path can have")
        if self.input_path.name in _FOLDERS:
            raise InputFileError(f"{self.input_path} is not a regular file.", remedy="Name a file of rows.")
        if not _can_be_a_path(self.output_path) or self.output_path.name in _FOLDERS:
            raise OutputError("the output path is not a file's path")
        if self.output_path.name.endswith(_OWN_ENDINGS):
            raise OutputError(
                f"{self.output_path}: names that end in {' or '.join(_OWN_ENDINGS)} are those of files that"
                " grow beside an output.",
                remedy="Choose another output.",
            )
        require_limit(self.on_bad_row, self.max_bad_rows)

    @property
    def part_path(self) -> Path:
        """Where the output grows."""
        return self._beside(".part")

    @property
    def converting_path(self) -> Path:
        """Where an output that is made of the part grows."""
        return self._beside(".converting.part")

    @property
    def errors_path(self) -> Path:
        """Where the refused rows are reported: one JSON object a line, with line, reason and raw text."""
        return self._beside(".errors.jsonl")

    @property
    def errors_part_path(self) -> Path:
        """Where the report grows."""
        return self._beside(".errors.jsonl.part")

    def _beside(self, ending: str) -> Path:
        return self.output_path.with_name(self.output_path.name + ending)


def require_limit(on_bad_row: BadRowPolicy, max_bad_rows: float | None) -> None:
    """Check a limit of bad rows; see `BatchSpec`.

    Raises
    ------
    InputError
        It is negative, a fraction above 1, or given with "fail".
    """
    if max_bad_rows is None:
        return
    if on_bad_row != "nan":
        raise InputError(
            "max_bad_rows was given, and the first bad row fails this batch.",
            remedy='Ask for nans in place of bad rows (on_bad_row "nan"), or leave max_bad_rows out.',
        )
    if not (0 <= max_bad_rows < 1 or (max_bad_rows >= 1 and float(max_bad_rows).is_integer())):
        raise InputError(
            f"max_bad_rows: expected a whole number or a share between 0 and 1, found {max_bad_rows}.",
            remedy="100 allows a hundred bad rows, 0.01 one in a hundred.",
        )


def _can_be_a_path(path: Path) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False
