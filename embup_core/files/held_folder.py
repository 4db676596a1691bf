"""A folder held open: its files are opened by name, even after its path is moved or replaced.

A batch opens all of its files through a `Folder`. How one is opened is the caller's choice: as any
program does (`open_freely`), or beneath certain folders alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from embup_core.files.portable import HELD_FOLDER


class RefusedPathError(PermissionError):
    """A path that must not be touched, whatever lies there.

    Parameters
    ----------
    reason
        Why, without the path.
    remedy
        What the reader can do about it.
    """

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(errno.EACCES, reason)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return self.reason


class Folder:
    """A folder, held by a descriptor of its own until it is closed.

    Parameters
    ----------
    path
        How messages name it.
    descriptor
        The folder, opened with `HELD_FOLDER`; it becomes this object's.
    confined
        Whether its user may reach nothing else: no link in it is followed, and a file that has another name,
        which may lie anywhere, is not read.
    """

    def __init__(self, path: Path, descriptor: int, *, confined: bool = False) -> None:
        self.path = path
        self.confined = confined
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    @property
    def descriptor(self) -> int:
        """The descriptor, for what takes a `dir_fd`."""
        if self._descriptor < 0:
            raise ValueError(f"{self.path} was closed")
        return self._descriptor

    def entry(self, name: str) -> FolderEntry:
        """Return what is or may be in it under a name."""
        return FolderEntry(self, name)

    def is_same(self, other: Folder) -> bool:
        """Whether the two are one folder."""
        return os.path.samestat(os.fstat(self.descriptor), os.fstat(other.descriptor))

    def is_writable(self) -> bool:
        """Whether files may be made in it."""
        return os.access(".", os.W_OK | os.X_OK, dir_fd=self.descriptor)

    def free_bytes(self) -> int:
        """Return how much its disk still takes."""
        disk = os.fstatvfs(self.descriptor)
        return disk.f_bavail * disk.f_frsize

    def sync(self) -> None:
        """Return once its entries (new names, renames) are on disk."""
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.descriptor)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A name in a folder that is held: one component, so that no link leads away from the folder."""

    folder: Folder
    name: str

    def __post_init__(self) -> None:
        if "/" in self.name or self.name in {"", ".", ".."}:
            raise ValueError(f"expected the name of a file, found {self.name!r}")

    @property
    def path(self) -> Path:
        """How messages name it."""
        return self.folder.path / self.name

    def open(self, flags: int, mode: int = 0o666) -> int:
        """Open it and return the descriptor. A link is not followed, and a pipe is not waited for."""
        flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(self.name, flags, mode, dir_fd=self.folder.descriptor)

    def status(self) -> os.stat_result:
        """Return the status of what stands there itself, be it a link."""
        return os.stat(self.name, dir_fd=self.folder.descriptor, follow_symlinks=False)

    def target_status(self) -> os.stat_result:
        """Return the status of what a link leads to, unless the folder is confined."""
        follow = not self.folder.confined
        return os.stat(self.name, dir_fd=self.folder.descriptor, follow_symlinks=follow)

    def unlink(self) -> None:
        """Take the name away, if it is there."""
        with suppress(FileNotFoundError):
            os.unlink(self.name, dir_fd=self.folder.descriptor)


OpenFolder = Callable[[Path], Folder]
"""Opens the folder at a path; raises OSError, `RefusedPathError` among them."""


def open_freely(path: Path) -> Folder:
    """Open a folder wherever it is, following links: for a program that does what its user may do."""
    return Folder(path, os.open(path, HELD_FOLDER))
