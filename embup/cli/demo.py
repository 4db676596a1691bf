"""`embup demo`: train, serve and check once, with a report.

Train and publish, start the service, ask it for one vector, run a batch beside realtime requests, check every
row of the output, stop. On user data or the built-in sample.
"""

import json
import shlex
import signal
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Never

import typer

from embup.cli import options
from embup.cli.output import file_size, print_json, print_table, progress, say
from embup_core.errors import JobError
from embup_core.extras import extra_required

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_client import Client

REALTIME_REQUESTS = 300
COMPARED_ROWS = 200
UNIT_TOLERANCE = 1e-6
ANSWER_TOLERANCE = 1e-6
NOISE = 0.02  # length of what is added to a training row: no batch row is one the decoder has seen
CHECK_BLOCK_ROWS = 500


@extra_required("all")
def demo(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="Training data, as for `embup train`.",
            show_default="the source of the work folder, else sample",
        ),
    ] = None,
    decoder: Annotated[
        str | None,
        typer.Option(
            "--decoder", help="As for `embup train`.", show_default="fast for the sample, auto for others"
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=2, help="Rows of the batch.")] = 20_000,
    output_dims: options.OutputDims = options.OUTPUT_DIMS,
    work: Annotated[Path, typer.Option("--work", help="Folder for everything the demo makes.")] = Path(
        "data/demo"
    ),
    as_json: options.Json = False,
) -> None:
    """Train, serve and check once, with a report.

    Trains, publishes, serves, upsamples one vector and a batch, checks every row of the result.
    """
    from embup.cli.client import connect
    from embup.cli.service_process import service_process
    from embup.cli.train import train_here
    from embup_core.training.data_folder import DEFAULT_SOURCE, remembered_source
    from embup_core.training.selection import AUTO

    signal.signal(signal.SIGTERM, _end)
    work = work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    source = source or remembered_source(work) or DEFAULT_SOURCE
    started_s = time.monotonic()

    say(f"1/5  training on {source}")
    with progress("     training") as bar:
        # Promoted whatever is in service in this folder: the demo serves what it has just trained.
        trained = train_here(
            source,
            work / "registry",
            work,
            decoder=decoder or AUTO,
            output_dims=output_dims,
            promote=True,
            progress=bar,
        )
    for warning in trained.warnings:
        say(f"     warning: {warning}")
    trained_s = time.monotonic() - started_s

    projected = batch_rows(source, work, rows)
    input_path, output_path = work / "batch" / "input.txt", work / "batch" / "output.txt"
    write_rows(input_path, projected)

    say("2/5  starting the service")
    with (
        service_process(registry=work / "registry", data=work, log=work / "service.log") as url,
        connect(url) as service,
    ):
        say(f"3/5  one realtime request to {url}")
        show_request(service, projected[0], work / "request.json")
        say(f"4/5  a batch of {rows} rows, with realtime requests beside it")
        report = measure(service, projected, input_path, output_path)
        say("5/5  checking every row of the output")
        report |= check_output(output_path, projected, service, output_dims=output_dims)
        say("     stopping the service")
    report = {
        "version": trained.version,
        "champion": trained.champion,
        "chosen_because": trained.chosen_because,
        "source": source,
        "training_s": round(trained_s, 1),
        **report,
        "total_s": round(time.monotonic() - started_s, 1),
        "work": str(work),
    }
    if as_json:
        print_json(
            report
            | {"evaluation": {name: one.to_json() for name, one in trained.evaluation.reported.items()}}
        )
        return
    print_report(report, trained.table)


def batch_rows(source: str, work: Path, count: int) -> "NDArray[np.float32]":
    """Draw new rows around the training ones: resampled, moved a little, unit; shape (count, d)."""
    import numpy as np

    from embup_core.sources import load_projected, resolve_source

    training = load_projected(resolve_source(source, cache_dir=work / "sources").projected)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((count, training.shape[1])) * NOISE / np.sqrt(training.shape[1])
    moved = training[rng.integers(len(training), size=count)] + noise
    return np.asarray(moved / np.linalg.norm(moved, axis=1, keepdims=True), np.float32)


def write_rows(path: Path, rows: "NDArray[np.float32]") -> None:
    """Write rows as a batch reads them: a line each, values separated by commas."""
    from embup_core.text.formatter import format_rows

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(format_rows(rows).tobytes())


def show_request(service: "Client", row: "NDArray[np.float32]", body_path: Path) -> None:
    """Send one realtime request; show it as a curl line to copy, and the beginning of its answer."""
    body_path.write_text(json.dumps({"embedding": row.tolist()}) + "\n")
    answer = service.upsample(row)
    values = answer.embedding
    known = "unknown" if answer.confidence is None else f"{answer.confidence:.3f}"
    shown = ", ".join(f"{value:.6f}" for value in values[:3])
    say(f"     curl {service.url}/v1/upsample --json @{shlex.quote(_near(body_path))}")
    say(f"     -> {len(values)} numbers [{shown}, ...], confidence {known}")


