"""`embup anchors`: known originals of some rows, so that rows can be had in the originals' basis."""

from pathlib import Path
from typing import Annotated

import typer

from embup.cli import options
from embup.cli.output import print_fields, print_json, progress


def anchors(
    *,
    rows: Annotated[
        Path,
        typer.Option(
            "--rows", metavar="FILE", help="Projected embeddings, in any format of `embup upsample`."
        ),
    ],
    originals: Annotated[
        Path, typer.Option("--originals", metavar="NPY", help="Their originals, (m, D), in the same order.")
    ],
    registry: options.Registry = options.REGISTRY,
    version: Annotated[
        str | None, typer.Option("--version", help="Version; by default the current one.")
    ] = None,
    promote: Annotated[
        bool | None,
        typer.Option(
            "--promote/--no-promote",
            help="Put the new version into service in any case, or in no case.",
            show_default="if the version it is made of is in service",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Add anchors to a version.

    With the originals of some hundred rows the rotation between decoded vectors and original ones is known:
    `--basis original` then gives rows that fresh embeddings can be compared with. The same decoder is
    published as a new version. Anchors that it was not trained on measure it honestly.
    """
    from embup.cli.versions import anchors_text
    from embup_core.artifacts.anchoring import fit_published, publish_with_anchors
    from embup_core.artifacts.anchors import described_anchors
    from embup_core.artifacts.remote import open_registry
    from embup_core.batch.inputs.whole_file import read_rows
    from embup_core.sources.anchors import load_originals

    published = open_registry(registry)
    artifact = published.load_artifact(version)
    with progress("fitting anchors"):
        known = load_originals(originals, output_dims=artifact.decoder.output_dims_)
        projected = read_rows(rows.resolve(), input_dims=artifact.decoder.input_dims_)
        fitted = fit_published(artifact, projected, known)
        info = publish_with_anchors(published, artifact, fitted, promote=promote)
    described = described_anchors(info.manifest)
    if json:
        print_json(
            {
                "model_version": info.version,
                "made_of": artifact.version,
                "in_service": info.is_current,
                "anchors": described,
            }
        )
        return
    print_fields(
        [
            ("published", info.version),
            ("made of", artifact.version),
            ("in service", "yes" if info.is_current else "no"),
            ("anchors", anchors_text(described)),
        ]
    )
