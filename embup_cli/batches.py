"""`embup submit|status|watch|cancel|list`: batches of a running service, over HTTP."""

import time
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embup_cli import options
from embup_cli.failures import FAILED
from embup_cli.output import Progress, print_fields, print_json, print_table, progress
from embup_core.errors import InputError, JobConflictError, JobError, UnknownJobError

if TYPE_CHECKING:
    from embup_cli.client import ServiceClient

POLL_S = 0.25
PATIENCE_S = 30.0  # a batch survives a restart of its service, so watching it does too
FINISHED = ("COMPLETED", "FAILED", "CANCELLED")


def submit(
    input_path: Annotated[
        Path, typer.Argument(metavar="IN", help="File of embeddings on the service's machine.")
    ],
    output_path: Annotated[Path, typer.Argument(metavar="OUT", help="Where the service writes the result.")],
    *,
    url: options.Url = options.URL,
    on_bad_row: options.OnBadRow = "fail",
    max_bad_rows: options.MaxBadRows = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Submit a batch to a service.

    Prints its batch_request_id; `embup watch` follows it.
    """
    from embup_cli.client import ServiceClient

    if max_bad_rows is not None and not isfinite(max_bad_rows):
        raise InputError(
            f"--max-bad-rows: expected a whole number or a share between 0 and 1, found {max_bad_rows}.",
            remedy="100 allows a hundred bad rows, 0.01 one in a hundred.",
        )
    request = {
        "input_filepath": str(input_path.absolute()),
        "output_filepath": str(output_path.absolute()),
        "on_bad_row": on_bad_row,
        "max_bad_rows": max_bad_rows,
        "overwrite": overwrite,
    }
    with ServiceClient(url) as service:
        batch_request_id = service.submit(request)
    if json:
        print_json({"batch_request_id": batch_request_id})
    else:
        print(batch_request_id)


def status(
    batch_request_id: options.BatchId, *, url: options.Url = options.URL, json: options.Json = False
) -> None:
    """Show how far one batch is."""
    from embup_cli.client import ServiceClient

    with ServiceClient(url) as service:
        _show(service.status(batch_request_id), json=json)


def watch(
    batch_request_id: options.BatchId, *, url: options.Url = options.URL, json: options.Json = False
) -> None:
    """Follow one batch to its end.

    Fails (exit code 1) when the batch did not complete.
    """
    from embup_cli.client import ServiceClient

    with ServiceClient(url) as service, progress("batch") as bar:
        last = follow(service, batch_request_id, bar)
    _show(last, json=json)
    if last["phase"] != "COMPLETED":
        raise typer.Exit(FAILED)


def cancel(
    batch_request_id: options.BatchId, *, url: options.Url = options.URL, json: options.Json = False
) -> None:
    """Cancel one batch.

    Nothing of its output is published.
    """
    from embup_cli.client import ServiceClient

    with ServiceClient(url) as service:
        _show(service.cancel(batch_request_id), json=json)


def list_batches(*, url: options.Url = options.URL, json: options.Json = False) -> None:
    """List the batches of a service, newest first."""
    from embup_cli.client import ServiceClient

    with ServiceClient(url) as service:
        answer = service.batches()
    if json:
        print_json(answer)
        return
    columns = ("batch_request_id", "status", "phase", "num_records_processed", "percent")
    print_table(columns, [[batch[name] for name in columns] for batch in answer["batches"]])


def follow(service: "ServiceClient", batch_request_id: str, bar: Progress) -> dict[str, Any]:
    """Ask for the status of a batch until it has ended, and return the last answer.

    Raises
    ------
    JobError
        The service did not answer for longer than a restart takes.
    """
    last_answer_s = time.monotonic()
    while True:
        try:
            batch = service.status(batch_request_id)
        except (UnknownJobError, JobConflictError):
            raise
        except JobError:
            if time.monotonic() - last_answer_s > PATIENCE_S:
                raise
        else:
            last_answer_s = time.monotonic()
            bar.update(batch["bytes_done"], batch["bytes_total"], _note(batch))
            if batch["phase"] in FINISHED:
                return batch
        time.sleep(POLL_S)


def _note(batch: dict[str, Any]) -> str:
    return f"{batch['phase'].lower()}, {batch['num_records_processed']} rows"


def _show(batch: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(batch)
        return
    fields = [(name, value) for name, value in batch.items() if value is not None and name != "error"]
    if batch["error"]:
        fields += [("error code", batch["error"]["code"]), ("line", batch["error"]["line"])]
        fields += [("error", batch["error"]["detail"]), ("remedy", batch["error"]["remedy"] or None)]
    print_fields(fields)
