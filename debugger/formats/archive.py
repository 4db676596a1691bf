"""A zip archive with one file of records in it, as exports of annotation tools come."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, BinaryIO, Final

from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES: Final = 16 << 30
"""Longest file that is unpacked."""
MOST_GROWTH: Final = 200
"""How many times as long as in the archive a file may become; texts become 5 to 50 times as long."""
ALWAYS_ALLOWED_BYTES: Final = 16 << 20
ENDINGS: Final = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_COPIED_BYTES: Final = 1 << 20
_REMEDY: Final = "Unpack it yourself, and import the file that is meant."


def is_zip(path: Path) -> bool:
    """Whether a file is a zip archive, by its content."""
    with path.open("rb") as file:
        return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")


def unpack(archive: Path, out: BinaryIO) -> str:
    """Write the one file of records of an archive.

    Parameters
    ----------
    archive
        The zip archive. What macOS adds (`__MACOSX`, `._name`) is passed over.
    out
        Where the file's bytes go.

    Returns
    -------
    Its name within the archive.

    Raises
    ------
    InputFileError
        It has none or several, is encrypted, names a path outside itself, is damaged, or becomes longer than
        a file of records does.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            member = _the_one(archive, opened.infolist())
            _copy(archive, opened, member, out)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError) as error:
        reason = str(error).rstrip(".") or "it is damaged"
        raise InputFileError(f"{archive} cannot be unpacked: {reason}.", remedy=_REMEDY) from error
    return member.filename


def _the_one(archive: Path, members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[:1]:
            raise InputFileError(
                f"{archive} names a path outside itself: {member.filename!r}.", remedy="Do not trust it."
            )
    found = [
        member
        for member in members
        if not member.is_dir()
        and "__MACOSX" not in PurePosixPath(member.filename).parts
        and not PurePosixPath(member.filename).name.startswith(".")
        and member.filename.lower().endswith(ENDINGS)
    ]
    if len(found) != 1:
        names = ", ".join(member.filename for member in found[:5]) or "none"
        raise InputFileError(
            f"{archive}: expected one file of {', '.join(ENDINGS)}, found {names}.", remedy=_REMEDY
        )
    if found[0].flag_bits & 1:
        raise InputFileError(f"{archive} is encrypted.", remedy=_REMEDY)
    return found[0]


def _copy(archive: Path, opened: zipfile.ZipFile, member: zipfile.ZipInfo, out: BinaryIO) -> None:
    limit = min(MOST_BYTES, max(ALWAYS_ALLOWED_BYTES, MOST_GROWTH * member.compress_size))
    copied = 0
    with opened.open(member) as file:
        while block := _read(archive, file):
            copied += len(block)
            if copied > limit:
                raise InputFileError(
                    f"{archive}: {member.filename} has {member.compress_size:,} bytes in the archive and "
                    f"more than {limit:,} outside; files of records do not grow like that.",
                    remedy=_REMEDY,
                )
            out.write(block)


def _read(archive: Path, file: IO[bytes]) -> bytes:
    try:
        return file.read(_COPIED_BYTES)
    except OSError as error:  # what bz2 raises for damaged data; it never comes from writing
        raise InputFileError(
            f"{archive} cannot be unpacked: {error.strerror or error}.", remedy=_REMEDY
        ) from error
