"""`embup train`: train in this process, and print how each decoder did."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from embup.cli import options
from embup.cli.output import print_fields, print_json, print_table, progress, say
from embup_core.errors import InputError
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from embup_core.progress import Progress
    from embup_core.training.result import TrainingResult


@extra_required("dagster")
def train(
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            envvar="EMBUP_SOURCE",
            help="Training data: `sample` (built in), a folder or s3://bucket/prefix holding "
            "projected_train_embs.npy and og_train_cos_theta.npy (or landmark_cosines.npy and "
            "landmark_rows.npy), or the two files' URLs separated by a comma.",
            show_default="the source of the data folder, else sample",
        ),
    ] = None,
    registry: options.Registry = options.REGISTRY,
    decoder: Annotated[
        str,
        typer.Option(
            "--decoder",
            envvar="EMBUP_DECODER",
            help="Name of the one to publish, or `auto`: the best on validation rows.",
        ),
    ] = "auto",
    ladder: Annotated[
        bool,
        typer.Option(
            "--ladder",
            help="Fit and compare all decoders, not only those that can win; or `--decoder ladder`.",
        ),
    ] = False,
    split: Annotated[
        Literal["rows", "groups"],
        typer.Option("--split", help="Hold out single rows, or whole groups, which groups.npy names."),
    ] = "rows",
    output_dims: options.OutputDims = options.OUTPUT_DIMS,
    leave_out_wrong_rows: Annotated[
        bool,
        typer.Option(
            "--leave-out-wrong-rows",
            help="Leave out rows whose projected embedding belongs elsewhere, at most 5 % of all, instead of "
            "refusing the source.",
        ),
    ] = False,
    without: Annotated[
        Path | None,
        typer.Option(
            "--without",
            metavar="FILE",
            help="Leave out the rows that this file lists, 0-based: .npy of integers, or one number a line.",
        ),
    ] = None,
    basis: Annotated[
        str | None,
        typer.Option(
            "--basis",
            metavar="VERSION",
            help="Version whose basis is kept, so that vectors decoded by both are comparable; or `new`.",
            show_default="the one in service, if the data holds its landmark rows",
        ),
    ] = None,
    promote: Annotated[
        bool | None,
        typer.Option(
            "--promote/--no-promote",
            envvar="EMBUP_PROMOTE",
            help="Put the new decoder into service in any case, or in no case.",
            show_default="unless the one in service has other data or is better",
        ),
    ] = None,
    max_training_rows: Annotated[
        int | None,
        typer.Option(
            "--max-training-rows",
            min=100,
            metavar="ROWS",
            show_default="100000",
            help="Most rows that take part, test rows among them; of more, a random sample does.",
        ),
    ] = None,
    service: Annotated[
        str | None,
        typer.Option(
            "--service",
            envvar="EMBUP_SERVICE_URL",
            help="Service to ask to load the new decoder; a service on the same registry does it by itself.",
            show_default=False,
        ),
    ] = None,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Train, compare and publish decoders.

    Candidates are fitted and scored on held-out rows; the best one, or the one named, is published.
    """
    from embup_core.training.selection import AUTO, LADDER

    if ladder and decoder not in (AUTO, LADDER):
        raise InputError(
            f"Expected one of --ladder and --decoder, found --ladder beside --decoder {decoder}.",
            remedy="Give one of them.",
        )
    with progress("training") as bar:
        result = train_here(
            source,
            registry,
            data,
            decoder=LADDER if ladder else decoder,
            split=split,
            output_dims=output_dims,
            leave_out_wrong_rows=leave_out_wrong_rows,
            without=without,
            basis=basis,
            promote=promote,
            max_training_rows=max_training_rows,
            service=service,
            progress=bar,
        )
    for warning in result.warnings:
        say(f"warning: {warning}")
    if json:
        print_json(_as_json(result))
    else:
        _print(result, registry)


def train_here(
    source: str | None,
    registry: Path | str,
    data: Path,
    *,
    decoder: str,
    split: str = "rows",
    output_dims: int,
    leave_out_wrong_rows: bool = False,
    without: Path | None = None,
    basis: str | None = None,
    promote: bool | None = None,
    max_training_rows: int | None = None,
    service: str | None = None,
    progress: "Progress | None" = None,
) -> "TrainingResult":
    """Train in this process: as a run in Dagster's records where Dagster is installed, else without it.

    Parameters are those of `pipelines.run.train_and_publish`, but for `without`, a file.

    Raises
    ------
    EmbupError
        As `embup_core.training.train.train` raises it.
    """
    import stamina.instrumentation

    from embup_core.geometry.source_check import NO_ROWS
    from embup_core.sources.row_list import load_row_list
    from embup_core.training.split import MAX_TRAINING_ROWS, SplitBy

    rows = NO_ROWS if without is None else load_row_list(without)
    stamina.instrumentation.set_on_retry_hooks(())  # the default prints on stdout, where results go
    if find_spec("dagster") is not None:
        from pipelines.run import train_and_publish

        return train_and_publish(
            source,
            registry,
            data,
            decoder,
            progress,
            split=SplitBy(split),
            output_dims=output_dims,
            leave_out_wrong_rows=leave_out_wrong_rows,
            without=rows.tolist(),
            basis=basis,
            promote=promote,
            max_training_rows=max_training_rows or MAX_TRAINING_ROWS,
            service_url=service,
        )
    from embup_core.artifacts.remote import open_registry
    from embup_core.training.data_folder import DEFAULT_SOURCE, REGISTRY_CACHE, remembered_source
    from embup_core.training.train import train as train_without_dagster

    return train_without_dagster(
        source or remembered_source(data) or DEFAULT_SOURCE,
        registry=open_registry(registry, data / REGISTRY_CACHE),
        decoder=decoder,
        split=split,
        output_dims=output_dims,
        leave_out_wrong_rows=leave_out_wrong_rows,
        without=rows,
        basis=basis,
        promote=promote,
        max_training_rows=max_training_rows or MAX_TRAINING_ROWS,
        progress=progress,
        work=data,
    )


def _as_json(result: "TrainingResult") -> dict[str, Any]:
    measured = result.evaluation.to_json()
    return {
        "version": result.version,
        "champion": result.champion,
        "chosen_because": result.chosen_because,
        "promoted": result.promoted,
        "evaluation": measured["baselines"] | measured["test"],
        "validation": measured["validation_baselines"] | measured["validation"],
        **{name: measured[name] for name in ("decode_ms", "probe", "learning_curve", "confidence")},
        "rows": result.rows,
        "left_out": result.left_out,
        "basis": result.basis,
        "recovery_s": result.recovery_s,
        "service": result.service,
        "previous": None if result.previous is None else result.previous.version,
        "gate": None if result.gate is None else result.gate.to_json(),
        "warnings": result.warnings,
        "run_id": result.run_id,
    }


def _print(result: "TrainingResult", registry: str) -> None:
    print_table(*result.table)
    if result.gate is not None:
        print_table(*result.gate.table())
    fields: list[tuple[str, object]] = [
        (
            "recovered",
            (
                f"{result.rows:,} rows of coordinates in {result.recovery_s:.1f} s, "
                f"{result.champion} fitted in {result.scores.fit_s:.1f} s"
            ),
        ),
        ("champion", result.champion),
        ("chosen because", result.chosen_because),
        ("published", result.version),
        ("in", registry),
        ("basis", result.basis),
        ("in service", "yes" if result.promoted else f"no, {result.previous or 'nothing'} stays"),
    ]
    if result.promoted:
        fields.append(("replaces", result.previous or "nothing"))
    if result.service:
        fields.append(("service", result.service))
    print_fields(fields)
