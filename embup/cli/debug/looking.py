"""`embup debug run`, `findings`, `show`, `review`, `suggest`, `compare`: find, look, decide."""

import getpass
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from embup.cli import options
from embup.cli.debug.words import (
    LINE,
    Name,
    Row,
    Rows,
    Version,
    command,
    line,
    percent,
    row_numbers,
    say_next,
)
from embup.cli.output import print_fields, print_json, print_table, progress, say
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from debugger.reviews import Action

SHOWN_AT_FIRST = 10
SHOWN_CANDIDATES = 3
SHOWN_NEIGHBOURS = 5
DECIDABLE = ("label_error", "contradicting_labels", "confident_disagreement")
"""Findings that a decision about one row settles, the first of which is shown first."""


@extra_required("debug")
def run(
    name: Name,
    *,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn at random.")] = 0,
    decoder: Annotated[
        str,
        typer.Option(
            "--decoder",
            help="For training data: the decoder that is fitted on some rows to judge the others; or none.",
        ),
    ] = "mixture_kriging",
    output_dims: options.OutputDims = options.OUTPUT_DIMS,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Analyse a data set; what is found is a new version.

    Labels are those that reviews left: relabelled rows have their new label, dropped rows none.
    """
    from debugger.runs import run as analyse

    with progress("analysing") as bar:
        report = analyse(data, name, seed=seed, decoder=decoder, output_dims=output_dims, progress=bar)
    if json:
        print_json(asdict(report))
        return
    classifier = report.summary.get("classifier") or {}
    used = classifier.get("features")
    accuracy = percent((classifier.get("accuracy") or {}).get(used))
    print_fields(
        [
            (
                "analysed",
                f"{report.rows:,} rows in {report.took_s:.1f} s, {report.reviews:,} decisions applied",
            ),
            ("version", report.version),
            ("classifier", f"{accuracy} right on rows it has not seen, by {used}" if accuracy else None),
            (
                "wrong labels",
                f"about {found:,}" if (found := classifier.get("estimated_label_errors")) else found,
            ),
            ("decisions", _worth_of(report.summary.get("review_effect"))),
        ]
    )
    print()
    print_table(("findings", "kind"), [(count, kind) for kind, count in report.findings.items()])
    first = next((kind for kind in DECIDABLE if kind in report.findings), None)
    say_next(
        command(data, "findings", name, *(["--kind", first] if first else [])),
        *([command(data, "compare", name, report.version - 1, report.version)] if report.version > 1 else []),
    )


def _worth_of(effect: Mapping[str, Any] | None) -> str | None:
    """What decisions did to the classifier, in words."""
    if not effect or not effect["after"]["rows"]:
        return None
    before, after = (percent(effect[when]["accuracy"]) for when in ("before", "after"))
    judged = f"{effect['after']['rows']:,} {effect['judged_on']}"
    return f"{before} right without them, {after} with them, on {judged}"


@extra_required("debug")
def findings(
    name: Name,
    *,
    kind: Annotated[str | None, typer.Option("--kind", help="Only these, such as label_error.")] = None,
    severity: Annotated[
        Literal["error", "warning", "note"] | None, typer.Option("--severity", help="Only these.")
    ] = None,
    decided: Annotated[
        bool, typer.Option("--decided", help="Also findings whose rows all have a review.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 20,
    after: Annotated[
        int, typer.Option("--after", min=0, help="Continue behind the finding of this number.")
    ] = 0,
    version: Version = None,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """List findings, the most important first."""
    from debugger.queries import finding_counts, list_findings
    from debugger.reading import open_dataset

    with open_dataset(data, name, version=version) as opened:
        found = list_findings(opened, kind=kind, severity=severity, decided=decided, limit=limit, after=after)
        counts = finding_counts(opened)
        analysed = opened.version
    if json:
        print_json({"version": analysed, "counts": counts, "findings": found})
        return
    for one in found:
        rows = one["rows"]
        shown = ", ".join(map(str, rows[:SHOWN_AT_FIRST])) + (
            ", …" if one["row_count"] > SHOWN_AT_FIRST else ""
        )
        print(f"{one['finding']}  {one['severity']}  {one['kind']}  {line(one['title'], 2 * LINE)}")
        if rows:
            print(f"    row {shown}" if one["row_count"] == 1 else f"    rows {shown}")
        if one["text"]:
            label = f"{line(one['label']) or 'no label'}: " if one["row_count"] == 1 else ""
            print(f"    {label}{line(one['text'])}")
    if not found:
        say("no findings" if counts else "nothing was found")
        return
    total = counts[kind] if kind else sum(counts.values())
    say(f"\n{len(found):,} of {total:,} findings of version {analysed}")
    first = next((one["rows"][0] for one in found if one["rows"]), None)
    more = [*(["--kind", kind] if kind else []), "--after", found[-1]["finding"]]
    say_next(
        *([command(data, "show", name, first)] if first is not None else []),
        *([command(data, "findings", name, *more)] if len(found) == limit else []),
    )


@extra_required("debug")
def show(
    name: Name,
    row: Row,
    *,
    version: Version = None,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Show everything about one row."""
    from debugger.queries import get_row
    from debugger.reading import open_dataset
    from debugger.views.rows import row_lines

    with open_dataset(data, name, version=version) as opened:
        found = get_row(opened, row)
        likeliest = row_lines(opened, [row])[0]["predicted"]
        analysed = opened.version
    if json:
        print_json({"name": name, "version": analysed, **found})
        return
    print_fields(
        [
            ("row", row),
            ("id", line(found["external_id"])),
            ("text", line(found["text"], 1000)),
            ("label", line(found["label"])),
            ("usage", found["usage"]),
            ("complete", "yes" if found["complete"] else "no"),
            ("given score", found["given_score"]),
            ("group", line(found["group_name"])),
            ("decision", _decision(found)),
        ]
    )
    _print_predictions(found)
    _print_neighbours(found)
    if found["scores"]:
        print()
        print_table(("score", "value"), list(found["scores"].items()))
    for one in found["findings"]:
        print(f"\n{one['severity']}  {one['kind']}  {line(one['title'], 2 * LINE)}")
        print(f"    {line(one['suggestion'], 200)}")
    say_next(*_choices(data, name, row, found, likeliest))


def _decision(found: dict[str, Any]) -> str | None:
    if found["decision"] is None:
        return None
    last = next(one for one in reversed(found["reviews"]) if one["action"] == found["decision"])
    label = f" as {line(last['label'])}" if last["label"] else ""
    return f"{last['action']}{label}, by {line(last['reviewer'])}"


def _print_predictions(found: dict[str, Any]) -> None:
    rows = []
    for one in found["predictions"]:
        others = (one["candidates"] or [])[:SHOWN_CANDIDATES]
        said = ", ".join(f"{line(other['label'], 40)} {other['confidence']:.2f}" for other in others)
        rows.append((line(one["source"]), said, "fitted on this row" if one["in_sample"] else ""))
    if rows:
        print()
        print_table(("classifier", "says", ""), rows)


def _print_neighbours(found: dict[str, Any]) -> None:
    for kind, others in found["neighbours"].items():
        print()
        print_table(
            (f"nearest by {kind}", "cosine", "label", "text"),
            [
                (other["other"], f"{other['cosine']:.3f}", line(other["label"], 40), line(other["text"], 60))
                for other in others[:SHOWN_NEIGHBOURS]
            ],
        )


def _choices(data: Path, name: str, row: int, found: dict[str, Any], likeliest: str | None) -> list[str]:
    """Decisions that make sense for the row, as commands."""
    if found["decision"] is not None:
        return [command(data, "review", name, row, "undo"), command(data, "findings", name)]
    steps = [command(data, "review", name, row, "confirm")] if found["label"] else []
    if likeliest not in (None, found["label"]) and likeliest.isprintable():
        steps.insert(0, command(data, "review", name, row, "relabel", "--label", likeliest))
    return [*steps, command(data, "review", name, row, "drop")]


@extra_required("debug")
def review(
    name: Name,
    row: Rows,
    action: Annotated[
        Literal["relabel", "confirm", "drop", "keep", "annotate_next", "undo"],
        typer.Argument(
            metavar="ACTION",
            help="relabel (with --label); confirm: the label is right; drop: leave the row out; keep: the "
            "row is right; annotate_next: have it labelled next; undo: take the last one back.",
        ),
    ],
    *,
    label: Annotated[str | None, typer.Option("--label", help="New label of a relabel.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="Why, in your words.")] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", envvar="EMBUP_REVIEWER", help="Who decides.", show_default="your login"),
    ] = None,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Decide about a row, or about several in the same way.

    Decisions are kept with who made them and when; the imported data stays as it is, and exports apply them.
    """
    from debugger.reading import open_dataset
    from debugger.reviews import Review, add_reviews

    chosen: Action = action
    numbers = row_numbers(row)
    with open_dataset(data, name) as opened:
        folder, count, version = opened.folder, opened.count("rows"), opened.version
        known = opened.query("SELECT 1 AS one FROM labels WHERE label = ? LIMIT 1", [label])
    who = by or _login()
    decided = [
        Review(row=number, action=chosen, label=label, note=note, reviewer=who, version=version)
        for number in numbers
    ]
    stored = add_reviews(folder, decided, rows=count)
    if json:
        print_json(asdict(stored[0]) if len(stored) == 1 else {"reviews": [asdict(one) for one in stored]})
        return
    what = f"row {numbers[0]}" if len(numbers) == 1 else f"{len(numbers):,} rows"
    print_fields([("stored", f"{action}{f' as {line(label)}' if label else ''}: {what}"), ("by", line(who))])
    if label is not None and not known:
        say(f"warning: no row had the label {line(label)!r} at import; check its spelling")
    undo = command(data, "review", name, row, "undo")
    steps = [undo] if action != "undo" else []
    following = None if version is None else _next_row(data, name)
    if following is not None:
        steps.insert(0, command(data, "show", name, following))
    say_next(*steps, command(data, "export", name, "cleaned", "OUT"))


def _next_row(data: Path, name: str) -> int | None:
    """The first row of the first findings that nobody has decided about."""
    from debugger.queries import list_findings
    from debugger.reading import open_dataset

    with open_dataset(data, name) as opened:
        found = list_findings(opened, limit=SHOWN_AT_FIRST)
        rows = (row for one in found for row in one["rows"] if row not in opened.decisions)
        return next(rows, None)


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user without a name, as in containers
        return "unknown"


@extra_required("debug")
def suggest(
    name: Name,
    *,
    count: Annotated[int, typer.Option("--count", min=1, max=10_000, help="How many rows.")] = 50,
    version: Version = None,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """List rows whose labels would teach a classifier most."""
    from debugger.queries import suggest as choose
    from debugger.reading import open_dataset

    with open_dataset(data, name, version=version) as opened:
        found = choose(opened, count=count)
    if json:
        print_json({"rows": found})
        return
    print_table(
        ("row", "predicted", "confidence", "text", "why"),
        [
            (one["row"], line(one["predicted"], 40), one["confidence"], line(one["text"], 60), one["why"])
            for one in found
        ],
    )
    if found:
        say_next(
            command(data, "export", name, "annotate", "OUT.csv", "--count", count),
            command(data, "review", name, found[0]["row"], "relabel", "--label", "LABEL"),
        )


@extra_required("debug")
def compare(
    name: Name,
    before: Annotated[int, typer.Argument(metavar="A", min=1, help="A version, as `run` numbers them.")],
    after: Annotated[int, typer.Argument(metavar="B", min=1, help="Another one.")],
    *,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Compare two analyses: scores, findings that came and went, slices that got worse."""
    from debugger.comparison import compare as compared

    found = compared(data, name, before, after)
    if json:
        print_json(found)
        return
    old, new = found["before"], found["after"]
    print_table(
        ("", f"version {old['version']}", f"version {new['version']}"),
        [
            ("reviews known", old["reviews"], new["reviews"]),
            ("classifier is right", percent(old["accuracy"]) or "-", percent(new["accuracy"]) or "-"),
            ("wrong labels, about", old["estimated_label_errors"], new["estimated_label_errors"]),
        ],
    )
    print()
    print_table(
        ("score", "before", "after", "rows worse", "rows better"),
        [
            (kind, one["before"], one["after"], one["rows_worse"], one["rows_better"])
            for kind, one in found["scores"].items()
        ],
    )
    print()
    print_table(
        ("finding", "before", "after", "new", "gone"),
        [
            (kind, one["before"], one["after"], one["new"], one["gone"])
            for kind, one in found["findings"].items()
        ],
    )
    worse = [
        (kind, one["partition"], line(one["name"], 40), one["rows"], one["before"], one["after"])
        for kind, scores in found["scores"].items()
        for one in scores["slices"]
        if one["worse"]
    ]
    if worse:
        print()
        print_table(("worse in", "of", "slice", "rows", "before", "after"), worse)
    say_next(command(data, "findings", name))
