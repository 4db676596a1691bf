"""`embup debug import`, `list`, `export`: data sets come in and go out."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from embup.cli import options
from embup.cli.debug.words import Format, Name, command, line, pairs, say_next
from embup.cli.output import print_fields, print_json, print_table, progress, say
from embup_core.errors import InputError
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from collections.abc import Mapping

    from debugger.formats.fields import FieldMap
    from debugger.importing.blocks import ImportReport


@extra_required("debug")
def import_file(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="JSON (an array or a line for each row), CSV or Parquet, or a zip archive with one of them; "
            "or training data of a decoder as `embup train --source` takes it, such as a folder.",
        ),
    ],
    *,
    name: Annotated[str, typer.Option("--name", help="Name of the new data set.")],
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field",
            metavar="MEANING=NAME",
            help="Field of the file that holds text, label, id, complete, usage, score, group, embedding or "
            "projected, such as text=data.utterance. An empty name leaves a meaning out. Several times.",
            show_default="by the usual names",
        ),
    ] = None,
    file_format: Format = None,
    vectors: Annotated[
        list[str] | None,
        typer.Option(
            "--vectors",
            metavar="KIND=FILE.npy",
            help="Vectors of the rows in a file of their own: embedding=FILE.npy or projected=FILE.npy.",
        ),
    ] = None,
    on_bad_row: Annotated[
        Literal["fail", "skip"],
        typer.Option("--on-bad-row", help="Import nothing if a row is bad, or skip bad rows and list them."),
    ] = "fail",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which field means what.")] = False,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Import annotated rows, or a decoder's training data, as a new data set.

    Which field means what is guessed from names and shown first; --field says it otherwise. The file is not
    changed; a copy of it is kept, so that an export loses nothing.
    """
    from debugger.importing.annotated import import_annotated, preview_fields

    if _is_source(file):
        _refuse_for_source(
            {
                "--field": field,
                "--format": file_format,
                "--vectors": vectors,
                "--on-bad-row skip": on_bad_row == "skip",
                "--dry-run": dry_run,
            }
        )
        _import_source(file, data, name, json=json)
        return
    fields = pairs("--field", field or ())
    files = {kind: Path(path) for kind, path in pairs("--vectors", vectors or ()).items()}
    if dry_run:
        found = preview_fields(Path(file), fields=fields, file_format=file_format, vectors=files)
        if json:
            print_json({"fields": found.to_json(), "others": list(found.others)})
        else:
            _print_fields(found)
        return
    with progress("importing") as bar:
        report = import_annotated(
            Path(file),
            data,
            name,
            fields=fields,
            file_format=file_format,
            vectors=files,
            skip_bad_rows=on_bad_row == "skip",
            on_fields=None if json else _say_fields,
            progress=bar,
        )
    if json:
        print_json(_as_json(report))
        return
    _print_report(report)
    say_next(command(data, "run", name), command(data, "predict", name, "--url", "URL"))


def _is_source(text: str) -> bool:
    return text == "sample" or text.startswith(("sample:", "http://", "https://")) or Path(text).is_dir()


def _refuse_for_source(given: "Mapping[str, object]") -> None:
    """Refuse options that training data of a decoder has no use for."""
    options = [name for name, value in given.items() if value]
    if options:
        raise InputError(
            f"Training data of a decoder is imported as it is, without {' and '.join(options)}.",
            remedy="Leave the options out; they are for files of annotated rows.",
        )


def _import_source(source: str, data: Path, name: str, *, json: bool) -> None:
    from debugger.importing.source import import_source

    with progress("importing") as bar:
        report = import_source(source, data, name, progress=bar)
    if json:
        print_json(_as_json(report))
        return
    _print_report(report)
    say_next(command(data, "run", name))


def _say_fields(found: "FieldMap") -> None:
    width = max(map(len, found.paths))
    for meaning, path in found.paths.items():
        say(f"{meaning:<{width}}  from  {line(path)}")
    if found.others:
        say(f"kept for exports: {', '.join(str(line(path)) for path in found.others)}")
    say("")


