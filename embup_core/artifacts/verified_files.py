"""Reading files that others may have damaged or put there: regular ones only, of a known size, verified.

Nothing here waits for a pipe, follows a device, or takes more memory than was said beforehand.
"""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self

from embup_core.errors import InvalidArtifactError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class FileIdentity:
    """What changes when a file is replaced or written to, as far as one look can tell."""

    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Look at a file, without opening it; None where there is none."""
        try:
            found = path.stat()
        except (OSError, ValueError):
            return None
        return cls(found.st_ino, found.st_size, found.st_mtime_ns)


def read_at_most(path: Path, max_bytes: int) -> bytes:
    """Read a small regular file whole.

    Raises
    ------
    FileNotFoundError
        There is none.
    OSError
        It cannot be read, or is no regular file.
    InvalidArtifactError
        It is longer.
    """
    with _opened(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InvalidArtifactError(
            f"{path}: expected at most {max_bytes} bytes, found more.", remedy="Publish again."
        )
    return content


def read_verified(path: Path, *, size_bytes: int, sha256: str) -> bytes:
    """Read a file that must be as its manifest says.

    Raises
    ------
    InvalidArtifactError
        It is missing, no regular file, or has another size or SHA-256.
    """
    with _verifying(path, size_bytes) as file:
        content = file.read(size_bytes + 1)
    if len(content) != size_bytes:
        raise _another_size(path, size_bytes, len(content))
    _require_hash(path, sha256, hashlib.sha256(content).hexdigest())
    return content


def verify_file(path: Path, *, size_bytes: int, sha256: str) -> None:
    """Check that a file is as its manifest says, a block at a time; raises as `read_verified`."""
    digest = hashlib.sha256()
    with _verifying(path, size_bytes) as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    _require_hash(path, sha256, digest.hexdigest())


@contextmanager
def _verifying(path: Path, size_bytes: int) -> Iterator[BinaryIO]:
    try:
        with _opened(path) as file:
            found_bytes = os.fstat(file.fileno()).st_size
            if found_bytes != size_bytes:
                raise _another_size(path, size_bytes, found_bytes)
            yield file
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InvalidArtifactError(
            f"{path}: cannot be read ({reason}).", remedy="Publish again, or remove the folder."
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    # Without O_NONBLOCK the opening of a pipe would wait for who writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(None, "it is no regular file", str(path))
        yield file


def _another_size(path: Path, expected_bytes: int, found_bytes: int) -> InvalidArtifactError:
    return InvalidArtifactError(
        f"{path}: expected {expected_bytes} bytes, found {found_bytes}.",
        remedy="The file was changed or cut short: publish again.",
    )


def _require_hash(path: Path, expected: str, found: str) -> None:
    if found != expected:
        raise InvalidArtifactError(
            f"{path}: expected SHA-256 {expected}, found {found}.",
            remedy="The file was changed or cut short: publish again.",
        )
