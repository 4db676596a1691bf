"""`embup upsample`: the batch engine on one file, without a service."""

import os
import signal
from typing import Annotated

import typer

from embup.cli import options
from embup.cli.output import file_size, print_fields, print_json, progress


def upsample(
    input_path: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="Projected embeddings: .txt, .csv, .tsv, .jsonl (or .gz, .zst), .npy, .npz, .parquet; "
            "a path or s3://bucket/key.",
        ),
    ],
    output_path: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="Where the decoded rows go: text, .npy, .parquet; a path or s3://bucket/key.",
        ),
    ],
    *,
    registry: options.Registry = options.REGISTRY,
    version: Annotated[
        str | None, typer.Option("--version", help="Version; by default the current one.")
    ] = None,
    on_bad_row: options.OnBadRow = "fail",
    max_bad_rows: options.MaxBadRows = None,
    overwrite: options.Overwrite = False,
    basis: options.Basis = "decoded",
    json: options.Json = False,
) -> None:
    """Upsample a file, without a service.

    The file may be of any length. OUT appears whole or not at all. With OUT in s3://, the same command
    goes on after a crash where it was.
    """
    from embup_core.files.processes import ONE_MATH_THREAD, spare_cores

    os.environ.update(ONE_MATH_THREAD)  # before the libraries are loaded, which start their threads at once
    from embup_core.artifacts.remote import open_registry
    from embup_core.object_store import batch_path

    upsampler = open_registry(registry).load(version)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, and leaves no part
    with progress("upsampling") as bar:
        done = upsampler.upsample_file(
            input_path,
            output_path,
            on_bad_row=on_bad_row,
            max_bad_rows=max_bad_rows,
            overwrite=overwrite,
            basis=basis,
            processes=1 + spare_cores(),
            progress=bar,
        )
    for notice in done.notices:
        typer.echo(f"note: {notice}", err=True)
    summary = {
        "input_filepath": str(batch_path(input_path).resolve()),
        "output_filepath": str(done.output),
        "rows": done.rows,
        "failed_rows": done.failed_rows,
        "model_version": upsampler.version,
        "basis": basis,
        "elapsed_s": round(done.elapsed_s, 3),
        "rows_per_s": round(done.rows_per_s, 1),
    }
    if json:
        print_json(summary)
        return
    print_fields(
        [
            ("rows", done.rows),
            ("failed rows", done.failed_rows),
            ("rows/s", f"{done.rows_per_s:.0f}"),
            ("model", upsampler.version),
            ("output", f"{output_path} ({file_size(done.output_bytes)})"),
        ]
    )
