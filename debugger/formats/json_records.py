"""JSON: an array of objects, or a line for each; read piece by piece, whatever the length of the file.

The standard library's decoder finds where a value ends, so an array is cut into records without being loaded.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any, ClassVar, Final, Never

from debugger.formats.records import LONGEST_RECORD, Record, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_READ_BYTES: Final = 1 << 20
_BLANK: Final = " \t\r\n"
_REMEDY: Final = 'Expected a JSON array of objects in UTF-8, such as [{"text": "…", "label": "…"}].'
_LINES_REMEDY: Final = "Expected one JSON object a line, in UTF-8."


_DECODER: Final = json.JSONDecoder()  # takes NaN, which pandas writes for what is missing


def parse_json(text: str) -> Any:
    """Parse one JSON text.

    Raises
    ------
    ValueError
        It is none, or is nested too deep.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


class JsonArray:
    """A file that holds one array of objects.

    Parameters
    ----------
    path
        The file.
    """

    format: ClassVar[str] = "json"
    ending: ClassVar[str] = ".json"
    unit: ClassVar[str] = "row"

    def __init__(self, path: Path) -> None:
        self._path = path

    def fields(self) -> None:
        """Each record has its own."""

    def records(self, fields: tuple[str, ...] | None = None) -> Iterator[Record]:  # noqa: ARG002
        """Read the objects one after the other."""
        with self._path.open("rb") as file:
            text = _Text(file.read, self._path)
            if text.next_character() != "[":
                text.refuse("expected [ at its beginning")
            text.position += 1
            number = 0
            if text.next_character() == "]":
                text.position += 1
            else:
                while True:
                    text.next_character()
                    yield text.record(number)
                    number += 1
                    after = text.next_character()
                    if after not in (",", "]"):
                        text.refuse(f"expected , or ] after record {number:,}")
                    text.position += 1
                    if after == "]":
                        break
            if text.next_character():
                text.refuse("expected nothing after the closing ]")

    def rewrite(self, target: Path, keep: Callable[[int], bool], change: Callable[[Record], Any]) -> int:
        """Write the objects again; those without a change as they stand, to the letter."""
        written = 0
        with target.open("w", encoding="utf-8", newline="\n") as out:
            for text in _rewritten(self.records(), keep, change):
                out.write(("[" if not written else ",\n") + text)
                written += 1
            out.write("]\n" if written else "[]\n")
        return written


class JsonLines:
    """A file that holds one object a line.

    Parameters
    ----------
    path
        The file.
    """

    format: ClassVar[str] = "jsonl"
    ending: ClassVar[str] = ".jsonl"
    unit: ClassVar[str] = "line"

    def __init__(self, path: Path) -> None:
        self._path = path

    def fields(self) -> None:
        """Each record has its own."""

    def records(self, fields: tuple[str, ...] | None = None) -> Iterator[Record]:  # noqa: ARG002
        """Read the lines one after the other; blank ones are no records."""
        with self._path.open("rb") as file:
            line = number = 0
            while raw := file.readline(LONGEST_RECORD + 1):
                line += 1
                if len(raw) > LONGEST_RECORD:
                    reason = f"line {line:,} is longer than {LONGEST_RECORD:,} bytes"
                    raise unreadable(self._path, reason, _LINES_REMEDY)
                if line == 1:
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                if not raw.strip():
                    continue
                yield self._record(number, line, raw)
                number += 1

    @staticmethod
    def _record(number: int, line: int, raw: bytes) -> Record:
        try:
            text = raw.decode("utf-8").strip()
            values = parse_json(text)
        except ValueError as error:
            return Record(number, line, None, f"expected a JSON object, found {_said(error)}")
        if not isinstance(values, dict):
            return Record(number, line, None, f"expected a JSON object, found {_kind(values)}")
        return Record(number, line, values, text=text)

    def rewrite(self, target: Path, keep: Callable[[int], bool], change: Callable[[Record], Any]) -> int:
        """Write the lines again; those without a change as they stand."""
        written = 0
        with target.open("w", encoding="utf-8", newline="\n") as out:
            for text in _rewritten(self.records(), keep, change):
                out.write(text + "\n")
                written += 1
        return written


def _rewritten(
    records: Iterator[Record], keep: Callable[[int], bool], change: Callable[[Record], Any]
) -> Iterator[str]:
    for record in records:
        if keep(record.number):
            changed = change(record)
            # ASCII alone, as the standard library writes by default: half a surrogate pair stays what it is.
            yield record.text if changed is None else json.dumps({**(record.values or {}), **changed})


class _Text:
    """The text of a file, of which only what is being read is in memory."""

    def __init__(self, read: Callable[[int], bytes], path: Path) -> None:
        self._read = read
        self._path = path
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._buffer = ""
        self._lines = 0
        self._ended = False
        self.position = 0

    def _more(self, size: int = _READ_BYTES) -> None:
        raw = self._read(size)
        self._ended = not raw
        try:
            more = self._decode(raw, self._ended)
        except UnicodeDecodeError as error:
            self.refuse(f"expected UTF-8, found the byte {error.object[error.start]:#x}")
        self._lines += self._buffer.count("\n", 0, self.position)
        self._buffer = self._buffer[self.position :] + more
        self.position = 0

    def next_character(self) -> str:
        """The next one that is not blank, which is not passed over; empty at the end."""
        while True:
            while self.position < len(self._buffer):
                character = self._buffer[self.position]
                if character not in _BLANK:
                    return character
                self.position += 1
            if self._ended:
                return ""
            self._more()

    def record(self, number: int) -> Record:
        """Read the value that begins here."""
        size = _READ_BYTES
        while True:
            try:
                values, end = _DECODER.raw_decode(self._buffer, self.position)
            except RecursionError:
                self.refuse(f"record {number + 1:,} is nested too deep")
            except ValueError as error:
                if self._ended or len(self._buffer) - self.position > LONGEST_RECORD:
                    self.refuse(f"record {number + 1:,}: {_said(error)}")
                self._more(size)
                size *= 2
                continue
            # A number may go on behind the end of the buffer; an object does not.
            if not isinstance(values, dict) and end == len(self._buffer) and not self._ended:
                self._more()
                continue
            text = self._buffer[self.position : end]
            self.position = end
            if isinstance(values, dict):
                return Record(number, number + 1, values, text=text)
            return Record(number, number + 1, None, f"expected a JSON object, found {_kind(values)}")

    def refuse(self, reason: str) -> Never:
        """Say what is wrong, and in which line."""
        line = self._lines + self._buffer.count("\n", 0, self.position) + 1
        raise unreadable(self._path, f"line {line:,}: {reason}", _REMEDY)


def _said(error: ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "bytes that are not UTF-8"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1:,}"
    return str(error)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
