"""Decode a file and load it into a store, in one stream and bounded memory, across kills.

Each some thousand rows are made durable and counted in the store. A second call goes on from there; after the
last row it does nothing.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from embup_core.batch.arrow import load_arrow
from embup_core.batch.checkpoint import InputFingerprint
from embup_core.batch.inputs.formats import format_of, open_reader, row_remedy
from embup_core.batch.inputs.input_file import OpenInput, no_rows, open_input, require_unchanged
from embup_core.batch.outputs.encoding import NpyEncoder
from embup_core.batch.spec import DEFAULT_CHUNK_ROWS
from embup_core.batch.workers.decoding import BlockDecoder
from embup_core.batch.workers.pipeline import OrderedPipeline
from embup_core.batch.workers.pool import WorkerPool
from embup_core.errors import BadRowError, EmbupError, InputFileError, OutputError
from embup_core.files.readable import close_file
from embup_core.stores.kinds import StoreKind, open_store
from embup_core.stores.payload import PayloadColumns
from embup_core.stores.store import CONFIDENCE, ID, VECTOR, Dtype, IndexKind, Progress, State
from embup_core.stores.vectors import StoredRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from embup_core.progress import Progress as ProgressCallback
    from embup_core.stores.store import VectorStore
    from embup_core.text.parser import BadRow
    from embup_core.upsampler import Basis, Upsampler

COMMIT_ROWS: Final = 4096
"""25 MB of 1536 dimensions."""

_AGAIN: Final = "Run the same command again: it goes on where it stopped."
_REFUSALS_KEPT: Final = 10


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to export where.

    Attributes
    ----------
    source
        Projected embeddings, in any format of the batch engine.
    kind, target, collection
        The store, where it is, and the collection or table in it.
    basis, dims, dtype
        As for `StoredRows.from_request`.
    index
        How the store searches.
    payload
        Parquet file with ids and payload, a row for each row of the input; None: the input itself.
    id_column
        Its column of ids; None: ids are the row numbers.
    columns
        Its columns to store beside the vectors.
    first_id
        Id of the first row, where ids are row numbers.
    on_bad_row
        "fail" at a row that cannot be decoded, or "skip" it.
    recreate
        Whether to remove the collection first; only what an export made.
    commit_rows
        Rows between two commits: what a kill costs at most, and what is held in memory.
    """

    source: Path
    kind: StoreKind
    target: str
    collection: str = "embeddings"
    basis: Basis = "decoded"
    dims: int | str = "all"
    dtype: Dtype = "float32"
    index: IndexKind = "exact"
    payload: Path | None = None
    id_column: str | None = None
    columns: tuple[str, ...] = ()
    first_id: int = 0
    on_bad_row: Literal["fail", "skip"] = "fail"
    recreate: bool = False
    commit_rows: int = COMMIT_ROWS


@dataclass(frozen=True, slots=True)
class ExportSummary:
    """What an export did.

    Attributes
    ----------
    rows
        Rows of the input that are in the store now.
    written
        Rows that this call wrote.
    left_out
        Rows of the input that could not be decoded.
    refused
        The first of them that this call met: number, from 1, and reason.
    resumed_at
        Input rows that were in the store before.
    state
        What the store says of the collection.
    elapsed_s, index_s
        Seconds in all, and those of them that the store took to build its index.
    notices
        How the input was understood: reordered or ignored columns.
    """

    rows: int
    written: int
    left_out: int
    refused: tuple[tuple[int, str], ...]
    resumed_at: int
    state: State
    elapsed_s: float
    index_s: float
    notices: tuple[str, ...] = ()


def export(
    upsampler: Upsampler,
    request: ExportRequest,
    *,
    processes: int = 1,
    progress: ProgressCallback | None = None,
) -> ExportSummary:
    """Export one file.

    Parameters
    ----------
    upsampler
        The decoder.
    request
        What to export where.
    processes
        How many decode at a time. More than one are forked: a program with threads of its own should keep to
        one.
    progress
        Called with rows done as text, bytes read, and bytes in all.

    Raises
    ------
    InputFileError, BadRowError, InvalidArgumentError
        The input, the payload, or what is asked for.
    NoAnchorsError
        The basis "original" of a version without anchors.
    OutputError
        The store cannot be reached or written, or its collection holds vectors of another kind.
    """
    return _Export(upsampler, request, processes, progress).run()


