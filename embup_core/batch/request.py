"""What can be known of a batch before it starts, and is refused at once."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embup_core.batch.bad_rows import bad_row
from embup_core.batch.inputs.formats import open_reader
from embup_core.batch.inputs.input_file import OpenInput, no_rows, open_input
from embup_core.batch.outputs.encoding import encoder_for
from embup_core.batch.outputs.output_files import OutputFiles
from embup_core.batch.outputs.part_file import output_error
from embup_core.batch.outputs.publication import already_exists
from embup_core.errors import OutputError
from embup_core.files.readable import close_file, status_of
from embup_core.object_store.stand_in import open_anywhere

if TYPE_CHECKING:
    from embup_core.batch.spec import BatchSpec
    from embup_core.errors import BadRowError
    from embup_core.files.held_folder import Folder, FolderEntry, OpenFolder
    from embup_core.files.readable import Readable

_ROWS_LOOKED_AT: Final = 64
_GIGABYTE: Final = 1e9


@dataclass(frozen=True, slots=True)
class InputFacts:
    """What a look at the start of the input says.

    Attributes
    ----------
    size_bytes
        The input's size.
    estimated_rows
        What the file says of itself, or from the mean length of its first lines.
    estimated_output_bytes
        What that many rows take when written.
    estimated_disk_bytes
        What they take on the disk at most, until the output is in place.
    notices
        What a user should know of how the input was understood: reordered or ignored columns.
    """

    size_bytes: int
    estimated_rows: int
    estimated_output_bytes: int
    estimated_disk_bytes: int
    notices: tuple[str, ...] = ()


def check_request(
    spec: BatchSpec,
    *,
    input_dims: int,
    output_dims: int,
    open_folder: OpenFolder = open_anywhere,
    replace_parts: bool = True,
) -> InputFacts:
    """Look at input and output of a batch; touch nothing.

    Under "fail" the first rows must be good; under "nan" one of them must be.

    Parameters
    ----------
    spec
        The batch.
    input_dims, output_dims
        Numbers in a row of the input and of the output.
    open_folder
        How the folders of its files are opened.
    replace_parts
        Whether part files that lie beside the output are leftovers of its own earlier runs.

    Raises
    ------
    InputFileError
        The input is missing, unreadable, empty, a link or not a regular file.
    BadRowError
        The first rows cannot be used.
    OutputError
        The output is the input, exists, cannot be written, or has no space.
    """
    descriptor = open_input(spec.input_path, open_folder)
    try:
        with OutputFiles.open(spec, open_folder) as files:
            require_apart(files, status_of(descriptor))
            require_writable(spec, files)
            if not replace_parts:
                files.require_no_parts()
            encoder = encoder_for(spec.output_path, output_dims)
            size_bytes = status_of(descriptor).st_size
            rows, notices = _look_at_rows(spec, descriptor, input_dims)
            facts = InputFacts(
                size_bytes,
                rows,
                rows * encoder.row_bytes,
                files.disk_bytes(rows * encoder.disk_row_bytes),
                notices,
            )
            _require_space(files.folder, facts)
    finally:
        close_file(descriptor)
    return facts


def require_apart(files: OutputFiles, input_status: os.stat_result) -> None:
    """Check that no file the batch writes is the one it reads, under this or another name.

    Raises
    ------
    OutputError
        One is.
    """
    for entry in (files.output, files.part, files.converting, files.errors, files.errors_part):
        try:
            same = os.path.samestat(entry.target_status(), input_status)
        except OSError:
            continue
        if same:
            raise OutputError(
                f"{entry.path} is the input itself, which the batch would overwrite.",
                remedy="Choose another output.",
            )


def require_writable(spec: BatchSpec, files: OutputFiles) -> None:
    """Check that the output can appear: its folder takes new files, and its name is free or may be replaced.

    Raises
    ------
    OutputError
        It cannot.
    """
    if not files.folder.is_writable():
        raise OutputError(
            f"the output folder {files.folder.path} is not writable.", remedy="Check its permissions."
        )
    require_free_name(files.output, overwrite=spec.overwrite)
    _require_one_name(files.output)
    if spec.on_bad_row == "nan":
        require_free_name(files.errors, overwrite=spec.overwrite)
        _require_one_name(files.errors)
    # The longest name of them: known now rather than at the first refused row.
    _status(files.errors_part)


def require_free_name(entry: FolderEntry, *, overwrite: bool) -> None:
    """Check that a name is free, or that of a regular file that may be replaced.

    Raises
    ------
    OutputError
        It is neither.
    """
    status = _status(entry)
    if status is None:
        return
    if not stat.S_ISREG(status.st_mode):
        raise OutputError(f"{entry.path} exists and is not a regular file.", remedy="Choose another output.")
    if not overwrite:
        raise already_exists(entry.path)


def _require_one_name(entry: FolderEntry) -> None:
    """Check that what is to be replaced in a confined folder is known by no other name."""
    status = _status(entry) if entry.folder.confined else None
    if status is not None and status.st_nlink > 1:
        raise OutputError(
            f"{entry.path} exists and has {status.st_nlink} names (hard links), expected one.",
            remedy="Remove it or choose another output.",
        )


def _status(entry: FolderEntry) -> os.stat_result | None:
    """Return the status of what has the name itself, or None."""
    try:
        return entry.status()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise output_error(entry.path, error) from error


def _look_at_rows(spec: BatchSpec, descriptor: Readable, dims: int) -> tuple[int, tuple[str, ...]]:
    """Check the first rows; return how many the input may have, and the reader's notices."""
    refusals: list[BadRowError] = []
    rows = 0
    # One row a chunk: the first refused row ends it, however long the ones after are.
    reader = open_reader(OpenInput(spec.input_path, descriptor, input_dims=dims, chunk_rows=1))
    while rows < _ROWS_LOOKED_AT and (block := reader.read_block()) is not None:
        rows += 1
        if not block.rows:
            refusals.append(bad_row(spec, block.first_line, block.why_empty or "blank line"))
        else:
            bad = block.parse(dims).bad
            refusals.extend(bad_row(spec, one.line, one.reason, one.raw) for one in bad)
        if refusals and spec.on_bad_row == "fail":
            raise refusals[0]
        if not block.rows:
            break
    if not rows:
        raise no_rows(spec.input_path)
    if len(refusals) == rows:
        raise refusals[0]
    return reader.estimated_rows(), reader.notices


def _require_space(folder: Folder, facts: InputFacts) -> None:
    """Check that the folder's disk has room for the output."""
    free_bytes = folder.free_bytes()
    if free_bytes < facts.estimated_disk_bytes:
        until = " until it is in place" * (facts.estimated_disk_bytes > facts.estimated_output_bytes)
        raise OutputError(
            f"the output takes about {facts.estimated_disk_bytes / _GIGABYTE:.2f} GB{until}"
            f" ({facts.estimated_rows} rows), and {free_bytes / _GIGABYTE:.2f} GB are free in {folder.path}.",
            remedy="Free some space or choose another disk.",
            code="no_space",
        )
