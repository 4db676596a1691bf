"""Options and wording that the commands of `embup debug` share."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from embup.cli import options
from embup.cli.output import say
from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Name = Annotated[str, typer.Argument(metavar="NAME", help="Data set, as `embup debug list` has it.")]
Version = Annotated[
    int | None,
    typer.Option(
        "--version", min=1, help="Which analysis; as `embup debug run` numbers them.", show_default="newest"
    ),
]
Row = Annotated[int, typer.Argument(metavar="ROW", help="Number of the row, from 0.")]
Rows = Annotated[
    str, typer.Argument(metavar="ROW", help="Number of the row, from 0; or several, such as 3,17,20-25.")
]
Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="json, jsonl, csv or parquet; else told from the file."),
]
LINE: Final = 80
MOST_ROWS: Final = 100_000
_JOINERS: Final = "\u200c\u200d"  # emoji and several scripts are written with them


def line(text: str | None, longest: int = LINE) -> str | None:
    """A text from a file on one line of a terminal: nothing in it moves the cursor or turns the direction."""
    if text is None:
        return None
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(
        one if one.isprintable() or one in _JOINERS else one.encode("unicode_escape", "replace").decode()
        for one in cut
    )


def command(data: Path, *words: object) -> str:
    """A command of `embup debug` to type; it names the data folder where that is not the usual one."""
    usual = os.environ.get("EMBUP_DATA") or str(options.DATA)
    folder = [] if str(data) == usual else ["--data", str(data)]
    return shlex.join(["embup", "debug", *map(str, words), *folder])


def say_next(*steps: str) -> None:
    """Say what to do next, on stderr."""
    say("")
    for place, step in enumerate(steps):
        say(f"{'next:' if not place else '  or:'} {step}")


def pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    """Values of an option `NAME=VALUE` that may come several times.

    Raises
    ------
    InputError
        One has no name.
    """
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(
                f"Expected {option} NAME=VALUE, found {text!r}.", remedy="Such as text=utterance."
            )
        found[name.strip()] = value.strip()
    return found


def row_numbers(text: str) -> list[int]:
    """Row numbers of a text such as ``3,17,20-25``, each once, in their order.

    Raises
    ------
    InputError
        It is something else, or names more than 100,000 rows.
    """
    found: dict[int, None] = {}
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        ends = [first, last or first]
        if not all(end.isascii() and end.isdigit() and len(end) < 10 for end in ends):
            raise InputError(f"Expected row numbers, found {text!r}.", remedy="Such as 17, or 3,17,20-25.")
        if int(ends[1]) - int(ends[0]) + len(found) > MOST_ROWS:
            raise InputError(f"Expected at most {MOST_ROWS:,} rows, found {text!r}.", remedy="Name fewer.")
        found.update(dict.fromkeys(range(int(ends[0]), int(ends[1]) + 1)))
    return list(found)


def percent(share: Any) -> str | None:
    """A share between 0 and 1 for people; None where it is unknown."""
    return None if share is None else f"{100 * share:.1f} %"
