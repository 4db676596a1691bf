"""One batch at work: answer blocks in order, write them; make that durable; publish it."""

from __future__ import annotations

import os
from time import monotonic, thread_time
from typing import TYPE_CHECKING, Self

from embup_core.batch.answering import BlockAnswerer
from embup_core.batch.bad_rows import bad_row, require_few_bad_rows, require_good_row
from embup_core.batch.checkpoint import Checkpoint, InputFingerprint
from embup_core.batch.encoding import encoder_for
from embup_core.batch.folder import open_freely
from embup_core.batch.helpers import HelperPool
from embup_core.batch.input_file import (
    INPUT_CHANGED,
    no_rows,
    open_input,
    require_same_file,
    require_unchanged,
)
from embup_core.batch.inputs import open_reader
from embup_core.batch.output_files import OutputFiles
from embup_core.batch.pipeline import AnswerPipeline
from embup_core.batch.publication import finish_publication_of, sync_output_folder
from embup_core.batch.request import require_apart, require_free_name, require_writable
from embup_core.batch.run_files import PendingSync, RunFiles
from embup_core.batch.spec import DEFAULT_CHUNK_ROWS
from embup_core.batch.tally import Tally
from embup_core.errors import InputFileError, JobConflictError

if TYPE_CHECKING:
    from embup_core.batch.answering import RowBlock, RowUpsampler
    from embup_core.batch.encoding import Bytes
    from embup_core.batch.folder import OpenFolder
    from embup_core.batch.part_file import PartFile
    from embup_core.batch.spec import BatchSpec
    from embup_core.text.parser import BadRow


