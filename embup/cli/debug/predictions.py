"""`embup debug predict`: predictions of a classifier that is not ours, over HTTP or from a file."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from embup.cli import options
from embup.cli.debug.words import Format, Name, command, line, say_next
from embup.cli.failures import FAILED
from embup.cli.output import print_fields, print_json, progress, say
from embup_core.errors import InputError
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from debugger.predictions.asking import PredictReport

MOST_REASONS = 5


@extra_required("debug")
def predict(
    name: Name,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            help='Prediction API. It takes {"data": [{"text": …}], "n_best": 5} and answers '
            '[{"predictions": [{"value": [{"label": …, "confidence": …}]}]}].',
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="Predictions in a file instead: JSON, CSV or Parquet with row or id, label, confidence.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[str, typer.Option("--source", help="Name of the classifier.")] = "api",
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", help="File that holds the API's key; or set EMBUP_PREDICT_KEY."),
    ] = None,
    key_header: Annotated[
        str, typer.Option("--key-header", help="Header that carries the key.")
    ] = "X-API-KEY",
    n_best: Annotated[int, typer.Option("--n-best", min=1, help="Labels to ask for each row.")] = 5,
    batch_rows: Annotated[int, typer.Option("--batch-rows", min=1, max=20, help="Rows a request.")] = 20,
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=16, help="Requests at once.")] = 2,
    requests_per_s: Annotated[
        float, typer.Option("--requests-per-second", help="Most requests begun in a second.")
    ] = 10.0,
    timeout_s: Annotated[float, typer.Option("--timeout", help="Seconds to wait for one answer.")] = 30.0,
    deadline_s: Annotated[float, typer.Option("--deadline", help="Seconds for all rows.")] = 3600.0,
    held_out: Annotated[
        bool,
        typer.Option(
            "--held-out", help="With --file: the classifier was fitted on none of the rows it predicts."
        ),
    ] = False,
    file_format: Format = None,
    on_bad_row: Annotated[
        Literal["fail", "skip"],
        typer.Option("--on-bad-row", help="With --file: store nothing if a record is bad, or skip bad ones."),
    ] = "fail",
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Get predictions of all rows that have none yet.

    Each answer is stored as it comes. After an interruption, or where rows failed, the same command asks for
    the others only. The exit code is 1 where asking ended early.
    """
    if (url is None) == (file is None):
        raise InputError("Expected one of --url and --file.", remedy="Give one of them.")
    if file is not None:
        _from_file(
            file, data, name, source, file_format, held_out=held_out, skip=on_bad_row == "skip", json=json
        )
        return
    import stamina.instrumentation

    from debugger.predictions.asking import predict as ask
    from debugger.predictions.client import PredictionClient
    from debugger.predictions.limits import AskLimits, read_key

    stamina.instrumentation.set_on_retry_hooks(())  # the default prints on stdout, where results go
    limits = AskLimits(
        batch_rows=batch_rows,
        n_best=n_best,
        concurrency=concurrency,
        requests_per_s=requests_per_s,
        timeout_s=timeout_s,
        deadline_s=deadline_s,
    )
    with (
        PredictionClient(url or "", key=read_key(key_file), key_header=key_header, limits=limits) as client,
        progress("predicting") as bar,
    ):
        report = ask(data, name, client, source=source, progress=bar)
    if json:
        print_json(asdict(report) | {"reasons": dict(report.reasons)})
    else:
        _print(report, data)
    if report.stopped:
        raise typer.Exit(FAILED)


def _print(report: "PredictReport", data: Path) -> None:
    print_fields(
        [
            ("answered", f"{report.answered:,} rows in {report.took_s:.1f} s"),
            ("known before", report.known),
            ("failed", report.failed),
            ("not asked", report.not_asked),
        ]
    )
    for reason, rows in report.reasons.most_common(MOST_REASONS):
        say(f"{rows:,} rows failed: {line(reason, 200)}")
    if report.stopped:
        say(f"error: asking ended early: {report.stopped}")
    if report.failed or report.not_asked:
        say("the same command asks for the missing rows only")
    say_next(command(data, "run", report.name))


def _from_file(
    file: Path,
    data: Path,
    name: str,
    source: str,
    file_format: str | None,
    *,
    held_out: bool,
    skip: bool,
    json: bool,
) -> None:
    from debugger.predictions.from_file import import_predictions

    with progress("reading predictions") as bar:
        report = import_predictions(
            file,
            data,
            name,
            source=source,
            file_format=file_format,
            held_out=held_out,
            skip_bad_rows=skip,
            progress=bar,
        )
    if json:
        print_json(asdict(report))
        return
    print_fields(
        [("stored", f"{report.stored:,} rows in {report.took_s:.1f} s"), ("refused", report.refused)]
    )
    for number, reason in report.faults:
        say(f"refused record {number:,}: {line(reason, 200)}")
    say_next(command(data, "run", name))
