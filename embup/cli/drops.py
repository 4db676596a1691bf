"""`embup drops`: deliveries of training data, made, checked and listed."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embup.cli import options
from embup.cli.output import print_fields, print_json, print_table, progress, say

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.drops import DropReport, DropsFolder

app = typer.Typer(no_args_is_help=True, help="Make, check and list deliveries of training data.")

REFUSED = 3
DROPS_CACHE = "drops"
LISTED_OFFENDERS = 5

Place = Annotated[
    str,
    typer.Argument(
        metavar="PLACE", envvar="EMBUP_DROPS", help="Folder, or s3://bucket/prefix, that holds drops/."
    ),
]


def _file(name: str, words: str) -> Any:
    return typer.Option(name, metavar="FILE", show_default=False, help=words)


@app.command("make")
def make(
    place: Place,
    month: Annotated[str, typer.Argument(metavar="MONTH", help="Name of the drop, YYYY-MM.")],
    *,
    projected: Annotated[Path, _file("--projected", "z of all rows: .npy of floats (n, d).")],
    cosines: Annotated[
        Path | None, _file("--cosines", "Cosines between all rows, (n, n): for the first drop.")
    ] = None,
    landmark_cosines: Annotated[
        Path | None,
        _file(
            "--landmark-cosines",
            "Cosines with the landmarks, (n, L), in the order of PLACE/landmarks/rows.npy: for later drops.",
        ),
    ] = None,
    originals: Annotated[
        Path | None, _file("--originals", "Originals of all rows, (n, D), instead of cosines.")
    ] = None,
    landmark_originals: Annotated[
        Path | None,
        _file(
            "--landmark-originals", "With --originals: originals of the landmarks, (L, D), in their order."
        ),
    ] = None,
    groups: Annotated[
        Path | None, _file("--groups", "A group for each row: integers or strings, (n,).")
    ] = None,
    labels: Annotated[Path | None, _file("--labels", "A class label for each row, (n,).")] = None,
    half_precision: Annotated[
        bool,
        typer.Option(
            "--half-precision",
            help="Store cosines with landmarks as float16, half as large; coordinates are off by 0.04.",
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the drop where it exists.")] = False,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Write a drop into its place, its description last.

    The first drop needs the cosines between all of its rows, later ones those with the landmarks, which the
    first accepted drop has fixed. Originals may be given instead of either.
    """
    from embup_core.drops import open_drops
    from embup_core.drops.make import make_drop

    drop = make_drop(
        open_drops(place, cache=data / DROPS_CACHE),
        month,
        _loaded(projected),
        cosines=_optional(cosines),
        landmark_cosines=_optional(landmark_cosines),
        originals=_optional(originals),
        landmark_originals=_optional(landmark_originals),
        groups=None if groups is None else _labels(groups),
        labels=None if labels is None else _labels(labels),
        half_precision=half_precision,
        overwrite=overwrite,
    )
    size_bytes = sum(one.size_bytes for one in drop.files.values())
    if json:
        print_json(
            {
                "month": month,
                "folder": drop.folder,
                "rows": drop.rows,
                "files": sorted(drop.files),
                "bytes": size_bytes,
            }
        )
    else:
        print_fields(
            [
                ("drop", drop.folder),
                ("rows", f"{drop.rows:,}"),
                ("files", ", ".join(sorted(drop.files))),
                ("basis", drop.basis or "the first drop makes one"),
            ]
        )


