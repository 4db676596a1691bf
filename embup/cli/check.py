"""`embup check`: whether a source can be trained on, without training."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embup.cli import options
from embup.cli.failures import print_error
from embup.cli.output import print_fields, print_json, print_table, progress, say
from embup_core.errors import EmbupError, OutputError, SourceError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.geometry.repair import Repair
    from embup_core.geometry.source_check import SourceReport
    from embup_core.progress import Progress
    from embup_core.sources import SourceFiles

WRONG_ROWS = 3
LISTED_ROWS = 20


def check(
    *,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            envvar="EMBUP_SOURCE",
            help="Training data: a folder, two URLs separated by a comma, or `sample`.",
        ),
    ],
    repair: Annotated[
        Path | None,
        typer.Option(
            "--repair",
            metavar="OUT",
            help="Write a source into this new folder, with each projected embedding in its place; rows "
            "without one are left out.",
            show_default=False,
        ),
    ] = None,
    output_dims: options.OutputDims = options.OUTPUT_DIMS,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Check training data without training, or repair it.

    The files, the noise of the cosine matrix, and that rows belong together.
    Exit code 0: it can be trained on, or was repaired. 2: a file is missing or unusable. 3: rows are wrong.
    """
    from embup_core.geometry.landmark_source import with_coordinates
    from embup_core.geometry.repair import require_free
    from embup_core.geometry.source_check import check_source
    from embup_core.sources import resolve_source

    done, refused = None, None
    try:
        if repair is not None:
            require_free(repair)  # before the minute that the check may take
        with progress("checking") as bar:
            files = resolve_source(source, cache_dir=data / "sources", progress=bar)
            files = with_coordinates(files, data / "sources", output_dims=output_dims, progress=bar)
            report = check_source(files, output_dims=output_dims, progress=bar)
            if repair is not None:
                done, refused = _repaired(files, report, repair, bar)
    except (SourceError, OutputError) as error:
        if json:
            print_json({"ok": False, "error": error.message, "remedy": error.remedy})
        raise
    for text in report.warnings:
        say(f"warning: {text}")
    if json:
        outcome = done.to_json() if done else refused and {"error": refused.message, "remedy": refused.remedy}
        print_json({"source": files.name, **report.to_json(), **({"repair": outcome} if repair else {})})
    else:
        _print_report(files.name, report)
        if done is not None:
            _print_repair(done, files)
    if done is None:
        _end(report, files, refused)


def _repaired(
    files: "SourceFiles", report: "SourceReport", target: Path, bar: "Progress"
) -> "tuple[Repair | None, EmbupError | None]":
    """What was written, or why nothing was: the report is printed in either case."""
    from embup_core.geometry.repair import repair_source

    try:
        return repair_source(files, report, target, progress=bar), None
    except EmbupError as error:
        return None, error


def _end(report: "SourceReport", files: "SourceFiles", refused: EmbupError | None) -> None:
    """Raise what makes the exit code of a source that was not repaired."""
    from embup_core.geometry.source_check import rows_to_leave_out

    try:
        if refused is not None:
            raise refused
        rows_to_leave_out(report.rows, files)
    except EmbupError as error:
        if report.ok:
            raise
        print_error(error.message, error.remedy)
        raise typer.Exit(WRONG_ROWS) from error


def _print_report(name: str, report: "SourceReport") -> None:
    profile, noise, rows, transform = report.profile, report.noise, report.rows, report.rows.transform
    wrong = len(rows.wrong_rows)
    print_fields(
        [
            ("source", name),
            ("rows", f"{profile.rows:,}"),
            ("dimensions", f"{report.dims} of z, {report.rank:,} of the originals recovered"),
            ("cosines", f"mean {profile.mean_cosine:.4f}, standard deviation {profile.cosine_deviation:.4f}"),
            ("", f"from {profile.lowest_cosine:.4f} to {profile.highest_cosine:.4f}"),
            ("matrix noise", f"{noise.std:.1e} per cosine, {noise.share:.2%} of their variance"),
            ("map to z", "affine" if transform.is_affine else "no affine one fits"),
            ("angles to it", f"median {transform.median_angle:.1e} radians"),
            ("", f"99 % below {transform.p99_angle:.1e} radians, of the rows that belong"),
            ("wrong rows", f"{wrong:,} of {profile.rows:,} ({wrong / profile.rows:.2%})"),
            *((("finding", rows.describe()),) if wrong or rows.note else ()),
            ("usable", "yes" if report.ok else "no"),
        ]
    )
    if rows.verdict == "wrong_rows":
        print()
        places = zip(rows.wrong_rows[:LISTED_ROWS], rows.belongs_to[:LISTED_ROWS], strict=True)
        print_table(
            ("row of z", "belongs to row"),
            [(int(row), None if place < 0 else int(place)) for row, place in places],
        )
        if wrong > LISTED_ROWS:
            say(f"{wrong - LISTED_ROWS:,} more; --json lists all")


def _print_repair(done: "Repair", files: "SourceFiles") -> None:
    from embup_core.sources.row_ranges import describe_rows

    def named(rows: "NDArray[np.int64]") -> str:
        return describe_rows(rows) if len(rows) else "none"

    print()
    others = " and ".join(path.name for path in (files.groups, files.labels) if path is not None)
    print_fields(
        [
            ("repaired", done.folder),
            ("rows", f"{done.rows:,}"),
            ("moved", f"{done.moved:,} rows of z"),
            ("z left out", named(done.left_out_projected)),
            ("matrix left out", named(done.left_out_matrix)),
            *((("order kept", f"{others}: that of the matrix"),) if others else ()),
        ]
    )
