"""`embup upsample`: the batch engine on one file, or on each file of a folder, without a service."""

import os
import signal
from typing import Annotated, Literal

import typer

from embup.cli import options
from embup.cli.output import file_size, print_fields, print_json, progress
from embup.cli.upsample_parts import upsample_parts
from embup_core.errors import InputError, InvalidArgumentError


def upsample(
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="Projected embeddings: .txt, .csv, .tsv, .jsonl (or .gz, .zst), .npy, .npz, .parquet; a "
            "path or s3://bucket/key. Or a folder of such files: a path or s3://bucket/prefix/.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="OUT",
            help="Where the decoded rows go: text, .npy, .parquet; a path or s3://bucket/key. For a "
            "folder, a folder.",
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
    output_format: Annotated[
        Literal["parquet", "npy", "txt"],
        typer.Option("--format", help="Of a folder: the format of the outputs."),
    ] = "parquet",
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option("--engine", help="Of a folder: this machine, or many with Ray (extra `ray`)."),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes that decode; by default one a core."),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            envvar="RAY_ADDRESS",
            show_default=False,
            help="Of a Ray cluster; by default Ray is started on this machine.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Upsample a file, or all files of a folder, without a service.

    A file may be of any length. OUT appears whole or not at all, and with OUT in s3:// the same command
    resumes after a crash. A folder is whole once it has its _MANIFEST.json; a second call resumes one that
    has none.
    """
    from embup_core.files.processes import ONE_MATH_THREAD, spare_cores

    os.environ.update(ONE_MATH_THREAD)  # before the libraries are loaded, which start their threads at once
    from embup_core.artifacts.remote import open_registry
    from embup_core.batch.parts.place import is_folder
    from embup_core.object_store import batch_path, is_address

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, and leaves no part
    if is_folder(source):
        upsample_parts(
            source,
            target,
            registry=registry,
            version=version,
            on_bad_row=on_bad_row,
            max_bad_rows=max_bad_rows,
            overwrite=overwrite,
            basis=basis,
            output_format=output_format,
            engine=engine,
            workers=workers or (1 + spare_cores() if engine == "local" else None),
            address=address,
            json=json,
        )
        return
    if engine != "local":
        raise InvalidArgumentError(
            f"{source}: expected a folder for the engine {engine}, found none.",
            remedy="Give a folder of files, or an address that ends with a slash; or leave --engine out.",
        )
    upsampler = open_registry(registry).load(version)
    try:
        with progress("upsampling") as bar:
            done = upsampler.upsample_file(
                source,
                target,
                on_bad_row=on_bad_row,
                max_bad_rows=max_bad_rows,
                overwrite=overwrite,
                basis=basis,
                processes=workers or 1 + spare_cores(),
                progress=bar,
            )
    except InputError as error:
        if is_address(source) and "." not in source.rpartition("/")[2]:
            error.remedy += f" If {source} is a folder, add a slash: {source}/."
        raise
    for notice in done.notices:
        typer.echo(f"note: {notice}", err=True)
    summary = {
        "input_filepath": str(batch_path(source).resolve()),
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
            ("output", f"{target} ({file_size(done.output_bytes)})"),
        ]
    )
