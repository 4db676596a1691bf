"""Batch files beneath certain folders, the roots, and nowhere else, whatever is swapped on the way.

A root is opened once and held; it may be reached over links. Beneath it no link is followed, so what a path
means follows from its text alone: what lies outside is refused without a look at the disk, and the answer
cannot depend on what is there. What lies beneath a root is opened by openat2(2), which resolves the path in
one step, or, where the kernel has no such call, component by component.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from embup_core.errors import EmbupError
from embup_core.files.held_folder import Folder, RefusedPathError
from embup_core.files.portable import HELD_FOLDER
from embup_core.object_store.address import ObjectPath
from embup_core.object_store.stand_in import open_stand_in

if TYPE_CHECKING:
    from collections.abc import Sequence

_OPENAT2: Final = 437  # on every architecture
_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_NO_SYMLINKS: Final = 0x04
_RESOLVE_BENEATH: Final = 0x08
_RESOLVE: Final = _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
# EPERM: sandboxes that do not know the call forbid it.
_NOT_OFFERED: Final = (errno.ENOSYS, errno.EPERM)
# A link, or a way out; the component-wise walk says ELOOP too.
_LEADS_AWAY: Final = (errno.ELOOP, errno.EXDEV)


@dataclass(frozen=True, slots=True)
class Root:
    """A folder beneath which batch files may lie.

    Attributes
    ----------
    path
        As it was configured, absolute.
    real
        Where it really lies: the paths of files begin with it.
    descriptor
        The folder, held.
    """

    path: str
    real: str
    descriptor: int


@dataclass(frozen=True, slots=True)
class Buckets:
    """Which objects batches may read and write; as roots are for files.

    Attributes
    ----------
    prefixes
        Addresses beneath which they may lie, in their one spelling.
    uploads
        Folder of the local stand-ins of outputs, the service's own.
    reserved
        Addresses beneath which no batch may read or write, even beneath a prefix.
    looking
        Whether no stand-in is made: where there is none, `uploads` itself is looked at.
    """

    prefixes: tuple[str, ...]
    uploads: str
    reserved: tuple[str, ...] = ()
    looking: bool = False

    def locate(self, given: str) -> ObjectPath:
        """Return the address that a client means.

        Raises
        ------
        RefusedPathError
            It lies beneath no prefix, or in what is reserved.
        ValueError
            It is malformed.
        """
        path = ObjectPath.parsed(given)
        if not any(str(path).startswith(f"{prefix}/") for prefix in self.prefixes):
            allowed = ", ".join(self.prefixes) or "none are allowed"
            raise RefusedPathError(
                f"the address lies outside the prefixes of batch objects ({allowed})", self.remedy()
            )
        if any(f"{path}/".startswith(f"{address}/") for address in self.reserved):
            raise RefusedPathError("the address lies in what holds the service's own state", self.remedy())
        return path

    def remedy(self) -> str:
        """Say what to do about an address that is refused."""
        first = f"Use an address beneath {self.prefixes[0]}, or start" if self.prefixes else "Start"
        return f"{first} the service with other prefixes in EMBUP_BATCH_PREFIXES."


class Confinement:
    """The roots, held, and the folders beneath them that are not for batches.

    Parameters
    ----------
    reserved
        Folders, or files, that no batch may read or write, even beneath a root.
    roots
        Roots that are held already; none where `open` is called later.
    buckets
        Which objects batches may read and write.

    Attributes
    ----------
    roots, reserved, buckets
        As given, or opened.
    """

    def __init__(
        self, reserved: Sequence[Path], roots: Sequence[Root] = (), buckets: Buckets | None = None
    ) -> None:
        self.reserved = tuple(reserved)
        self.roots = tuple(roots)
        self.buckets = buckets or Buckets((), "")

    def open(self, roots: Sequence[Path]) -> None:
        """Open the roots, following links this one time; nothing where that was done.

        Raises
        ------
        EmbupError
            One is no folder, or cannot be reached.
        """
        if self.roots:
            return
        with ExitStack() as opened:
            found = []
            for path in roots:
                try:
                    descriptor = os.open(path, HELD_FOLDER)
                except OSError as error:
                    raise EmbupError(
                        f"The folder of batch files {path} cannot be opened: {error.strerror}.",
                        remedy="Create it, or name others in EMBUP_BATCH_ROOTS.",
                    ) from error
                opened.callback(os.close, descriptor)
                found.append(Root(str(path.absolute()), str(path.resolve()), descriptor))
            opened.pop_all()
        self.roots = tuple(found)

    def close(self) -> None:
        """Close the roots. Idempotent."""
        roots, self.roots = self.roots, ()
        for root in roots:
            os.close(root.descriptor)

    def locate(self, path: Path) -> Path:
        """Return the real path that a path beneath a root means, told by its text alone.

        Raises
        ------
        RefusedPathError
            It lies outside, or in a reserved folder, which need not exist.
        """
        root, below = self._beneath(path)
        found = Path(root.real) / below
        if any(found.is_relative_to(folder.resolve()) for folder in self.reserved):
            raise self.reservation()
        return found

    def open_folder(self, path: Path) -> Folder:
        """Open the folder at a path beneath a root, or the stand-in for an address beneath a prefix.

        Raises
        ------
        RefusedPathError
            It lies outside or in a reserved folder, or a link is on the way.
        OSError
            It is missing, no folder, or cannot be reached.
        """
        if isinstance(path, ObjectPath):
            self.buckets.locate(f"{path}/any")
            return open_stand_in(path, Path(self.buckets.uploads), make=not self.buckets.looking)
        root, below = self._beneath(path)
        try:
            descriptor = open_beneath(root.descriptor, below)
        except OSError as error:
            if error.errno in _LEADS_AWAY:
                raise self.refusal() from error
            raise
        folder = Folder(Path(root.real) / below, descriptor, confined=True)
        try:
            self._require_ancestors(folder.descriptor, root, steps=len(Path(below).parts))
        except BaseException:
            folder.close()
            raise
        return folder

    def make_folder(self, path: Path) -> None:
        """Create the folder at a path beneath a root, with those on the way to it; durable when it returns.

        Raises
        ------
        RefusedPathError
            It lies outside or in a reserved folder, or a link is on the way.
        OSError
            A file is on the way, or the folder cannot be created.
        """
        root, below = self._beneath(path)
        folder = Path(root.real)
        for name in Path(below).parts:
            with self.open_folder(folder) as parent:
                folder /= name
                try:
                    self.open_folder(folder).close()
                except FileNotFoundError:
                    with suppress(FileExistsError):  # made by another request since
                        os.mkdir(name, dir_fd=parent.descriptor)
                    parent.sync()
        self.open_folder(folder).close()

    def refusal(self) -> RefusedPathError:
        """Return the one error for everything that leads outside, or may."""
        folders = ", ".join(root.path for root in self.roots)
        return RefusedPathError(
            f"the path lies outside the folders of batch files ({folders}), or leads over a link,"
            " which is not followed beneath them",
            self.remedy(),
        )

    def reservation(self) -> RefusedPathError:
        """Return the error for a path in a reserved folder."""
        return RefusedPathError("the path lies in what holds the service's own state", self.remedy())

    def remedy(self) -> str:
        """Say what to do about a path that is refused."""
        return (
            f"Use another path under {self.roots[0].path}, or start the service with other folders in"
            " EMBUP_BATCH_ROOTS."
        )

    def _beneath(self, path: Path) -> tuple[Root, str]:
        """Return the root that a path lies beneath, the innermost one, and the rest of the path."""
        # Exact although it knows only text: where no link is followed, `..` means what it says.
        text = os.path.normpath(path)
        found: tuple[Root, str] | None = None
        innermost = -1
        for root in self.roots:
            for start in (root.path, root.real):
                if len(start) > innermost and Path(text).is_relative_to(start):
                    found, innermost = (root, str(Path(text).relative_to(start))), len(start)
        if found is None:
            raise self.refusal()
        return found

    def _require_ancestors(self, descriptor: int, root: Root, *, steps: int) -> None:
        """Check that the folder still lies beneath its root, and in no reserved folder by any name."""
        reserved = {identity for folder in self.reserved if (identity := _identity_of(folder)) is not None}
        held = os.fstat(root.descriptor)
        identity = (0, 0)
        for up in range(steps + 1):
            status = os.stat("/".join([".", *[".."] * up]), dir_fd=descriptor)
            identity = (status.st_dev, status.st_ino)
            if identity in reserved:
                raise self.reservation()
        if identity != (held.st_dev, held.st_ino):  # moved away while it was being opened
            raise self.refusal()


def open_beneath(root: int, below: str) -> int:
    """Open a folder by its path beneath another one, over no link, and return the descriptor.

    Parameters
    ----------
    root
        The folder to start at.
    below
        A relative path without `..`; `.` is the folder itself.

    Raises
    ------
    OSError
        ELOOP where a link is on the way; else as opening a folder does.
    """
    openat2 = _openat2()
    if openat2 is None:
        return _walk_beneath(root, below)
    how = _OpenHow(flags=HELD_FOLDER, mode=0, resolve=_RESOLVE)
    descriptor: int = openat2(_OPENAT2, root, os.fsencode(below), ctypes.byref(how), ctypes.sizeof(how))
    if descriptor >= 0:
        return descriptor
    code = ctypes.get_errno()
    if code in _NOT_OFFERED:
        return _walk_beneath(root, below)
    raise OSError(code, os.strerror(code), below)


def _walk_beneath(root: int, below: str) -> int:
    """Do what openat2 does in one step component by component, each held while the next is opened."""
    held = os.open(".", HELD_FOLDER, dir_fd=root)
    for name in Path(below).parts:
        try:
            if name == "..":
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), below)
            following = os.open(name, HELD_FOLDER | os.O_NOFOLLOW, dir_fd=held)
        except NotADirectoryError as error:
            if _is_link(name, held):  # openat2 says so
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), below) from error
            raise
        finally:
            os.close(held)
        held = following
    return held


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def _identity_of(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


class _OpenHow(ctypes.Structure):
    """struct open_how of <linux/openat2.h>."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


@cache
def _openat2() -> Any:
    """Return the C library's syscall(2), made for openat2, for which it has no function of its own."""
    try:
        function = ctypes.CDLL(None, use_errno=True).syscall
    except (OSError, AttributeError):
        return None
    function.argtypes = (
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.POINTER(_OpenHow),
        ctypes.c_size_t,
    )
    function.restype = ctypes.c_long
    return function
