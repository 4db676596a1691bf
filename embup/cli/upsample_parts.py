"""`embup upsample` of a folder: a file for each of its files, and a manifest last."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import typer

from embup.cli.output import file_size, print_fields, print_json, progress

if TYPE_CHECKING:
    from embup_core.batch.parts import PartsSummary


def upsample_parts(source: str, target: str, *, json: bool, **options: Any) -> None:
    """Decode a folder's files and print the outcome; the options are those of the function in the core."""
    from embup_core.batch import parts

    # Ray prints that a node was lost, and the like, on stdout, where the result belongs.
    with redirect_stdout(sys.stderr), progress("upsampling") as bar:
        done = parts.upsample_parts(source, target, progress=bar, **options)
    for notice in done.notices:
        typer.echo(f"note: {notice}", err=True)
    if json:
        print_json(_summary(done))
        return
    manifest = done.manifest
    print_fields(
        [
            ("parts", f"{len(manifest.parts)} ({done.decoded_parts} decoded now)"),
            ("rows", manifest.rows),
            ("failed rows", manifest.failed_rows),
            ("rows/s", f"{done.rows_per_s:.0f}" if done.decoded_rows else "-"),
            ("model", manifest.plan.model_version),
            ("output", f"{target} ({file_size(manifest.size_bytes)})"),
        ]
    )


def _summary(done: PartsSummary) -> dict[str, Any]:
    manifest = done.manifest
    return {
        "input": manifest.plan.input,
        "parts": len(manifest.parts),
        "decoded_parts": done.decoded_parts,
        "rows": manifest.rows,
        "failed_rows": manifest.failed_rows,
        "size_bytes": manifest.size_bytes,
        "model_version": manifest.plan.model_version,
        "basis": manifest.plan.basis,
        "elapsed_s": round(done.elapsed_s, 3),
        "rows_per_s": round(done.rows_per_s, 1),
    }
