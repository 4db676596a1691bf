"""Recognise files by their first bytes, so that an error names the content and the fix."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embup_core.errors import InputFileError
from embup_core.files.npy_header import MAGIC as NPY_MAGIC

if TYPE_CHECKING:
    from pathlib import Path

HEAD_BYTES: Final = 4096
_FEWEST_UTF16_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Content:
    """What the first bytes of a file reveal.

    Attributes
    ----------
    kind
        Short name, compared with what a format expects.
    words
        Name in messages.
    remedy
        The fix; `{name}` stands for the file's name, `{stem}` for the name without its ending.
    """

    kind: str
    words: str
    remedy: str


_RENAME: Final = "Rename it to {stem}%s."
_UTF8: Final = "Convert it: iconv -f %s -t UTF-8 {name} > {stem}.utf8.txt"
_NUMPY: Final = "Load it with %s and save the rows with numpy.save, as {stem}.npy."

GZIP: Final = Content("gzip", "gzip data", "Rename it to {name}.gz.")
ZSTD: Final = Content("zstd", "Zstandard data", "Rename it to {name}.zst.")
NPY: Final = Content("npy", "a NumPy array (.npy)", _RENAME % ".npy")
NPZ: Final = Content("zip", "a NumPy archive (.npz)", _RENAME % ".npz")
PARQUET: Final = Content("parquet", "Parquet data", _RENAME % ".parquet")
_ZIP: Final = Content("zip", "a zip archive", "Unpack it with unzip.")
_TORCH: Final = Content(
    "torch", "a PyTorch checkpoint", "Save the tensor with numpy.save(path, tensor.float().numpy())."
)
_EXCEL: Final = Content("excel", "an Excel workbook", "Export the sheet as CSV with decimal points.")
_PICKLE: Final = Content("pickle", "a Python pickle", _NUMPY % "pickle")

_MAGICS: Final[tuple[tuple[bytes, Content], ...]] = (
    (b"\x1f\x8b\x08", GZIP),  # deflate, the one method there is
    (b"\x28\xb5\x2f\xfd", ZSTD),
    (NPY_MAGIC, NPY),
    (b"PAR1", PARQUET),
    (b"PARE", Content("encrypted parquet", "encrypted Parquet data", "Decrypt it.")),
    (b"BZh", Content("bzip2", "bzip2 data", "Decompress it with bunzip2.")),
    (b"\xfd7zXZ\x00", Content("xz", "xz data", "Decompress it with unxz.")),
    (b"\x04\x22\x4d\x18", Content("lz4", "LZ4 data", "Decompress it with unlz4.")),
    (b"\x89HDF\r\n\x1a\n", Content("hdf5", "an HDF5 file", _NUMPY % "h5py")),
    (b"ARROW1", Content("arrow", "an Arrow (Feather) file", "Write the table with pyarrow.parquet.")),
    (b"FEA1", Content("arrow", "a Feather file", "Write the table with pyarrow.parquet.")),
    (b"ORC", Content("orc", "an ORC file", "Write the table with pyarrow.parquet.")),
    (b"Obj\x01", Content("avro", "an Avro file", "Write the rows as Parquet or JSON lines.")),
    (b"SQLite format 3\x00", Content("sqlite", "an SQLite database", "Export the rows as CSV.")),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", _TORCH),
    (b"%PDF-", Content("pdf", "a PDF document", "Name a file of numbers.")),
    (codecs.BOM_UTF32_LE, Content("utf-32", "text in UTF-32", _UTF8 % "UTF-32")),
    (codecs.BOM_UTF32_BE, Content("utf-32", "text in UTF-32", _UTF8 % "UTF-32")),
    (codecs.BOM_UTF16_LE, Content("utf-16", "text in UTF-16", _UTF8 % "UTF-16")),
    (codecs.BOM_UTF16_BE, Content("utf-16", "text in UTF-16", _UTF8 % "UTF-16")),
)
_HTML: Final = Content(
    "html", "an HTML page", "Download the file itself; a page is often an error or a login of the server."
)
_XML: Final = Content("xml", "an XML document", "Write one row a line, its values separated by commas.")


def content_of(head: bytes) -> Content | None:
    """Return the content that the first bytes of a file reveal; None for text and for unknown bytes."""
    for magic, content in _MAGICS:
        # A magic of letters can begin a header of names, too, but no text has control characters or NULs.
        if head.startswith(magic) and not (magic.isalnum() and _is_text(head)):
            return content
    if head.startswith(b"PK\x03\x04"):
        return _archive(head)
    if len(head) > 2 and head[0] == 0x80 and 2 <= head[1] <= 5:  # opcode PROTO and its number
        return _PICKLE
    start = head[:256].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return _HTML
    if start.startswith(b"<?xml"):
        return _XML
    return _utf16_without_mark(head)


def require_content(path: Path, head: bytes, expected: str | None) -> None:
    """Refuse a file whose first bytes reveal another content than its ending promises.

    Parameters
    ----------
    path
        The file.
    head
        Its first bytes, or those of the text that is compressed in it.
    expected
        Kind of the content of this format; None for text.

    Raises
    ------
    InputFileError
        It is another one; the message names the content, the remedy the ending or the conversion.
    """
    found = content_of(head)
    if found is None or found.kind == expected:
        return
    # The remedies name files without the ending that misleads, unless it is that of a text.
    name = path.name if expected is None or found not in {GZIP, ZSTD} else path.stem
    words = next((one.words for _, one in _MAGICS if one.kind == expected), "text in UTF-8")
    raise InputFileError(
        f"{path}: expected {NPZ.words if expected == NPZ.kind else words}, found {found.words}.",
        remedy=found.remedy.format(name=name, stem=path.stem),
    )


def _is_text(head: bytes) -> bool:
    return not any(byte < 9 or byte > 0x7F for byte in head[:256])


def _archive(head: bytes) -> Content:
    """Tell apart the archives that programs write as zip files, by the names in their first bytes."""
    name_bytes = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + name_bytes]
    if name.endswith(b".npy"):
        return NPZ
    if name.endswith((b"/data.pkl", b"/version", b"/.format_version", b"/byteorder")):
        return _TORCH
    if name in {b"[Content_Types].xml", b"_rels/.rels"} or name.startswith(b"xl/"):
        return _EXCEL
    return _ZIP


def _utf16_without_mark(head: bytes) -> Content | None:
    """Recognise ASCII in UTF-16 by its zero bytes: every second one, and no other."""
    even, odd = head[: len(head) & ~1 : 2], head[1::2]
    if len(head) < _FEWEST_UTF16_BYTES:
        return None
    for zeros, letters, name in ((odd, even, "UTF-16LE"), (even, odd, "UTF-16BE")):
        if not any(zeros) and all(letters):
            return Content("utf-16", "text in UTF-16", _UTF8 % name)
    return None
