"""`embup monthly`: a month from its drop to a published decoder."""

from typing import TYPE_CHECKING, Annotated

import typer

from embup.cli import options
from embup.cli.drops import REFUSED, print_report
from embup.cli.output import print_fields, print_json, print_table, progress, say

if TYPE_CHECKING:
    from embup_core.drops import MonthResult


def monthly(
    *,
    drops: Annotated[
        str,
        typer.Option(
            "--drops", envvar="EMBUP_DROPS", help="Folder, or s3://bucket/prefix, that holds drops/."
        ),
    ],
    registry: options.Registry = options.REGISTRY,
    month: Annotated[
        str | None,
        typer.Option(
            "--month",
            metavar="YYYY-MM",
            help="Drop to check and to train up to.",
            show_default="the first one without a verdict",
        ),
    ] = None,
    decoder: Annotated[
        str,
        typer.Option("--decoder", envvar="EMBUP_DECODER", help="auto, ladder, or a decoder's name."),
    ] = "auto",
    output_dims: options.OutputDims = options.OUTPUT_DIMS,
    promote: Annotated[
        bool | None,
        typer.Option(
            "--promote/--no-promote",
            envvar="EMBUP_PROMOTE",
            help="Put the new decoder into service in any case, or in no case.",
            show_default="as the promotion gate decides",
        ),
    ] = None,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Check a month's drop, and train on all drops.

    The accepted drops of all months up to this one are the training set, and the decoder is published.
    Exit code 0: a decoder is published; the output says whether it is in service. 1: the training failed.
    2: there is no complete drop. 3: the drop is refused, and the decoder in service stays.
    """
    from embup_core.drops import run_month

    with progress("monthly") as bar:
        result = run_month(
            drops,
            registry,
            month,
            work=data,
            decoder=decoder,
            output_dims=output_dims,
            promote=promote,
            progress=bar,
        )
    if json:
        print_json(result.to_json())
    else:
        _print(result, registry)
    if result.training is None:
        raise typer.Exit(REFUSED)


def _print(result: "MonthResult", registry: str) -> None:
    print_report(result.report)
    training, rows = result.training, result.training_set
    if training is None or rows is None:
        for reason in result.reasons:
            say(f"refused: {reason}")
        print_fields(
            [("decision", "refused: the decoder in service stays"), ("seconds", f"{result.seconds:.0f}")]
        )
        return
    for warning in training.warnings:
        say(f"warning: {warning}")
    print()
    print_table(*training.table)
    print()
    if training.gate is not None:
        print_table(*training.gate.table())
        print()
    stays = training.previous or "nothing"
    print_fields(
        [
            ("trained on", f"{rows.rows - rows.held_out_rows:,} rows of {len(rows.months)} drops"),
            ("tested on", f"{rows.held_out_rows:,} rows that no version is trained on"),
            ("champion", training.champion),
            ("published", training.version),
            ("in", registry),
            ("basis", training.basis),
            ("decision", "promoted" if training.promoted else f"held: {stays} stays in service"),
            ("seconds", f"{result.seconds:.0f}"),
        ]
    )