@app.command("check")
def check(
    place: Place,
    month: Annotated[
        str | None,
        typer.Argument(
            metavar="MONTH", help="Drop to check.", show_default="the first one without a verdict"
        ),
    ] = None,
    *,
    keep: Annotated[
        bool,
        typer.Option("--keep/--no-keep", help="Keep the verdict, so that an accepted drop is trained on."),
    ] = True,
    output_dims: options.OutputDims = options.OUTPUT_DIMS,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Check a drop against the accepted drops of earlier months.

    Exit code 0: it is accepted, perhaps without some rows. 2: there is no complete drop. 3: it is refused.
    """
    from embup_core.drops import check_drop, keep_verdict, open_drops
    from embup_core.drops.month import next_month

    folder = open_drops(place, cache=data / DROPS_CACHE)
    with progress("checking") as bar:
        checked = check_drop(folder, month or next_month(folder), output_dims=output_dims, progress=bar)
        if keep:
            keep_verdict(folder, checked)
    report = checked.report
    if json:
        print_json(report.to_json())
    else:
        print_report(report)
    if not report.accepted:
        raise typer.Exit(REFUSED)


@app.command("list")
def list_drops(place: Place, *, data: options.Data = options.DATA, json: options.Json = False) -> None:
    """List the drops, the verdict on each, and deliveries that are not complete."""
    from embup_core.drops import open_drops

    folder = open_drops(place, cache=data / DROPS_CACHE, look=True)
    found = [(month, _rows(folder, month), folder.report(month)) for month in folder.months()]
    waiting = folder.incomplete()
    if json:
        print_json(
            {
                "drops": [
                    {"month": month, "rows": rows, **({} if report is None else _summary(report))}
                    for month, rows, report in found
                ],
                "incomplete": waiting,
            }
        )
        return
    print_table(
        ("month", "rows", "verdict", "accepted", "held out", "quarantined", "duplicates", "basis"),
        [
            (month, rows, *(("not checked", *[None] * 5) if report is None else _summary(report).values()))
            for month, rows, report in found
        ],
    )
    for month in waiting:
        say(f"{month} is not complete: it has no drop.json")


def print_report(report: "DropReport") -> None:
    """Print the checks of a drop, the worst offenders of those that did not pass, and the verdict."""
    print_table(("check", "status", "found"), [(one.name, one.status, one.found) for one in report.checks])
    for one in report.checks:
        if one.status in ("failed", "warning"):
            say(f"{one.name}: expected {one.expected}. {one.remedy}".rstrip())
            for offender in one.offenders[:LISTED_OFFENDERS]:
                say("  " + ", ".join(f"{name} {_short(value)}" for name, value in offender.items()))
            if len(one.offenders) > LISTED_OFFENDERS:
                say(f"  {len(one.offenders) - LISTED_OFFENDERS} more; --json lists them")
    print()
    print_fields(
        [
            ("drop", report.month),
            ("verdict", report.verdict),
            (
                "rows",
                f"{report.rows:,}, accepted {report.accepted_rows:,}, held out {report.held_out_rows:,}",
            ),
            ("quarantined", f"{len(report.quarantined):,}"),
            ("duplicates", f"{len(report.duplicates):,}"),
        ]
    )


def _rows(folder: "DropsFolder", month: str) -> int | None:
    from embup_core.errors import InvalidDataError

    try:
        return folder.drop(month).rows
    except InvalidDataError:  # its check says why
        return None


def _summary(report: "DropReport") -> dict[str, Any]:
    return {
        "verdict": str(report.verdict),
        "accepted_rows": report.accepted_rows,
        "held_out_rows": report.held_out_rows,
        "quarantined": len(report.quarantined),
        "duplicates": len(report.duplicates),
        "basis": report.basis or None,
    }


def _short(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _loaded(path: Path) -> "NDArray[np.floating]":
    """An array of floats, memory-mapped; raises `SourceError` for a file that is none."""
    import numpy as np

    from embup_core.sources.npy import read_npy_header

    read_npy_header(path)
    found: NDArray[np.floating] = np.load(path, mmap_mode="r", allow_pickle=False)
    return found


def _optional(path: Path | None) -> "NDArray[np.floating] | None":
    return None if path is None else _loaded(path)


def _labels(path: Path) -> "NDArray[Any]":
    from embup_core.sources.npy import read_npy_header
    from embup_core.sources.row_labels import LABELS, load_row_labels

    return load_row_labels(path, read_npy_header(path, LABELS).shape[0], of="the file")
