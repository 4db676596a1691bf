"""`embup upsample`: the batch engine on one file, without a service."""

import os
import signal
import time
from pathlib import Path
from typing import Annotated

import typer

from embup_cli import options
from embup_cli.output import file_size, print_fields, print_json, progress


def upsample(
    input_path: Annotated[
        Path,
        typer.Argument(metavar="IN", help="Embeddings of 32 numbers: text (or .gz, .zst), .npy, .parquet."),
    ],
    output_path: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where the 1536 numbers a row go: text, .npy, .parquet.")
    ],
    *,
    registry: options.Registry = options.REGISTRY,
    version: Annotated[str | None, typer.Option("--model", help="Version, if not the latest.")] = None,
    on_bad_row: options.OnBadRow = "fail",
    max_bad_rows: options.MaxBadRows = None,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
) -> None:
    """Upsample a file, without a service.

    The file may be of any length. OUT appears whole or not at all.
    """
    from embup_core.processes import ONE_MATH_THREAD, usable_cores

    os.environ.update(ONE_MATH_THREAD)  # before the libraries are loaded, which start their threads at once
    from embup_core.batch import BatchRun, BatchSpec, check_request, run_to_completion
    from embup_core.registry import Registry

    spec = BatchSpec(
        input_path.resolve(),
        output_path.resolve(),
        on_bad_row=on_bad_row,
        overwrite=overwrite,
        max_bad_rows=max_bad_rows,
    )
    upsampler = Registry(registry).load(version)
    check_request(spec, dims=upsampler.input_dims)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, and leaves no part
    started_s = time.monotonic()
    # Before the progress bar: its thread must not be there when helpers are forked.
    run = BatchRun(spec, upsampler, helpers=usable_cores() - 1)
    with progress("upsampling") as bar:
        run_to_completion(
            run,
            on_progress=lambda at: bar.update(at.bytes_done, at.bytes_total, f"{at.rows} rows"),
        )
    elapsed_s = time.monotonic() - started_s
    summary = {
        "input_filepath": str(spec.input_path),
        "output_filepath": str(spec.output_path),
        "rows": run.rows,
        "failed_rows": run.failed_rows,
        "model_version": upsampler.version,
        "elapsed_s": round(elapsed_s, 3),
        "rows_per_s": round(run.rows / elapsed_s, 1),
    }
    if json:
        print_json(summary)
        return
    print_fields(
        [
            ("rows", run.rows),
            ("failed rows", run.failed_rows),
            ("rows/s", f"{run.rows / elapsed_s:.0f}"),
            ("model", upsampler.version),
            ("output", f"{output_path} ({file_size(output_path.stat().st_size)})"),
        ]
    )
