"""`embup project`: the way back, from long vectors to short ones."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from embup.cli import options
from embup.cli.output import file_size, print_fields, print_json, progress


def project(
    input_path: Annotated[
        Path,
        typer.Argument(metavar="IN", help="Long vectors, in any format of `embup upsample`."),
    ],
    output_path: Annotated[
        Path, typer.Argument(metavar="OUT", help="Where the short vectors go: text, .npy, .parquet.")
    ],
    *,
    registry: options.Registry = options.REGISTRY,
    version: Annotated[
        str | None, typer.Option("--version", help="Version; by default the current one.")
    ] = None,
    on_bad_row: options.OnBadRow = "fail",
    max_bad_rows: options.MaxBadRows = None,
    overwrite: options.Overwrite = False,
    basis: Annotated[
        options.BasisName,
        typer.Option(
            "--basis",
            help="What IN holds: decoded vectors, or originals, for which the version needs many anchors.",
        ),
    ] = "decoded",
    json: options.Json = False,
) -> None:
    """Project long vectors to short ones.

    Decoded vectors come back to the short ones that they were made of. Originals are projected as the unknown
    map did.
    """
    from embup_core.files.processes import ONE_MATH_THREAD, spare_cores

    os.environ.update(ONE_MATH_THREAD)  # before the libraries are loaded, which start their threads at once
    from embup_core.artifacts.remote import open_registry
    from embup_core.object_store import batch_path

    upsampler = open_registry(registry).load(version)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, and leaves no part
    with progress("projecting") as bar:
        done = upsampler.project_file(
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
    }
    if json:
        print_json(summary)
        return
    print_fields(
        [
            ("rows", done.rows),
            ("failed rows", done.failed_rows),
            ("model", upsampler.version),
            ("output", f"{done.output} ({file_size(done.output_bytes)})"),
        ]
    )
