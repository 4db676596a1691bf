"""`embup submit|status|watch|cancel|list`: batches of a running service, over HTTP."""

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embup_cli import options
from embup_cli.failures import FAILED
from embup_cli.output import Progress, print_fields, print_json, print_table, progress
from embup_core.errors import InputError, JobError

if TYPE_CHECKING:
    from embup_client import BatchStatus, Client


def submit(
    input_path: Annotated[
        Path, typer.Argument(metavar="IN", help="File of embeddings on the service's machine.")
    ],
    output_path: Annotated[Path, typer.Argument(metavar="OUT", help="Where the service writes the result.")],
    *,
    url: options.Url = options.URL,
    api_key: options.ApiKey = None,
    on_bad_row: options.OnBadRow = "fail",
    max_bad_rows: options.MaxBadRows = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Submit a batch to a service.

    Prints its batch_request_id; `embup watch` follows it.
    """
    from embup_cli.client import connect

    if max_bad_rows is not None and not isfinite(max_bad_rows):
        raise InputError(
            f"--max-bad-rows: expected a whole number or a share between 0 and 1, found {max_bad_rows}.",
            remedy="100 allows a hundred bad rows, 0.01 one in a hundred.",
        )
    with connect(url, api_key) as service:
        batch_request_id = service.submit_batch(
            # Links are followed here: the service does not follow any beneath its folders of batch files.
            input_path.resolve(),
            output_path.parent.resolve() / output_path.name,
            on_bad_row=on_bad_row,
            max_bad_rows=max_bad_rows,
            overwrite=overwrite,
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
    """Show how far one batch is."""
    from embup_cli.client import connect

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

    Fails (exit code 1) when the batch did not complete.
    """
    from embup_cli.client import connect

    with connect(url, api_key) as service, progress("batch") as bar:
        last = follow(service, batch_request_id, bar)
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
    from embup_cli.client import connect

    with connect(url, api_key) as service:
        _show(service.cancel(batch_request_id), json=json)


def list_batches(
    *, url: options.Url = options.URL, api_key: options.ApiKey = None, json: options.Json = False
) -> None:
    """List the batches of a service, newest first."""
    import msgspec

    from embup_cli.client import connect

    with connect(url, api_key) as service:
        found = service.batches()
    if json:
        print_json({"batches": msgspec.to_builtins(found)})
        return
    columns = ("batch_request_id", "status", "phase", "num_records_processed", "percent")
    print_table(columns, [[getattr(batch, name) for name in columns] for batch in found])


def follow(service: "Client", batch_request_id: str, bar: Progress) -> "BatchStatus":
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
        bar.update(last.bytes_done, last.bytes_total, note)
    if last is None:
        raise JobError(f"batch {batch_request_id} has no status.")
    return last


def _show(batch: "BatchStatus", *, json: bool) -> None:
    import msgspec

    shown = msgspec.to_builtins(batch)
    if json:
        print_json(shown)
        return
    fields = [(name, value) for name, value in shown.items() if value is not None and name != "error"]
    if batch.error:
        fields += [("error code", batch.error.code), ("line", batch.error.line)]
        fields += [("error", batch.error.detail), ("remedy", batch.error.remedy or None)]
    print_fields(fields)