class _Export:
    def __init__(
        self,
        upsampler: Upsampler,
        request: ExportRequest,
        processes: int,
        progress: ProgressCallback | None,
    ) -> None:
        self._request = request
        self._processes = processes
        self._progress = progress
        self._rows = StoredRows.from_request(
            upsampler, basis=request.basis, dims=request.dims, dtype=request.dtype
        )
        self._arrow = load_arrow()
        self._schema: Any = None
        self._payload: PayloadColumns | None = None
        self._workers: WorkerPool | None = None
        self._refused: list[tuple[int, str]] = []
        self._written = 0
        self._where = f"{request.kind} {request.collection}"

    def run(self) -> ExportSummary:
        started_s = time.monotonic()
        request = self._request
        self._input = open_input(request.source)
        try:
            self._fingerprint = InputFingerprint.of(self._input)
            self._open_payload()
            encoder = NpyEncoder(self._rows.output_dims)
            self._decoder = BlockDecoder(self._rows, encoder)
            if self._processes > 1:
                # Before the store is opened: its package starts threads, which no fork survives.
                self._workers = WorkerPool(
                    self._decoder, count=self._processes - 1, chunk_rows=DEFAULT_CHUNK_ROWS
                )
            with _alone(request):
                store = open_store(
                    request.kind, request.target, collection=request.collection, index=request.index
                )
                try:
                    with _explained(store, self._where):
                        return self._into(store, started_s)
                finally:
                    store.close()
        finally:
            if self._workers is not None:
                self._workers.close()
            if self._payload is not None:
                self._payload.close()
            close_file(self._input)

    def _open_payload(self) -> None:
        request = self._request
        if request.id_column is None and not request.columns:
            return
        path = request.source if request.payload is None else request.payload
        self._payload = PayloadColumns(path, id_column=request.id_column, columns=request.columns)

    def _make_schema(self) -> Any:
        arrow, payload, space = self._arrow, self._payload, self._rows.space
        id_type = None if payload is None else payload.id_type
        number = arrow.float16() if space.dtype == "float16" else arrow.float32()
        return arrow.schema(
            [
                arrow.field(ID, id_type or arrow.int64(), nullable=False),
                arrow.field(VECTOR, arrow.list_(number, space.dims)),
                arrow.field(CONFIDENCE, arrow.float32()),
                *(() if payload is None else payload.fields),
            ]
        )

    def _wanted(self) -> State:
        request, payload = self._request, self._payload
        source = {
            "input": asdict(self._fingerprint),
            "payload": None if payload is None else asdict(payload.fingerprint),
            "id_column": request.id_column,
            "columns": list(request.columns),
            "first_id": request.first_id,
            "version": self._rows.version,
        }
        columns = {field.name: str(field.type) for field in self._schema}
        return State(self._rows.space, (self._rows.version,), request.index, columns, Progress(source))

    def _into(self, store: VectorStore, started_s: float) -> ExportSummary:
        self._schema = self._make_schema()
        wanted = self._wanted()
        there = store.read_state()
        if self._request.recreate and there is not None:
            store.drop()
            there = None
        state = wanted
        if there is not None:
            state = State.from_json(there, where=self._where).continued(wanted, where=self._where)
        resumed_at, index_s, notices = state.progress.rows, 0.0, ()
        if not state.progress.complete:
            reader = self._reader(state.progress)
            notices = reader.notices
            store.open(self._schema, state.to_json())
            # More threads split a matrix product otherwise, and its last bits differ.
            with threadpool_limits(1):
                for counted in self._written_states(store, reader, state):
                    store.write_state(counted.to_json())
                    state = counted
            if not state.progress.rows:
                raise no_rows(self._request.source)
            if state.progress.rows == state.progress.left_out:
                raise InputFileError(
                    f"{self._request.source}: expected rows that can be decoded, found none in "
                    f"{state.progress.rows:,}.",
                    remedy=row_remedy(self._request.source),
                    code="no_good_row",
                )
            if self._workers is not None:
                self._workers.close()
            index_started_s = time.monotonic()
            store.finish()
            index_s = time.monotonic() - index_started_s
            state = replace(state, progress=replace(state.progress, complete=True))
            store.write_state(state.to_json())
        done = state.progress
        return ExportSummary(
            done.rows - done.left_out,
            self._written,
            done.left_out,
            tuple(self._refused),
            resumed_at,
            state,
            time.monotonic() - started_s,
            index_s,
            notices,
        )

    def _reader(self, at: Progress) -> Any:
        request, payload = self._request, self._payload
        reader = open_reader(
            OpenInput(
                request.source,
                self._input,
                input_dims=self._rows.input_dims,
                chunk_rows=DEFAULT_CHUNK_ROWS,
                offset=at.offset,
                first_row=at.rows,
            )
        )
        if payload is not None:
            payload.start(min(at.rows, payload.rows))
        return reader

    def _written_states(self, store: VectorStore, reader: Any, state: State) -> Iterator[State]:
        """Write rows; yield the state that counts them after each some thousand."""
        pipeline = OrderedPipeline(reader, self._decoder, self._workers, chunk_rows=DEFAULT_CHUNK_ROWS)
        at = state.progress
        commit_rows = max(self._request.commit_rows, DEFAULT_CHUNK_ROWS)
        waiting = np.empty((commit_rows, self._rows.output_dims), np.float32)
        count = offset = bad_rows = bytes_done = 0
        while not pipeline.exhausted:
            for block, encoded, bad, _ in pipeline.advance():
                self._note_bad(bad)
                bad_rows += len(bad)
                waiting[count : count + block.rows] = encoded.view("<f4").reshape(block.rows, -1)
                count += block.rows
                offset, bytes_done = block.end_offset, max(bytes_done, block.bytes_done)
                if count > commit_rows - DEFAULT_CHUNK_ROWS:
                    at = self._write(store, waiting[:count], at, offset, bad_rows)
                    yield replace(state, progress=at)
                    count = bad_rows = 0
                    if self._progress is not None:
                        self._progress(f"{at.rows:,} rows", bytes_done, self._fingerprint.size_bytes)
        if count:
            at = self._write(store, waiting[:count], at, offset, bad_rows)
            yield replace(state, progress=at)
        self._require_equal_rows(at.rows)

    def _write(
        self, store: VectorStore, rows: NDArray[np.float32], at: Progress, offset: int, bad: int
    ) -> Progress:
        """Write some rows; return how far the export is with them."""
        require_unchanged(self._request.source, self._input, self._fingerprint)
        batch = self._batch(rows, at.rows, some_bad=bad > 0)
        if batch.num_rows:
            store.upsert(batch)
        self._written += batch.num_rows
        return replace(at, rows=at.rows + len(rows), offset=offset, left_out=at.left_out + bad)

    def _batch(self, rows: NDArray[np.float32], first_row: int, *, some_bad: bool) -> Any:
        """Some rows as Arrow: vectors and confidences, shape (n, dims + 1), those of bad rows NaN."""
        arrow, space = self._arrow, self._rows.space
        ids: Any = None
        columns: list[Any] = []
        if self._payload is not None:
            ids, columns = self._payload.take(len(rows), first_row=first_row)
        if ids is None:
            first = self._request.first_id + first_row
            ids = arrow.array(np.arange(first, first + len(rows), dtype=np.int64))
        numbers = np.ascontiguousarray(rows[:, :-1], np.float16 if space.dtype == "float16" else np.float32)
        kind = self._schema.field(VECTOR).type
        values = arrow.Array.from_buffers(
            kind.value_type, numbers.size, [None, arrow.py_buffer(numbers)], null_count=0
        )
        vectors = arrow.Array.from_buffers(kind, len(rows), [None], null_count=0, children=[values])
        confidence = rows[:, -1]
        known = arrow.array(confidence, mask=np.isnan(confidence))
        batch = arrow.record_batch([ids, vectors, known, *columns], schema=self._schema)
        kept = ~np.isnan(rows[:, 0]) if some_bad else np.ones(len(rows), dtype=bool)
        if self._request.id_column is not None:
            kept &= _last_ones(ids.to_numpy(zero_copy_only=False), kept)
        return batch if kept.all() else batch.filter(arrow.array(kept))

    def _note_bad(self, bad: tuple[BadRow, ...]) -> None:
        for one in bad:
            if self._request.on_bad_row == "fail":
                path = self._request.source
                raise BadRowError(
                    one.line,
                    one.reason,
                    one.raw,
                    file=path,
                    unit=format_of(path).unit,
                    remedy=f"{row_remedy(path)} Or leave such rows out with --on-bad-row skip.",
                )
            if len(self._refused) < _REFUSALS_KEPT:
                self._refused.append((one.line, one.reason))

    def _require_equal_rows(self, rows: int) -> None:
        if self._payload is not None and self._payload.rows > rows:
            raise InputFileError(
                f"Expected a row of ids and payload for each row of the input, found {self._payload.rows:,} "
                f"for {rows:,}.",
                remedy="Write both files with the same rows.",
            )


