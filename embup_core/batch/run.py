"""One batch at work: read a chunk, decode it, write it; make that durable; publish it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol, Self

import msgspec
import numpy as np
import numpy.typing as npt

from embup_core.batch.checkpoint import Checkpoint, InputFingerprint
from embup_core.batch.input_file import no_rows, open_input, require_same_file, require_unchanged
from embup_core.batch.part_file import PartFile
from embup_core.batch.publication import (
    finish_publication,
    has_inode,
    move_into_place,
    remove_file,
    sync_output_folder,
)
from embup_core.batch.request import bad_row, require_apart, require_free_name, require_writable
from embup_core.batch.spec import DEFAULT_CHUNK_ROWS
from embup_core.errors import InputFileError, JobConflictError
from embup_core.text.formatter import format_nan_row, format_rows
from embup_core.text.parser import RAW_CHARACTERS, BadRow
from embup_core.text.reader import Chunk, RowReader

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.batch.spec import BatchSpec

Float32Rows = npt.NDArray[np.float32]

# The last bits of a matrix product depend on its row count, and one row takes another route altogether.
_FEWEST_DECODED_ROWS: Final = 2


class RowUpsampler(Protocol):
    """What the engine needs of an upsampler."""

    @property
    def version(self) -> str:
        """The published model's name."""

    @property
    def input_dims(self) -> int:
        """Values of a short row."""

    @property
    def output_dims(self) -> int:
        """Values of a long row."""

    def upsample(self, z: Float32Rows, /) -> tuple[Float32Rows, npt.NDArray[np.float32]]:
        """Return unit rows, shape (n, output_dims), and a confidence each, for z of shape (n, input_dims)."""