def _print_fields(found: "FieldMap") -> None:
    print_table(("meaning", "field"), [(meaning, line(path)) for meaning, path in found.paths.items()])
    if found.others:
        say(f"kept for exports: {', '.join(str(line(path)) for path in found.others)}")


def _as_json(report: "ImportReport") -> dict[str, Any]:
    found = asdict(report)
    found["usages"] = {usage or "none": rows for usage, rows in report.usages.items()}
    found["faults"] = [fault._asdict() for fault in report.faults]
    return found


def _print_report(report: "ImportReport") -> None:
    usages = ", ".join(f"{rows:,} {usage or 'without'}" for usage, rows in report.usages.items())
    vectors = ", ".join(f"{kind} of {dims}" for kind, dims in report.vectors.items())
    print_fields(
        [
            ("imported", f"{report.name}: {report.rows:,} rows in {report.took_s:.1f} s"),
            ("labelled", f"{report.labelled:,}, {report.rows - report.labelled:,} without a label"),
            ("usages", usages or None),
            ("vectors", vectors or None),
            ("skipped", f"{report.skipped:,} bad rows" if report.skipped else "none"),
        ]
    )
    for fault in report.faults:
        say(f"skipped {fault.line:,}{f', {fault.field}' if fault.field else ''}: {line(fault.reason, 200)}")
    if report.skipped > len(report.faults):
        say(f"and {report.skipped - len(report.faults):,} more, all in the table `refused`")
    if report.same_ids:
        say(f"warning: {report.same_ids:,} ids belong to several rows; rows are told apart by their number")


@extra_required("debug")
def list_all(*, data: options.Data = options.DATA, json: options.Json = False) -> None:
    """List the data sets, their analyses and reviews."""
    from debugger.reading import open_dataset
    from debugger.store.names import list_datasets

    found = []
    for name in list_datasets(data):
        with open_dataset(data, name) as opened:
            found.append(
                {
                    "name": name,
                    "rows": opened.count("rows"),
                    "labelled": opened.count("labels"),
                    "analyses": len(opened.folder.versions()),
                    "findings": opened.count("findings"),
                    "decisions": len(opened.decisions),
                    "source": opened.described["source"],
                    "imported_at": opened.described["imported_at"],
                }
            )
    if json:
        print_json({"datasets": found})
        return
    if not found:
        say(f"no data set in {data / 'debug'} yet")
        say_next(command(data, "import", "FILE", "--name", "NAME"))
        return
    columns = ("name", "rows", "labelled", "analyses", "findings", "decisions", "source")
    print_table(columns, [[line(str(one[column])) for column in columns] for one in found])


@extra_required("debug")
def export(
    name: Name,
    kind: Annotated[
        Literal["cleaned", "dropped", "annotate", "reviews"],
        typer.Argument(
            metavar="KIND",
            help="cleaned: all rows as imported, with what was decided. dropped: numbers of rows to leave "
            "out, for `embup train --without`. annotate: rows to label next. reviews: all decisions.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="The file: as imported, or .zip; .npy or .txt for dropped; .csv for the others.",
        ),
    ],
    *,
    count: Annotated[int, typer.Option("--count", min=1, help="Rows to label next.")] = 50,
    overwrite: options.Overwrite = False,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Write what was decided into a file.

    Nothing else applies reviews: the imported file stays as it is. In CSV files a cell that a spreadsheet
    would run as a formula begins with an apostrophe, which an import takes away again.
    """
    from debugger.exports import export as write
    from debugger.reading import open_dataset

    with open_dataset(data, name) as opened:
        report = write(opened, kind, out, count=count, overwrite=overwrite)
        skipped = opened.described["skipped"] if kind == "cleaned" else 0
    if json:
        print_json(asdict(report) | {"skipped_at_import": skipped})
        return
    print_fields(
        [
            ("written", report.path),
            ("rows", report.rows),
            *([("relabelled", report.relabelled), ("dropped", report.dropped)] if kind == "cleaned" else []),
        ]
    )
    if skipped:
        say(f"warning: {skipped:,} rows that could not be imported are not in it")
    if kind == "dropped":
        say_next(f"embup train --without {out}")