def _last_ones(ids: NDArray[Any], good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which rows are the last good ones of their ids: shape (n,). A store takes an id once in a batch."""
    places = np.flatnonzero(good)[::-1]
    _, latest = np.unique(ids[places], return_index=True)
    last = np.zeros(len(ids), dtype=bool)
    last[places[latest]] = True
    return last


@contextmanager
def _alone(request: ExportRequest) -> Iterator[None]:
    """Hold the store's folder, which two exports would spoil; the lock ends with this process."""
    if request.kind in {"pgvector", "milvus"} or "://" in request.target:
        yield
        return
    import fcntl

    descriptor = None
    try:
        Path(request.target).mkdir(parents=True, exist_ok=True)
        descriptor = os.open(request.target, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise OutputError(
                f"Another export writes to {request.target}.", remedy="Wait until it has ended."
            ) from None
        raise OutputError(
            f"{request.target} cannot be opened: {error.strerror}.", remedy="Choose another folder."
        ) from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _explained(store: VectorStore, where: str) -> Iterator[None]:
    """Turn the errors of a store's package into one of the output."""
    try:
        yield
    except EmbupError:
        raise
    except store.errors as error:
        text = " ".join(str(error).split())[:400]
        raise OutputError(f"{where} cannot be written: {text}.", remedy=_AGAIN) from error
