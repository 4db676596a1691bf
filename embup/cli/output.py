"""What commands print: results on stdout (a table or one JSON object), progress on stderr.

A bar is drawn only where a person watches; elsewhere progress is a plain line every few seconds.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from embup_core.progress import Progress

PLAIN_INTERVAL_S = 5.0


def print_json(result: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    print(json.dumps(result, indent=2, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns on stdout; those that hold only numbers stand to the right. Nothing is cut."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    numeric = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    for row in (list(columns), *cells):
        aligned = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        )
        print("  ".join(aligned).rstrip())


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print `name  value` lines on stdout, values aligned."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        print(f"{name:<{width}}  {_cell(value)}")


class _PlainProgress:
    def __init__(self, label: str) -> None:
        self._label = label
        self._next_s = time.monotonic() + PLAIN_INTERVAL_S

    def __call__(self, note: str, done: float, total: float | None) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s:
            return
        self._next_s = now_s + PLAIN_INTERVAL_S
        share = f" {100 * done / total:.0f} %" if total else ""
        print(f"{self._label}{share}{f'  {note}' if note else ''}", file=sys.stderr, flush=True)


@contextmanager
def progress(label: str) -> Iterator[Progress]:
    """Show progress on stderr while the block runs; call what it yields as often as is convenient."""
    if not sys.stderr.isatty():
        yield _PlainProgress(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bars = Bars(*columns, console=Console(stderr=True))
    task = bars.add_task(label, total=None, note="")

    def update(note: str, done: float, total: float | None) -> None:
        bars.start()  # not before: it starts a thread, and the work may fork processes first
        bars.update(task, completed=done, total=total, note=note)

    try:
        yield update
    finally:
        bars.stop()


def say(line: str) -> None:
    """Print one line about what is going on, on stderr."""
    print(line, file=sys.stderr, flush=True)


def file_size(size_bytes: float) -> str:
    """Format a number of bytes for people: `1.2 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "bytes" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True