class BatchRun:
    """A batch from its first row, or its last checkpoint, to its published output.

    `step` until it returns False, `sync` now and then, `publish` at the end. A run belongs to one caller at a
    time: its methods may be called from different threads, never at once. After an error other than
    from `publish` it only can be closed or abandoned; a new one goes on from the last checkpoint.

    The same input, model and `chunk_rows` give the same bytes, however often the run was cut off.

    Parameters
    ----------
    spec
        What to do.
    upsampler
        The model, the same for the whole batch.
    checkpoint
        Where to go on; None starts anew and discards part files of ended runs.
    chunk_rows
        Rows of one step; a checkpoint's own number wins.

    Raises
    ------
    InputFileError
        The input is missing, empty, no regular file, or not the one of the checkpoint.
    OutputError
        The output is the input, exists, cannot be written, or the part file is not the checkpoint's.
    JobConflictError
        A live run writes to this output, or the checkpoint is of another model.
    """

    def __init__(
        self,
        spec: BatchSpec,
        upsampler: RowUpsampler,
        *,
        checkpoint: Checkpoint | None = None,
        chunk_rows: int = DEFAULT_CHUNK_ROWS,
    ) -> None:
        if chunk_rows < 1:
            raise ValueError(f"expected chunk_rows of at least 1, found {chunk_rows}")
        if checkpoint is not None and checkpoint.model_version != upsampler.version:
            raise JobConflictError(
                f"the batch was begun with model {checkpoint.model_version}, not {upsampler.version}.",
                remedy="Go on with its own model, or start it anew.",
            )
        self._spec = spec
        self._upsampler = upsampler
        self._chunk_rows = chunk_rows if checkpoint is None else checkpoint.chunk_rows
        self._rows = 0 if checkpoint is None else checkpoint.rows
        self._failed_rows = 0 if checkpoint is None else checkpoint.failed_rows
        self._input_offset = 0 if checkpoint is None else checkpoint.input_offset
        self._output: PartFile | None = None
        self._errors: PartFile | None = None
        self._folder_synced = False
        self._published_as: Checkpoint | None = None
        self._broken = False
        self._nan_line = np.frombuffer(format_nan_row(upsampler.output_dims), dtype=np.uint8)
        self._input = -1
        if checkpoint is not None and finish_publication(spec, checkpoint):
            self._fingerprint = checkpoint.input_fingerprint
            self._published_as = checkpoint
            return
        self._input = open_input(spec.input_path)
        try:
            self._open(checkpoint)
        except BaseException:
            self.close()
            raise

    def _open(self, checkpoint: Checkpoint | None) -> None:
        spec = self._spec
        self._fingerprint = InputFingerprint.of(self._input)
        if checkpoint is not None and checkpoint.input_fingerprint != self._fingerprint:
            raise InputFileError(
                f"input changed: {spec.input_path} is not the file the batch was begun with.",
                remedy="Start the batch anew.",
            )
        self._reader = RowReader(
            self._input,
            dims=self._upsampler.input_dims,
            chunk_rows=self._chunk_rows,
            offset=self._input_offset,
            first_line=self._rows + 1,
        )
        if self._rows == 0 and self._reader.exhausted:
            raise no_rows(spec.input_path)
        require_apart(spec, os.fstat(self._input))
        if checkpoint is None:
            require_writable(spec)
            self._output = PartFile.create(spec.part_path)
            PartFile.discard(spec.errors_part_path)
            return
        require_free_name(spec.output_path, overwrite=spec.overwrite)
        self._output = PartFile.reopen(
            spec.part_path, size_bytes=checkpoint.output_bytes, inode=checkpoint.output_inode
        )
        if checkpoint.errors_inode:
            # Cut off between the two renames of a publication: the first one is taken back.
            if has_inode(spec.errors_path, checkpoint.errors_inode):
                move_into_place(spec.errors_path, spec.errors_part_path, overwrite=True)
            self._errors = PartFile.reopen(
                spec.errors_part_path, size_bytes=checkpoint.errors_bytes, inode=checkpoint.errors_inode
            )
        else:
            PartFile.discard(spec.errors_part_path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def rows(self) -> int:
        """Rows answered, those answered by nans included; durable or not."""
        return self._rows

    @property
    def failed_rows(self) -> int:
        """Rows answered by nans."""
        return self._failed_rows

    @property
    def bytes_done(self) -> int:
        """How far the input has been read."""
        return self._input_offset

    @property
    def bytes_total(self) -> int:
        """The input's size."""
        return self._fingerprint.size_bytes

    @property
    def published(self) -> bool:
        """Whether the output is in place."""
        return self._published_as is not None

    def step(self) -> bool:
        """Answer one chunk of rows; return whether rows are left.

        Raises
        ------
        BadRowError
            A row was refused, and the batch is to fail on that.
        InputFileError
            The input was written to, cut or cannot be read.
        OutputError
            The output cannot be written.
        """
        if self.published:
            return False
        output = self._require_usable()
        self._broken = True
        chunk = self._reader.read_chunk()
        require_unchanged(self._spec.input_path, self._input, self._fingerprint)
        if chunk is not None:
            if chunk.bad and self._spec.on_bad_row == "fail":
                bad = chunk.bad[0]
                raise bad_row(self._spec, bad.line, bad.reason, bad.raw)
            self._write(output, chunk)
        self._broken = False
        return not self._reader.exhausted

    def sync(self) -> Checkpoint:
        """Bring all answered rows to disk, and return the checkpoint that is durable now.

        Raises
        ------
        InputFileError
            The input was replaced or written to.
        OutputError
            The rows could not be brought to disk.
        """
        if self._published_as is not None:
            return self._published_as
        output = self._require_usable()
        self._broken = True
        require_same_file(self._spec.input_path, self._input, self._fingerprint)
        output.sync()
        if self._errors is not None:
            self._errors.sync()
        if not self._folder_synced:
            # Else a power cut could take the new files' names, and a checkpoint would speak of nothing.
            sync_output_folder(self._spec.output_path.parent)
            self._folder_synced = True
        self._broken = False
        return Checkpoint(
            input_offset=self._input_offset,
            output_bytes=output.size_bytes,
            rows=self._rows,
            failed_rows=self._failed_rows,
            errors_bytes=0 if self._errors is None else self._errors.size_bytes,
            model_version=self._upsampler.version,
            chunk_rows=self._chunk_rows,
            input_fingerprint=self._fingerprint,
            output_inode=output.inode,
            errors_inode=0 if self._errors is None else self._errors.inode,
        )

    def publish(self) -> None:
        """Put the whole output, and the report on refused rows, in place, durably.

        Keep the checkpoint of a `sync` after the last `step` first: with it, a run that is cut off in here is
        recognised as done, or goes on. Again is harmless.

        Raises
        ------
        BadRowError
            No row could be answered: nothing is published.
        OutputError
            The name was taken meanwhile, or the system refuses; the output path is as it was.
        """
        if self.published:
            sync_output_folder(self._spec.output_path.parent)
            return
        self._require_usable()
        if not self._reader.exhausted:
            raise RuntimeError("publish() before step() returned False")
        self._require_a_good_row()
        checkpoint = self.sync()
        spec = self._spec
        # The report first: whoever sees the output sees what it says about it.
        if self._errors is not None:
            move_into_place(spec.errors_part_path, spec.errors_path, overwrite=spec.overwrite)
        elif spec.overwrite:
            remove_file(spec.errors_path)
        try:
            move_into_place(spec.part_path, spec.output_path, overwrite=spec.overwrite)
        except BaseException:
            if self._errors is not None:
                move_into_place(spec.errors_path, spec.errors_part_path, overwrite=True)
            raise
        self._published_as = checkpoint
        self.close()
        sync_output_folder(spec.output_path.parent)

    def close(self) -> None:
        """Let go of all files; the part files stay, for a later run from a checkpoint. Again is harmless."""
        if self._input >= 0:
            os.close(self._input)
            self._input = -1
        for part in (self._output, self._errors):
            if part is not None:
                part.close()

    def abandon(self) -> None:
        """Remove the part files and let go of all files; what is published stays. Again is harmless.

        Raises
        ------
        OutputError
            The system refuses to remove one. All that could be done was done: the run is closed.
        """
        with ExitStack() as each:  # goes on with the others when one raises
            each.callback(self.close)
            if not self.published:
                for part in (self._output, self._errors):
                    if part is not None:
                        each.callback(part.remove)

    def _require_usable(self) -> PartFile:
        if self._broken or self._output is None or self._input < 0:
            raise RuntimeError("this run was closed, published or has failed; start one from a checkpoint")
        return self._output

    def _require_a_good_row(self) -> None:
        if self._failed_rows < self._rows or self._errors is None:
            return
        # Escapes take up to six bytes a character.
        head = self._errors.read_head(8 * RAW_CHARACTERS).partition(b"\n")[0]
        first = msgspec.json.decode(head)
        reason = f"{first['reason']}; none of the {self._rows} rows can be used"
        raise bad_row(self._spec, first["line"], reason, first["raw"])

    def _write(self, output: PartFile, chunk: Chunk) -> None:
        """Append the chunk's answer, then count it."""
        if len(chunk.rows):
            output.append(self._answer(chunk).data)
        if chunk.bad:
            if self._errors is None:
                self._errors = PartFile.create(self._spec.errors_part_path)
                self._folder_synced = False
            self._errors.append(b"".join(_report_line(bad) for bad in chunk.bad))
        self._rows += len(chunk.rows)
        self._failed_rows += len(chunk.bad)
        self._input_offset = chunk.end_offset

    def _answer(self, chunk: Chunk) -> npt.NDArray[np.uint8]:
        """Return the lines, shape (n, bytes of a row), that answer the chunk's rows."""
        count, dims = chunk.rows.shape
        refused = [bad.index_in_chunk for bad in chunk.bad]
        lines = np.empty((count, len(self._nan_line)), dtype=np.uint8)
        if len(refused) < count:
            # Refused rows are decoded as some direction: the count, on which the others' bits depend, stays.
            z = np.full((max(count, _FEWEST_DECODED_ROWS), dims), dims**-0.5, dtype=np.float32)
            z[:count] = chunk.rows
            z[refused] = dims**-0.5
            vectors, _ = self._upsampler.upsample(z)
            lines = format_rows(vectors[:count]).reshape(count, -1)
        lines[refused] = self._nan_line
        return lines


def discard_part_files(spec: BatchSpec, checkpoint: Checkpoint | None = None) -> None:
    """Remove what an ended run of the batch left: for a batch that nobody will go on with.

    Parameters
    ----------
    spec
        The batch.
    checkpoint
        Its last one: then only the files it speaks of are removed, not those of another run.

    Raises
    ------
    OutputError
        The system refuses.
    JobConflictError
        A live run holds them.
    """
    with ExitStack() as each:  # goes on with the other when one raises
        for path, inode in _parts(spec, checkpoint):
            if inode is None or has_inode(path, inode):
                each.callback(PartFile.discard, path)


def _parts(spec: BatchSpec, checkpoint: Checkpoint | None) -> tuple[tuple[Path, int | None], ...]:
    """Return the part files with the identity each must have."""
    return (
        (spec.errors_part_path, None if checkpoint is None else checkpoint.errors_inode),
        (spec.part_path, None if checkpoint is None else checkpoint.output_inode),
    )


def _report_line(bad: BadRow) -> bytes:
    return msgspec.json.encode({"line": bad.line, "reason": bad.reason, "raw": bad.raw}) + b"\n"