class BatchRun:
    """A batch from its first row, or its last checkpoint, to its published output.

    `step` until it returns False, `sync` now and then, `publish` at the end. A run belongs to one caller at a
    time: its methods may be called from different threads, never at once, but for `finish_sync`, beside which
    `step` may go on. After an error other than from `publish` it only can be closed or abandoned; a new one
    goes on from the last checkpoint.

    The same input, model and `chunk_rows` give the same bytes, however often the run was cut off.

    Parameters
    ----------
    spec
        What to do.
    upsampler
        The model, the same for the whole batch.
    checkpoint
        Where to go on; None starts anew.
    chunk_rows
        Rows that are decoded at once; a checkpoint's own number wins.
    helpers
        Processes to fork that answer rows beside this one; only while this process has one thread.
    patience_s
        Seconds to wait for a run of the same output that is just ending.
    low_confidence
        Rows below it are counted apart in `take_tally`.
    open_folder
        How the folders of its files are opened.
    replace_parts
        Whether a run that starts anew may take part files that lie there for leftovers, and discard them.

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
        helpers: int = 0,
        patience_s: float = 0.0,
        low_confidence: float = 0.0,
        open_folder: OpenFolder = open_freely,
        replace_parts: bool = True,
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
        self._encoder = encoder_for(spec.output_path, upsampler.output_dims)
        self._chunk_rows = chunk_rows if checkpoint is None else checkpoint.chunk_rows
        self._rows = 0 if checkpoint is None else checkpoint.rows
        self._failed_rows = 0 if checkpoint is None else checkpoint.failed_rows
        self._input_offset = 0 if checkpoint is None else checkpoint.input_offset
        self._bytes_done = 0 if checkpoint is None else checkpoint.bytes_done
        self._helpers: HelperPool | None = None
        self._published_as: Checkpoint | None = None
        self._broken = False
        self._low_confidence = low_confidence
        self._tally = Tally()
        self._sync_s = self._told_sync_s = 0.0
        self._input = -1
        self._open_folder = open_folder
        self._files = RunFiles(spec, self._encoder, open_folder)
        try:
            if checkpoint is not None and finish_publication_of(self._files.names, checkpoint):
                self._fingerprint = checkpoint.input_fingerprint
                self._published_as = checkpoint
                self._files.close()
                return
            self._open(checkpoint, helpers, patience_s, replace_parts=replace_parts)
        except BaseException:
            self.close()
            raise

    def _open(
        self, checkpoint: Checkpoint | None, helpers: int, patience_s: float, *, replace_parts: bool
    ) -> None:
        spec, names = self._spec, self._files.names
        self._input = open_input(spec.input_path, self._open_folder)
        self._fingerprint = InputFingerprint.of(self._input)
        if checkpoint is not None and checkpoint.input_fingerprint != self._fingerprint:
            raise InputFileError(
                f"input changed: {spec.input_path} is not the file the batch was begun with.",
                remedy="Start the batch anew.",
                code=INPUT_CHANGED,
            )
        self._reader = open_reader(
            spec.input_path,
            self._input,
            dims=self._upsampler.input_dims,
            chunk_rows=self._chunk_rows,
            offset=self._input_offset,
            first_row=self._rows,
        )
        if self._rows == 0 and self._reader.exhausted:
            raise no_rows(spec.input_path)
        require_apart(names, os.fstat(self._input))
        if checkpoint is None:
            require_writable(spec, names)
        else:
            require_free_name(names.output, overwrite=spec.overwrite)
        answerer = BlockAnswerer(self._upsampler, self._encoder, low_confidence=self._low_confidence)
        if helpers:
            # Before the part files are opened: a lock lasts as long as any process that has inherited it.
            self._helpers = HelperPool(answerer, count=helpers, chunk_rows=self._chunk_rows)
        self._answers = AnswerPipeline(self._reader, answerer, self._helpers, chunk_rows=self._chunk_rows)
        if checkpoint is None:
            self._files.begin(patience_s, replace_parts=replace_parts)
        else:
            self._files.go_on(checkpoint, patience_s)

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
        """How far into the input file the answered rows reach, in its own bytes."""
        return self._bytes_done

    @property
    def bytes_total(self) -> int:
        """The input's size."""
        return self._fingerprint.size_bytes

    def take_tally(self) -> Tally:
        """Return the sums over what was done since the last call."""
        tally, self._tally = self._tally, Tally()
        synced_s = self._sync_s  # another thread may be adding to it
        tally.sync_s, self._told_sync_s = synced_s - self._told_sync_s, synced_s
        return tally

    @property
    def published(self) -> bool:
        """Whether the output is in place."""
        return self._published_as is not None

    def step(self) -> bool:
        """Answer one chunk of rows, and write what is answered in order; return whether work is left.

        After the last row some formats take steps of their own, of some thousand rows.

        Raises
        ------
        BadRowError
            A row was refused, and the batch is to fail on that; or too many were.
        InputFileError
            The input was written to, cut or cannot be read.
        OutputError
            The output cannot be written.
        HelperDiedError
            A helper process is gone.
        """
        if self.published:
            return False
        output = self._require_usable()
        self._broken = True
        if self._answers.exhausted:
            began = thread_time()
            self._convert()
            self._tally.write_s += thread_time() - began
        else:
            for block, encoded, bad, tally in self._answers.advance():
                self._tally.add(tally)
                require_unchanged(self._spec.input_path, self._input, self._fingerprint)
                if bad and self._spec.on_bad_row == "fail":
                    raise bad_row(self._spec, bad[0].line, bad[0].reason, bad[0].raw)
                began = thread_time()
                self._write(output, block, encoded, bad)
                self._tally.write_s += thread_time() - began
        self._broken = False
        return not self._complete

    def sync(self) -> Checkpoint:
        """Bring all written rows to disk, and return the checkpoint that is durable now.

        Raises
        ------
        InputFileError
            The input was replaced or written to.
        OutputError
            The rows could not be brought to disk, or somebody took the output's name or a part file away.
        """
        return self.finish_sync(self.begin_sync())

    def begin_sync(self) -> PendingSync:
        """Return the state as it is written, for `finish_sync`; raises as `sync`."""
        if self._published_as is not None:
            return PendingSync(self._published_as, ())
        output = self._require_usable()
        require_free_name(self._files.names.output, overwrite=self._spec.overwrite)
        self._broken = True
        self._files.names.require_in_place(self._open_folder)
        require_same_file(self._spec.input_path, self._input, self._fingerprint, self._open_folder)
        report, parts = self._files.report, self._files.growing
        converted = self._files.converted if self._complete else None
        for part in parts:
            part.require_own_name()
            part.require_own_size()
        self._broken = False
        checkpoint = Checkpoint(
            input_offset=self._input_offset,
            bytes_done=self.bytes_done,
            complete=self._complete,
            output_bytes=output.size_bytes,
            rows=self._rows,
            failed_rows=self._failed_rows,
            errors_bytes=0 if report is None else report.size_bytes,
            model_version=self._upsampler.version,
            chunk_rows=self._chunk_rows,
            input_fingerprint=self._fingerprint,
            output_inode=output.inode,
            errors_inode=0 if report is None else report.inode,
            converted_inode=0 if converted is None else converted.inode,
            converted_bytes=0 if converted is None else converted.size_bytes,
        )
        return PendingSync(checkpoint, parts)

    def finish_sync(self, pending: PendingSync) -> Checkpoint:
        """Bring what was written by then to disk; the one method that another thread may be in beside `step`.

        Raises
        ------
        OutputError
            The rows could not be brought to disk: go on from the checkpoint before, with a new run.
        """
        began = monotonic()
        self._files.sync(pending.parts)
        self._sync_s += monotonic() - began
        return pending.checkpoint

    def publish(self) -> None:
        """Put the whole output, and the report on refused rows, in place, durably.

        Keep the checkpoint of a `sync` after the last `step` first: with it, a run that is cut off in here is
        recognised as done, or goes on. Again is harmless.

        Raises
        ------
        BadRowError
            No row could be answered, or too many were refused: nothing is published.
        InputFileError
            There was no row.
        OutputError
            The name was taken meanwhile, or the system refuses; the output path is as it was.
        """
        if self.published:
            with OutputFiles.open(self._spec, self._open_folder) as files:
                sync_output_folder(files.folder)
            return
        output = self._require_usable()
        if not self._complete:
            raise RuntimeError("publish() before step() returned False")
        self._require_publishable()
        if self._encoder.head:
            output.write_head(self._encoder.final_head(self._rows))
        checkpoint = self.sync()
        self._files.move_into_place()
        self._published_as = checkpoint
        self._close_input()
        self._files.complete()

    def close(self) -> None:
        """Let go of all files; the part files stay, for a later run from a checkpoint. Again is harmless."""
        self._close_input()
        self._files.close()

    def _close_input(self) -> None:
        if self._helpers is not None:
            self._helpers.close()
        if self._input >= 0:
            os.close(self._input)
            self._input = -1

    def abandon(self) -> None:
        """Remove the part files and let go of all files; what is published stays. Again is harmless.

        Raises
        ------
        OutputError
            The system refuses to remove one. All that could be done was done: the run is closed.
        """
        try:
            if not self.published:
                self._files.abandon()
        finally:
            self.close()

    def _require_usable(self) -> PartFile:
        if self._broken or self._files.rows is None or self._input < 0:
            raise RuntimeError("this run was closed, published or has failed; start one from a checkpoint")
        return self._files.rows

    @property
    def _complete(self) -> bool:
        """Whether nothing is left to do but to publish."""
        return self._answers.exhausted and self._files.is_converted

    def _convert(self) -> None:
        """Make some more of the file that is made of the rows, if the format wants one."""
        if not self._complete:
            if not self._files.is_converting:
                self._require_publishable()  # else it were in vain
            self._files.convert(count=self._rows, dims=self._upsampler.output_dims)

    def _require_publishable(self) -> None:
        counts = {"rows": self._rows, "failed_rows": self._failed_rows}
        require_good_row(self._spec, self._files.report, **counts)
        require_few_bad_rows(self._spec, self._files.report, **counts, most_to_come=0)

    def _write(self, output: PartFile, block: RowBlock, encoded: Bytes, bad: tuple[BadRow, ...]) -> None:
        """Append the block's answer, then count it."""
        if block.rows:
            output.append(encoded.data)
        if bad:
            self._files.refuse(bad)
        self._rows += block.rows
        self._failed_rows += len(bad)
        self._input_offset = block.end_offset
        # A compressed input is read again from its start when it is resumed.
        self._bytes_done = max(self._bytes_done, block.bytes_done)
        if bad:
            require_few_bad_rows(
                self._spec,
                self._files.report,
                rows=self._rows,
                failed_rows=self._failed_rows,
                most_to_come=self._reader.most_rows(block.end_offset),
            )
