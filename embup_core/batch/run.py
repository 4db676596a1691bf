"""Run one batch: decode blocks in order, write them, make them durable, publish the output."""

from __future__ import annotations

from time import monotonic, thread_time
from typing import TYPE_CHECKING, Self

from embup_core.batch.bad_rows import bad_row, require_few_bad_rows, require_good_row
from embup_core.batch.checkpoint import Checkpoint, InputFingerprint
from embup_core.batch.inputs.formats import open_reader
from embup_core.batch.inputs.input_file import (
    INPUT_CHANGED,
    OpenInput,
    no_rows,
    open_input,
    require_same_file,
    require_unchanged,
)
from embup_core.batch.outputs.encoding import encoder_for
from embup_core.batch.outputs.output_files import OutputFiles, PendingSync
from embup_core.batch.outputs.publication import sync_output_folder
from embup_core.batch.outputs.recovery import finish_publication_of
from embup_core.batch.request import require_apart, require_free_name, require_writable
from embup_core.batch.spec import DEFAULT_CHUNK_ROWS
from embup_core.batch.statistics import BatchStatistics
from embup_core.batch.workers.decoding import BlockDecoder
from embup_core.batch.workers.pipeline import OrderedPipeline
from embup_core.batch.workers.pool import WorkerPool
from embup_core.errors import InputFileError, JobConflictError
from embup_core.files.readable import close_file, status_of
from embup_core.object_store.stand_in import open_anywhere

if TYPE_CHECKING:
    from embup_core.batch.outputs.encoding import Bytes
    from embup_core.batch.outputs.part_file import PartFile
    from embup_core.batch.spec import BatchSpec
    from embup_core.batch.workers.decoding import RowBlock, RowUpsampler
    from embup_core.files.held_folder import OpenFolder
    from embup_core.files.readable import Readable
    from embup_core.text.parser import BadRow


