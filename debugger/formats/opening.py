"""Which format a file has: by the end of its name, else by how it begins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from debugger.formats.delimited import Delimited
from debugger.formats.json_records import JsonArray, JsonLines
from debugger.formats.parquet import Parquet
from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from debugger.formats.records import RecordFile

FORMATS: Final[Mapping[str, Callable[[Path], RecordFile]]] = {
    "json": JsonArray,
    "jsonl": JsonLines,
    "csv": Delimited,
    "parquet": Parquet,
}
_BY_ENDING: Final = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}


def open_records(path: Path, *, name: str, chosen: str | None = None) -> RecordFile:
    """Open a file of records.

    Parameters
    ----------
    path
        The file.
    name
        What the user calls it; its ending tells the format.
    chosen
        The format, where the user names it.

    Raises
    ------
    InputFileError
        It is empty, or its format cannot be told.
    """
    with path.open("rb") as file:
        first = file.read(4096)
    if not first.strip():
        raise InputFileError(f"{name} is empty.", remedy="Give a file with at least one record.")
    guessed = "parquet" if first.startswith(b"PAR1") else _BY_ENDING.get(_ending(name))
    if guessed in {None, "json"} and chosen is None:
        start = first.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
        guessed = {b"[": "json", b"{": "jsonl"}.get(start, guessed)
    found = chosen or guessed
    if found is None:
        raise InputFileError(
            f"The format of {name} cannot be told from its name or its beginning.",
            remedy=f"Name it: --format {'|'.join(FORMATS)}.",
        )
    return FORMATS[found](path)


def _ending(name: str) -> str:
    return "." + name.lower().rpartition(".")[2] if "." in name else ""
