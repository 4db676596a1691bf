"""`embup train`: the Dagster job in this process, and the table of how each decoder did."""

from typing import Annotated, Literal

import typer

from embup_cli import options
from embup_cli.output import print_fields, print_json, print_table, progress, say
from embup_core.errors import InputError


def train(
    *,
    source: Annotated[
        str,
        typer.Option(
            "--source",
            envvar="EMBUP_SOURCE",
            help="Training data: `sample` (built in), a folder holding projected_train_embs.npy and "
            "og_train_cos_theta.npy, or the two files' URLs separated by a comma.",
        ),
    ] = "sample",
    registry: options.Registry = options.REGISTRY,
    decoder: Annotated[
        str,
        typer.Option(
            "--decoder",
            envvar="EMBUP_DECODER",
            help="Name of the one to publish, or `auto`: the best on validation rows.",
        ),
    ] = "auto",
    fast: Annotated[
        bool,
        typer.Option(
            "--fast",
            help="The best of those that are fitted without PyTorch, within seconds; or `--decoder fast`.",
        ),
    ] = False,
    split: Annotated[
        Literal["rows", "groups"],
        typer.Option("--split", help="Hold out single rows, or whole groups, which groups.npy names."),
    ] = "rows",
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Train, compare and publish decoders.

    Candidates are fitted and scored on held-out rows; the best one, or the one named, is published.
    """
    from embup_core.row_split import SplitBy
    from embup_core.selection import AUTO, FAST
    from pipelines.run import train_and_publish

    if fast and decoder not in (AUTO, FAST):
        raise InputError(
            f"--fast chooses among several decoders, and --decoder {decoder} names one.",
            remedy="Give one of the two.",
        )
    with progress("training") as bar:
        result = train_and_publish(
            source, registry, data, FAST if fast else decoder, bar.update, split=SplitBy(split)
        )
    for told in result.warnings:
        say(f"warning: {told}")
    if json:
        measured = result.evaluation.to_json()
        print_json(
            {
                "version": result.version,
                "champion": result.champion,
                "evaluation": measured["baselines"] | measured["test"],
                **{name: measured[name] for name in ("decode_ms", "probe", "learning_curve", "confidence")},
                "rows": result.rows,
                "recovery_s": result.recovery_s,
                "service": result.service,
                "replaced": None if result.replaced is None else result.replaced.version,
                "warnings": result.warnings,
                "run_id": result.run_id,
            }
        )
        return
    print_table(*result.table)
    fit_s = result.evaluation.test[result.champion].fit_s
    print_fields(
        [
            (
                "recovered",
                (
                    f"{result.rows:,} rows of coordinates in {result.recovery_s:.1f} s, "
                    f"{result.champion} fitted in {fit_s:.1f} s"
                ),
            ),
            ("champion", result.champion),
            ("published", result.version),
            ("replaces", result.replaced or "nothing"),
            ("in", registry),
            ("service", result.service),
        ]
    )
