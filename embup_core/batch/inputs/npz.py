"""Rows of an array in a ``.npz`` archive, compressed or not, read a block at a time."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zipfile
import zlib
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from embup_core.batch.inputs.columns import AmbiguousColumnsError, column_of_lists
from embup_core.batch.inputs.input_file import DescriptorFile
from embup_core.batch.inputs.npy import ArrayRows, DescriptorValues, require_rows
from embup_core.errors import InputFileError
from embup_core.files.npy_header import NpyHeader
from embup_core.files.readable import status_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from embup_core.batch.inputs.input_file import OpenInput
    from embup_core.batch.inputs.number_block import NumberBlock

_NAMES_SHOWN: Final = 5
_MOST_UNPACKED_BYTES: Final = 2 << 30
_COPIED_BYTES: Final = 1 << 20
_SKIPPED_A_STEP_BYTES: Final = 8 << 20


class NpzReader:
    """Reads the rows of one array of an open ``.npz`` archive.

    Parameters
    ----------
    source
        The file, and where to start in it.

    Attributes
    ----------
    notices
        Which arrays are ignored.

    Raises
    ------
    InputFileError
        It is not such an archive, or it is not clear which of its arrays holds the rows.
    """

    def __init__(self, source: OpenInput) -> None:
        with _explained(source.path):
            archive = zipfile.ZipFile(DescriptorFile(source.descriptor))
            headers = {}
            for member in archive.infolist():
                if member.filename.endswith(".npy"):
                    with archive.open(member) as file:
                        headers[member.filename.removesuffix(".npy")] = NpyHeader.read(file)
            name = _choose(source.path, headers, source.input_dims)
            header = headers[name]
            values = _MemberValues(
                source.path,
                archive,
                f"{name}.npy",
                archive_bytes=status_of(source.descriptor).st_size,
                unpacked=header.fortran_order,
            )
        self._rows = ArrayRows(source, header, values)
        ignored = ", ".join(repr(other) for other in headers if other != name)
        self.notices = (f"arrays other than {name!r} are ignored: {ignored}",) if ignored else ()

    @property
    def exhausted(self) -> bool:
        """Whether no row is left."""
        return self._rows.exhausted

    def read_block(self) -> NumberBlock | None:
        """Return the next rows, or None after the last one; raises `InputFileError`."""
        return self._rows.read_block()

    def estimated_rows(self) -> int:
        """Return the number of rows in the header."""
        return self._rows.count

    def most_rows(self, block_end: int) -> int:
        """Return how many rows follow."""
        return self._rows.count - block_end


class _MemberValues:
    """Bytes of an archive's member, read forward; or from a temporary file, where rows are scattered in it.

    Parameters
    ----------
    path
        The archive, for messages.
    archive, name
        The archive, and the member.
    archive_bytes
        Size of the archive.
    unpacked
        Whether to unpack the member into a temporary file, which takes its size on the disk.
    """

    def __init__(
        self, path: Path, archive: zipfile.ZipFile, name: str, *, archive_bytes: int, unpacked: bool
    ) -> None:
        self._path = path
        self._archive_bytes = archive_bytes
        self._size_bytes = archive.getinfo(name).file_size
        member = archive.open(name)
        self._member: IO[bytes] = member
        self._scattered: DescriptorValues | None = None
        self._offset = 0
        if unpacked:
            if self._size_bytes > _MOST_UNPACKED_BYTES:
                raise InputFileError(
                    f"{path}: the array takes {self._size_bytes} bytes in Fortran order, expected at most"
                    f" {_MOST_UNPACKED_BYTES}.",
                    remedy="Save it in C order: numpy.savez(path, numpy.ascontiguousarray(rows)).",
                )
            file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
            weakref.finalize(self, file.close)
            shutil.copyfileobj(member, file, _COPIED_BYTES)
            file.flush()
            self._scattered = DescriptorValues(path, file.fileno())

    def read(self, offset: int, count: int) -> bytes | None:
        """Return bytes from an offset on; None while those before it are still being passed over."""
        if self._scattered is not None:
            return self._scattered.read(offset, count)
        with _explained(self._path):
            skipped_bytes = 0
            while self._offset < offset:
                if skipped_bytes >= _SKIPPED_A_STEP_BYTES:
                    return None
                passed = len(self._member.read(min(_COPIED_BYTES, offset - self._offset)))
                if not passed:
                    raise EOFError
                self._offset += passed
                skipped_bytes += passed
            data = self._member.read(count)
            self._offset += len(data)
            if len(data) != count:
                raise EOFError
        return data

    def bytes_done(self, offset: int) -> int:
        """Return the place in the archive that corresponds to one in the member."""
        return self._archive_bytes * offset // self._size_bytes


def _choose(path: Path, headers: Mapping[str, NpyHeader], input_dims: int) -> str:
    """Return the name of the array that holds the rows."""
    widths = {
        name: header.shape[1] if header.dtype.kind in "fiu" and len(header.shape) == 2 else None
        for name, header in headers.items()
    }
    try:
        name = next(iter(headers)) if len(headers) == 1 else column_of_lists(widths, input_dims)
    except AmbiguousColumnsError as error:
        raise InputFileError(
            f"{path}: expected one array of shape (n, {input_dims}), found {error}.",
            remedy='Save the array alone, or name it "embeddings".',
        ) from error
    if name is None:
        found = ", ".join(f"{one!r} {headers[one].shape}" for one in list(headers)[:_NAMES_SHOWN])
        raise InputFileError(
            f"{path}: expected an array of shape (n, {input_dims}), found {found or 'no array'}.",
            remedy="Save the projected embeddings with numpy.savez(path, embeddings=rows).",
        )
    require_rows(path, headers[name], input_dims, inside=name)
    return name


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of zipfile into those of an input file."""
    try:
        yield
    except OSError as error:
        raise InputFileError(
            f"{path} cannot be read: {error.strerror or error}.", remedy="Check the disk it lies on."
        ) from error
    # What zipfile raises: encrypted members are RuntimeError, methods without support NotImplementedError.
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, LookupError) as error:
        raise InputFileError(
            f"{path}: expected a whole NumPy archive, found something else ({str(error) or 'it ends'}).",
            remedy="Save it again with numpy.savez.",
        ) from error
