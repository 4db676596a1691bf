"""What a run over parts is, once and for all: the parts in order, one version, one output format.

The plan is written when a run starts, and a later call resumes it only if it asks for the same. When all
parts are finished, the manifest is made of the plan and of the parts' records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar

import msgspec

from embup_core.batch.inputs.compressed_text import COMPRESSIONS
from embup_core.batch.inputs.formats import FORMATS
from embup_core.errors import InputError, InputFileError, OutputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")
OutputFormat = Literal["parquet", "npy", "txt"]

MANIFEST: Final = "_MANIFEST.json"
_NAMED_AT_MOST: Final = 3
_ENDINGS: Final = tuple(ending for one in FORMATS for ending in one.endings if ending)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, and what was found when the run started.

    Attributes
    ----------
    run_id
        The call that writes: where workers and driver find another one, they stop.
    embup_version
        Of the package: another one may give other bytes.
    input
        Folder or prefix of the parts.
    parts
        Names of its parts, in the order of rows: that of their names.
    output_format
        Ending of the outputs.
    model_version, content_hash
        The one version of all parts, and what its decoder's bytes hash to.
    basis, basis_id
        Axes of the rows; the id of the version's basis, None where it has none.
    output_dims
        Values of a row.
    on_bad_row, max_bad_rows
        As for `BatchSpec`; a limit is that of each part.
    """

    run_id: str
    embup_version: str
    input: str
    parts: tuple[str, ...]
    output_format: OutputFormat
    model_version: str
    content_hash: str
    basis: Literal["decoded", "original"]
    basis_id: str | None
    output_dims: int
    on_bad_row: Literal["fail", "nan"]
    max_bad_rows: float | None

    @property
    def outputs(self) -> dict[str, str]:
        """The name of each part's output, by the part's own."""
        return {part: output_name(part, self.output_format) for part in self.parts}

    def require_same(self, earlier: Plan, *, place: str, done: bool) -> None:
        """Check that a call asks for what an earlier one started.

        Raises
        ------
        OutputError
            It does not; with what differs.
        """
        mine, theirs = msgspec.to_builtins(self), msgspec.to_builtins(earlier)
        ignored = {"run_id", "embup_version"} if done else {"run_id"}
        differing = [name for name in mine if mine[name] != theirs[name] and name not in ignored]
        if not differing:
            return
        name = differing[0]
        if name == "parts":
            told = _difference(earlier.parts, self.parts)
        else:
            told = f"{name} was {theirs[name]}, and is {mine[name]} now"
        raise OutputError(
            f"{place} holds {'the result' if done else 'a part of the result'} of another request: {told}.",
            remedy="Ask for the same, choose another output, or start anew with --overwrite.",
        )


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A finished part.

    Attributes
    ----------
    part, output
        Names of the input and of the output.
    rows, failed_rows
        Rows of the output, and those of them that are NaN.
    size_bytes, sha256
        Of the output.
    input_stamp, output_stamp
        What changes when the input or the output does: size and time of a file, an ETag.
    """

    part: str
    output: str
    rows: int
    failed_rows: int
    size_bytes: int
    sha256: str
    input_stamp: str
    output_stamp: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run: whoever reads it sees all parts, whole.

    Attributes
    ----------
    format
        Of the manifest itself.
    plan
        What was asked for.
    rows, failed_rows, size_bytes
        Sums over the parts.
    finished_utc
        When the last part was there.
    parts
        Records, in the order of rows.
    """

    format: Literal[1] = 1
    plan: Plan
    rows: int
    failed_rows: int
    size_bytes: int
    finished_utc: str
    parts: tuple[PartRecord, ...]

    @classmethod
    def of(cls, plan: Plan, records: Mapping[str, PartRecord], finished_utc: str) -> Self:
        """Put the records, by their parts' names, in order."""
        ordered = tuple(records[part] for part in plan.parts)
        return cls(
            plan=plan,
            rows=sum(one.rows for one in ordered),
            failed_rows=sum(one.failed_rows for one in ordered),
            size_bytes=sum(one.size_bytes for one in ordered),
            finished_utc=finished_utc,
            parts=ordered,
        )


def to_json(value: Plan | PartRecord | Manifest) -> bytes:
    """JSON, indented, with a line's end."""
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"


def from_json(content: bytes, kind: type[T], place: str) -> T:
    """Read what `to_json` wrote.

    Raises
    ------
    OutputError
        It is damaged, or of another program.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.DecodeError as error:
        raise OutputError(
            f"{place}: expected JSON of embup, found something else ({error}).",
            remedy="Choose another output, or remove it.",
        ) from error


def find_parts(names: Sequence[str], place: str) -> tuple[str, ...]:
    """The parts among the names of a folder, in order; those with a dot or underscore in front are no parts.

    Raises
    ------
    InputFileError
        There is none, or something that is none.
    """
    seen = [name for name in names if not name.startswith((".", "_"))]
    unreadable = [ascii(name) for name in seen if name != name.encode(errors="replace").decode()]
    if unreadable:
        raise InputFileError(
            f"{place}: expected names in UTF-8, found {some(unreadable)}.", remedy="Rename it."
        )
    strange = [name for name in seen if not _is_part(name)]
    if strange:
        raise InputFileError(
            f"{place}: expected parts alone ({', '.join(_ENDINGS)}), found {some(strange)}.",
            remedy="Take it out, or rename it so that it begins with an underscore: such names are no parts.",
        )
    if not seen:
        raise InputFileError(f"{place} holds no parts.", remedy=f"Parts end in {', '.join(_ENDINGS)}.")
    return tuple(sorted(seen))


def _is_part(name: str) -> bool:
    """Whether the batch engine knows the name's ending."""
    return _without_compression(name).lower().endswith(_ENDINGS)


def output_name(part: str, output_format: OutputFormat) -> str:
    """The name of a part's output: the same, with the ending of the output's format."""
    stem = _without_compression(part)
    return f"{stem[: stem.rindex('.')]}.{output_format}"


def require_apart(parts: Sequence[str], output_format: OutputFormat) -> None:
    """Check that no two parts have one output.

    Raises
    ------
    InputError
        Two have.
    """
    owner: dict[str, str] = {}
    for part in parts:
        output = output_name(part, output_format)
        if output in owner:
            raise InputError(
                f"Expected parts with names of their own, found {owner[output]} and {part}: the output of "
                f"either is {output}.",
                remedy="Rename one of them.",
            )
        owner[output] = part


def _without_compression(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if f"{dot}{ending.lower()}" in COMPRESSIONS else name


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    gone, new = sorted({*before} - {*now}), sorted({*now} - {*before})
    told = [f"{what} {some(names)}" for what, names in (("without", gone), ("with", new)) if names]
    return f"the input is now {' and '.join(told)}"


def some(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = len(names) - _NAMED_AT_MOST
    return ", ".join(names[:_NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