def measure(
    service: "Client", projected: "NDArray[np.float32]", input_path: Path, output_path: Path
) -> dict[str, Any]:
    """Measure realtime latency alone, then run the batch to its end with realtime requests beside it."""
    from embup.cli.batches import follow
    from embup.cli.latency import measure_alone, measured_beside

    alone = measure_alone(service.url, projected, requests=REALTIME_REQUESTS)
    started_s = time.monotonic()
    with measured_beside(service.url, projected) as beside, progress("     batch") as bar:
        batch_request_id = service.submit_batch(input_path, output_path, overwrite=True)
        batch = follow(service, batch_request_id, bar)
    elapsed_s = time.monotonic() - started_s
    if batch.phase != "COMPLETED":
        why = batch.error.detail if batch.error else "it does not say why."
        raise JobError(f"the batch ended as {batch.phase}: {why}")
    return {
        "realtime_alone": alone.to_json(),
        "realtime_beside_batch": beside.to_json(),
        "batch_request_id": batch_request_id,
        "batch_rows": batch.num_records_processed,
        "batch_s": round(elapsed_s, 2),
        "batch_rows_per_s": round(batch.num_records_processed / elapsed_s),
        "input": str(input_path),
        "output": str(output_path),
    }


def check_output(
    output_path: Path, projected: "NDArray[np.float32]", service: "Client", *, output_dims: int
) -> dict[str, Any]:
    """Check that there is one unit row a line of input, and that sampled rows equal their realtime answers.

    Raises
    ------
    JobError
        The output is not what was promised; names the first line that is not.
    """
    import numpy as np

    from embup_core.text.parser import parse_rows

    compared = set(np.linspace(0, len(projected) - 1, COMPARED_ROWS).astype(int).tolist())
    row, worst_length, worst_answer = 0, 0.0, 0.0
    with output_path.open("rb") as lines:
        while block := b"".join(islice(lines, CHECK_BLOCK_ROWS)):
            # (n, output_dims), nan where not numbers
            decoded = parse_rows(block, dims=output_dims).rows.astype(np.float64)
            off = np.abs(np.linalg.norm(decoded, axis=1) - 1)
            if not (off <= UNIT_TOLERANCE).all():
                line = row + int(np.argmin(off <= UNIT_TOLERANCE)) + 1
                raise JobError(f"{output_path}: line {line} is not a unit vector of {output_dims} numbers.")
            worst_length = max(worst_length, float(off.max()))
            for i in sorted(compared.intersection(range(row, row + len(decoded)))):
                answer = np.array(service.upsample(projected[i]).embedding)
                difference = float(np.abs(answer - decoded[i - row]).max())
                if difference > ANSWER_TOLERANCE:
                    raise JobError(
                        f"{output_path}: line {i + 1} is not the answer to that line of the input."
                    )
                worst_answer = max(worst_answer, difference)
            row += len(decoded)
    if row != len(projected):
        raise JobError(f"{output_path}: expected {len(projected)} lines, found {row}.")
    return {
        "checked_rows": row,
        "worst_length_error": worst_length,
        "worst_difference_to_realtime": worst_answer,
    }


def print_report(report: dict[str, Any], scores: tuple[tuple[str, ...], list[tuple[str, ...]]]) -> None:
    """Print the report."""
    print("Decoders on held-out rows")
    print_table(*scores)
    print()
    realtime = [
        (name, numbers["requests"], f"{numbers['p50_ms']:.1f}", f"{numbers['p99_ms']:.1f}")
        for name, numbers in (
            ("alone", report["realtime_alone"]),
            ("beside the batch", report["realtime_beside_batch"]),
        )
    ]
    print_table(("realtime", "requests", "p50 ms", "p99 ms"), realtime)
    print()
    print(f"champion  {report['champion']}: {report['chosen_because']}")
    print(f"version   {report['version']}, published after {report['training_s']} s")
    print(
        f"batch     {report['batch_rows']} rows in {report['batch_s']} s, {report['batch_rows_per_s']} rows/s"
    )
    print(
        f"checked   {report['checked_rows']} rows, in order, unit within {report['worst_length_error']:.0e}; "
        f"batch and realtime answers within {report['worst_difference_to_realtime']:.0e}"
    )
    work, output = _near(Path(report["work"])), Path(report["output"])
    print(f"files     {_near(output)} ({file_size(output.stat().st_size)}), {work}/registry")
    print(f"took      {report['total_s']} s")
    print()
    print(f"Next: make dev DATA={shlex.quote(work)}, which trains on {report['source']} by default")
    print("  http://127.0.0.1:3000         what was trained, in Dagster's UI")
    print("  http://127.0.0.1:8000         what the service is doing, in its console")


def _near(path: Path) -> str:
    """Name a path as one would type it here: relative where it lies below the working folder."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _end(_number: int, _frame: object) -> Never:
    """Leave by an exception, so that the service is stopped on the way out."""
    raise KeyboardInterrupt
