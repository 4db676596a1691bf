"""Find out where the rows are in JSON lines, from the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from embup_core.batch.inputs.columns import AmbiguousColumnsError, column_of_lists
from embup_core.batch.inputs.table_layout import TextLayout
from embup_core.errors import InputFileError
from embup_core.text.json_lines import JsonPath, JsonRows, parse_json
from embup_core.text.parser import RefusedLineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_DEEPEST: Final = 6
_ONE_VALUE_A_LINE: Final = "Write one array or object a line: jq -c '.[]' {name} > {stem}.lines.jsonl"


def json_layout(path: Path, head: bytes, input_dims: int) -> TextLayout:
    """Return the layout of JSON lines.

    Parameters
    ----------
    path
        The file, for messages.
    head
        Its first lines, whole.
    input_dims
        Values of a row.

    Raises
    ------
    InputFileError
        The file is one JSON document, or it is not clear where in a line the row is.
    """
    refusal: InputFileError | None = None
    for line in head.split(b"\n"):
        if not line.strip():
            continue
        if line.strip() in {b"[", b"{"} or line.lstrip().startswith((b"[[", b"[{")):
            raise InputFileError(
                f"{path} is one JSON document, expected JSON lines: a value on each line.",
                remedy=_ONE_VALUE_A_LINE.format(name=path.name, stem=path.stem),
            )
        try:
            return TextLayout(JsonRows(_path_to_row(parse_json(line), input_dims)))
        except AmbiguousColumnsError as error:
            raise InputFileError(
                f"{path}: expected one array of {input_dims} numbers in an object; found {error}.",
                remedy='Write the row under the key "embedding".',
            ) from error
        except RefusedLineError as error:  # perhaps a bad row: the next one decides
            refusal = refusal or InputFileError(
                f"{path}: expected an array of {input_dims} numbers a line, or an object with one; found"
                f" {error}.",
                remedy='Write one array a line, or objects with the key "embedding".',
            )
    if refusal is not None:
        raise refusal
    return TextLayout(JsonRows(()))


def _path_to_row(value: Any, input_dims: int) -> JsonPath:
    """Return where the row is in a line's value."""
    if isinstance(value, list):
        return ()
    if not isinstance(value, dict):
        raise RefusedLineError("a value that is neither array nor object")
    paths = {".".join(map(str, path)): path for path in _arrays(value)}
    lengths = {name: len(_at(value, path)) for name, path in paths.items()}
    # The shortest path wins: what lies deeper belongs to something else.
    for depth in sorted({len(path) for path in paths.values()}):
        here = {name: length for name, length in lengths.items() if len(paths[name]) == depth}
        usual = _by_last_key(here, paths)
        if (name := column_of_lists(usual, input_dims)) is not None:
            return next(path for path in paths.values() if len(path) == depth and path[-1] == name)
    if len(paths) == 1:  # of another length: each row says so
        return next(iter(paths.values()))
    keys = ", ".join(f"{name} ({length} numbers)" for name, length in lengths.items())
    raise RefusedLineError(keys or f"an object with the keys {', '.join(map(repr, list(value)[:5]))}")


def _by_last_key(lengths: Mapping[str, int], paths: Mapping[str, JsonPath]) -> dict[str, int | None]:
    named: dict[str, int | None] = {}
    for name, length in lengths.items():
        key = str(paths[name][-1])
        if key in named:
            raise AmbiguousColumnsError(f"the key {key!r} in several places")
        named[key] = length
    return named


def _arrays(value: Any, path: JsonPath = ()) -> Iterator[JsonPath]:
    """Give the paths of all arrays of numbers, through objects and through arrays of one object."""
    if len(path) > _DEEPEST:
        return
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _arrays(one, (*path, key))
    elif isinstance(value, list) and value:
        if all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in value):
            yield path
        elif isinstance(value[0], dict):
            yield from _arrays(value[0], (*path, 0))


def _at(value: Any, path: JsonPath) -> Any:
    for key in path:
        value = value[key]
    return value