class BatchRun:
    """A batch from its first row, or its last checkpoint, to its published output.

    Call `step` until it returns False, `sync` now and then, and `publish` at the end. A run has one caller at
    a time: threads may take turns, and `finish_sync` may run beside `step`. After an error, other than one of
    `publish`, a run can only be closed or aborted; a new one resumes from the last checkpoint.

    The same input, model and `chunk_rows` give the same bytes, however often the run was interrupted.

    Parameters
    ----------
    spec
        What to do.
    upsampler
        The model, the same for the whole batch.
    checkpoint
        Where to resume; None starts from the first row.
    chunk_rows
        Rows that are decoded at once; a checkpoint's own number wins.
    workers
        Processes to fork that decode rows beside this one; only while this process has one thread.
    patience_s
        Seconds to wait for a run of the same output that is ending.
    low_confidence
        Rows below it are counted apart in `take_statistics`.
    open_folder
        How the folders of its files are opened.
    replace_parts
        Whether a run without a checkpoint removes existing part files as its own leftovers.

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
        workers: int = 0,
        patience_s: float = 0.0,
        low_confidence: float = 0.0,
        open_folder: OpenFolder = open_anywhere,
        replace_parts: bool = True,
    ) -> None:
        if chunk_rows < 1:
            raise ValueError(f"expected chunk_rows of at least 1, found {chunk_rows}")
        if checkpoint is not None and checkpoint.model_version != upsampler.version:
            raise JobConflictError(
                f"the batch was started with model {checkpoint.model_version}, not {upsampler.version}.",
                remedy="Resume it with that model, or start it again.",
            )
        self._spec = spec
        self._upsampler = upsampler
        self._encoder = encoder_for(spec.output_path, upsampler.output_dims)
        self._chunk_rows = chunk_rows if checkpoint is None else checkpoint.chunk_rows
        self._rows = 0 if checkpoint is None else checkpoint.rows
        self._failed_rows = 0 if checkpoint is None else checkpoint.failed_rows
        self._input_offset = 0 if checkpoint is None else checkpoint.input_offset
        self._bytes_done = 0 if checkpoint is None else checkpoint.bytes_done
        self._workers: WorkerPool | None = None
        self._published_as: Checkpoint | None = None
        self._broken = False
        self._low_confidence = low_confidence
        self._statistics = BatchStatistics()
        self._sync_s = self._reported_sync_s = 0.0
        self._input: Readable = -1
        self._open_folder = open_folder
        self._files = OutputFiles.open(spec, open_folder)
        try:
            if checkpoint is not None and finish_publication_of(self._files, checkpoint):
                self._fingerprint = checkpoint.input_fingerprint
                self._published_as = checkpoint
                self._files.close()
                return
            self._open(checkpoint, workers, patience_s, replace_parts=replace_parts)
        except BaseException:
            self.close()
            raise

    def _open(
        self, checkpoint: Checkpoint | None, workers: int, patience_s: float, *, replace_parts: bool
    ) -> None:
        spec, files = self._spec, self._files
        decoder = BlockDecoder(self._upsampler, self._encoder, low_confidence=self._low_confidence)
        if workers:
            # Before the part files are opened: a lock lasts as long as any process that has inherited it. And
            # before the input is: an object is read ahead by threads.
            self._workers = WorkerPool(decoder, count=workers, chunk_rows=self._chunk_rows)
        self._input = open_input(spec.input_path, self._open_folder)
        self._fingerprint = InputFingerprint.of(self._input)
        if checkpoint is not None and checkpoint.input_fingerprint != self._fingerprint:
            raise InputFileError(
                f"input changed: {spec.input_path} is not the file that the batch was started with.",
                remedy="Start the batch again.",
                code=INPUT_CHANGED,
            )
        require_apart(files, status_of(self._input))
        self._reader = open_reader(
            OpenInput(
                spec.input_path,
                self._input,
                input_dims=self._upsampler.input_dims,
                chunk_rows=self._chunk_rows,
                offset=self._input_offset,
                first_row=self._rows,
            )
        )
        if self._rows == 0 and self._reader.exhausted:
            raise no_rows(spec.input_path)
        if checkpoint is None:
            require_writable(spec, files)
        else:
            require_free_name(files.output, overwrite=spec.overwrite)
        self._pipeline = OrderedPipeline(self._reader, decoder, self._workers, chunk_rows=self._chunk_rows)
        if checkpoint is None:
            self._files.start(self._encoder.head, patience_s, replace_parts=replace_parts)
        else:
            self._files.resume(checkpoint, patience_s)

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

    @property
    def output_bytes(self) -> int:
        """The published output's size; 0 before."""
        done = self._published_as
        return 0 if done is None else done.converted_bytes or done.output_bytes

    def take_statistics(self) -> BatchStatistics:
        """Return the sums over what was done since the last call."""
        statistics, self._statistics = self._statistics, BatchStatistics()
        synced_s = self._sync_s  # another thread may be adding to it
        statistics.sync_s, self._reported_sync_s = synced_s - self._reported_sync_s, synced_s
        return statistics

    @property
    def published(self) -> bool:
        """Whether the output is in place."""
        return self._published_as is not None

    def step(self) -> bool:
        """Decode one chunk of rows, write the rows that are next in order, and return whether work is left.

        After the last row some formats take steps of their own, of some thousand rows.

        Raises
        ------
        BadRowError
            A row was refused, and the batch is to fail on that; or too many were.
        InputFileError
            The input was written to, cut or cannot be read.
        OutputError
            The output cannot be written.
        PoolWorkerDiedError
            A worker process ended.
        """
        if self.published:
            return False
        output = self._require_usable()
        self._broken = True
        self._files.relieve()
        if self._pipeline.exhausted:
            began = thread_time()
            self._convert()
            self._statistics.write_s += thread_time() - began
        else:
            for block, encoded, bad, statistics in self._pipeline.advance():
                self._statistics.add(statistics)
                require_unchanged(self._spec.input_path, self._input, self._fingerprint)
                if bad and self._spec.on_bad_row == "fail":
                    raise bad_row(self._spec, bad[0].line, bad[0].reason, bad[0].raw)
                began = thread_time()
                self._write(output, block, encoded, bad)
                self._statistics.write_s += thread_time() - began
        self._broken = False
        return not self._complete

    def sync(self) -> Checkpoint:
        """Bring all written rows to disk, and return the checkpoint that is durable now.

        Raises
        ------
        InputFileError
            The input was replaced or written to.
        OutputError
            The rows could not be flushed to disk, or another program took the output's name or a part file.
        """
        return self.finish_sync(self.start_sync())

    def start_sync(self) -> PendingSync:
        """Return the state as it is written, for `finish_sync`; raises as `sync`."""
        if self._published_as is not None:
            return PendingSync(self._published_as, ())
        output = self._require_usable()
        require_free_name(self._files.output, overwrite=self._spec.overwrite)
        self._broken = True
        self._files.require_in_place(self._open_folder)
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
            The rows could not be flushed to disk: resume from the checkpoint before, with a new run.
        """
        began = monotonic()
        self._files.sync(pending.parts)
        self._sync_s += monotonic() - began
        return self._files.noted(pending.checkpoint)

    def kept(self, uploaded_parts: int) -> None:
        """Say that a checkpoint with so many parts of an upload is kept: no run resumes from one before."""
        self._files.kept(uploaded_parts)

    def publish(self) -> None:
        """Put the whole output, and the report on refused rows, in place, durably.

        Keep the checkpoint of a `sync` after the last `step` first: with it, a run that is cut off in here is
        recognised as complete, or resumed. Idempotent.

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
        """Close all files; the part files stay, for a later run from a checkpoint. Idempotent."""
        self._close_input()
        self._files.close()

    def _close_input(self) -> None:
        if self._workers is not None:
            self._workers.close()
        if self._input != -1:
            close_file(self._input)
            self._input = -1

    def abort(self) -> None:
        """Remove the part files, and close; a published output stays. Idempotent.

        Raises
        ------
        OutputError
            The system refuses to remove one. All that could be done was done: the run is closed.
        """
        try:
            if not self.published:
                self._files.abort()
        finally:
            self.close()

    def _require_usable(self) -> PartFile:
        if self._broken or self._files.rows is None or self._input == -1:
            raise RuntimeError("this run was closed, published or has failed; start one from a checkpoint")
        return self._files.rows

    @property
    def _complete(self) -> bool:
        """Whether only the publication is left."""
        return self._pipeline.exhausted and self._files.is_converted

    def _convert(self) -> None:
        """Convert some more rows, if the output's format needs it."""
        if not self._complete:
            if not self._files.is_converting:
                self._require_publishable()  # before the work of converting
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
            self._files.report_refused(bad)
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
