"""`embup submit|status|watch|cancel|list`: batches of a running service, over HTTP."""

import math
import sys
import time
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from embup.cli import options
from embup.cli.failures import FAILED
from embup.cli.output import PLAIN_INTERVAL_S, file_size, print_fields, print_json, print_table, progress, say
from embup_core.errors import InputError, JobError

if TYPE_CHECKING:
    from datetime import datetime

    from embup_client import BatchStatus, Client
    from embup_core.progress import Progress


def submit(
    input_path: Annotated[
        Path,
        typer.Argument(metavar="IN", help="File of embeddings on the service's machine, or s3://bucket/key."),
    ],
    output_path: Annotated[Path, typer.Argument(metavar="OUT", help="Where the service writes the result.")],
    *,
    url: options.Url = options.URL,
    api_key: options.ApiKey = None,
    on_bad_row: options.OnBadRow = "fail",
    max_bad_rows: options.MaxBadRows = None,
    overwrite: options.Overwrite = False,
    basis: options.Basis = "decoded",
    make_parents: Annotated[
        bool, typer.Option("--make-parents", help="Create the missing folders above OUT.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Submit a batch to a service.

    Prints its batch_request_id; `embup watch` follows it.
    """
    from embup.cli.client import connect
    from embup_core.object_store import batch_path

    source, target = batch_path(input_path), batch_path(output_path)
    if max_bad_rows is not None and not math.isfinite(max_bad_rows):
        raise InputError(
            f"--max-bad-rows: expected a whole number or a share between 0 and 1, found {max_bad_rows}.",
            remedy="100 allows a hundred bad rows, 0.01 one in a hundred.",
        )
    with connect(url, api_key) as service:
        batch_request_id = service.submit_batch(
            # Links are followed here: the service does not follow any beneath its folders of batch files.
            source.resolve(),
            target.parent.resolve() / target.name,
            on_bad_row=on_bad_row,
            max_bad_rows=max_bad_rows,
            overwrite=overwrite,
            basis=basis,
            make_parents=make_parents,
        )
    if json:
        print_json({"batch_request_id": batch_request_id})
    else:
        print(batch_request_id)


def status(
    batch_request_id: options.BatchId,
    *,
    url: options.Url = options.URL,
    api_key: options.ApiKey = None,
    json: options.Json = False,
) -> None:
    """Show one batch: phase, rows, speed, files, times, error."""
    from embup.cli.client import connect

    with connect(url, api_key) as service:
        _show(service.batch(batch_request_id), json=json)


def watch(
    batch_request_id: options.BatchId,
    *,
    url: options.Url = options.URL,
    api_key: options.ApiKey = None,
    json: options.Json = False,
) -> None:
    """Follow one batch to its end.

    Shows progress on stderr: a bar on a terminal, else a line at each change of state and every few seconds.
    Exit code 1 if the batch does not complete.
    """
    from embup.cli.client import connect

    with connect(url, api_key) as service, progress("batch") as bar:
        last = follow(service, batch_request_id, bar if sys.stderr.isatty() else _StateLines())
    _show(last, json=json)
    if last.phase != "COMPLETED":
        raise typer.Exit(FAILED)


def cancel(
    batch_request_id: options.BatchId,
    *,
    url: options.Url = options.URL,
    api_key: options.ApiKey = None,
    json: options.Json = False,
) -> None:
    """Cancel one batch.

    Nothing of its output is published.
    """
    from embup.cli.client import connect

    with connect(url, api_key) as service:
        _show(service.cancel(batch_request_id), json=json)


def list_batches(
    *, url: options.Url = options.URL, api_key: options.ApiKey = None, json: options.Json = False
) -> None:
    """List the batches of a service, newest first."""
    import msgspec

    from embup.cli.client import connect

    with connect(url, api_key) as service:
        found = service.batches()
    if json:
        print_json({"batches": msgspec.to_builtins(found)})
        return
    print_table(
        ("batch", "phase", "rows", "done", "submitted", "input", "output"),
        [
            (
                batch.batch_request_id,
                batch.phase,
                batch.num_records_processed,
                _percent(batch.percent),
                _time(batch.submitted_at),
                PurePath(batch.input_filepath).name,
                PurePath(batch.output_filepath).name,
            )
            for batch in found
        ],
    )


def follow(service: "Client", batch_request_id: str, bar: "Progress") -> "BatchStatus":
    """Show how far a batch is until it has ended; give its last status.

    Raises
    ------
    EmbupServiceError
        The service did not answer for longer than a restart takes.
    JobError
        It ended without a last status.
    """
    last: BatchStatus | None = None
    for last in service.follow(batch_request_id):
        note = f"{last.phase.lower()}, {last.num_records_processed} rows"
        bar(note, last.bytes_done, last.bytes_total)
    if last is None:
        raise JobError(f"batch {batch_request_id} has no status.")
    return last


class _StateLines:
    """Progress for logs: a line at the first status, at each change of state, and every few seconds."""

    def __init__(self) -> None:
        self._state = ""
        self._next_s = 0.0

    def __call__(self, note: str, done: float, total: float | None) -> None:
        # A batch beside realtime requests pauses many times a second.
        state = note.partition(",")[0].replace("paused", "running")
        now_s = time.monotonic()
        if state != self._state or now_s >= self._next_s:
            self._state, self._next_s = state, now_s + PLAIN_INTERVAL_S
            share = f", {_percent(100 * done / total)}" if total else ""
            say(f"{note}{share}")


def _show(batch: "BatchStatus", *, json: bool) -> None:
    import msgspec

    if json:
        print_json(msgspec.to_builtins(batch))
        return
    rows = f"{batch.num_records_processed:,}"
    if batch.failed_rows:
        rows += f", {batch.failed_rows:,} of them bad"
    size = f"{file_size(batch.bytes_done)} of {file_size(batch.bytes_total)}"
    fields = [
        ("batch", batch.batch_request_id),
        ("phase", batch.phase),
        ("rows", rows),
        ("done", f"{_percent(batch.percent)} ({size})"),
        ("speed", f"{batch.rows_per_second:,.0f} rows/s" if batch.rows_per_second else None),
        ("time left", f"{batch.eta_s:,.0f} s" if batch.eta_s is not None else None),
        ("paused", f"{batch.paused_s:.1f} s in {batch.pause_count:,} pauses" if batch.pause_count else None),
        ("input", batch.input_filepath),
        ("output", batch.output_filepath),
        ("decoder", batch.model_version),
        ("basis", None if batch.basis == "decoded" else batch.basis),
        ("submitted", _time(batch.submitted_at)),
        ("started", _time(batch.started_at)),
        ("finished", _time(batch.finished_at)),
        ("cancelling", "requested" if batch.cancel_requested and not batch.is_final else None),
        ("worker crashes", batch.worker_deaths or None),
    ]
    if batch.error:
        fields += [("error", batch.error.detail), ("error code", batch.error.code)]
        fields += [("line", batch.error.line), ("remedy", batch.error.remedy or None)]
    print_fields([(name, value) for name, value in fields if value is not None])


def _percent(percent: float) -> str:
    """Format a percentage; only what is complete is 100 %."""
    return "100 %" if percent >= 100 else f"{math.floor(10 * percent) / 10:.1f} %"


def _time(moment: "datetime | None") -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
