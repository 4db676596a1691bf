"""Where parts lie: a folder that all workers see, or a prefix of an object store.

A place has files directly below it, and some in folders whose names begin with an underscore, which readers
of a folder of Parquet (Arrow, DuckDB, Spark) pass over.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from embup_core.errors import InputFileError, InvalidArgumentError, JobConflictError, ObjectChangedError
from embup_core.files.atomic import replace_durably, sync_folder
from embup_core.object_store.address import is_address

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from embup_core.object_store import StoredObject

RUN: Final = "_embup"
ATTEMPTS: Final = f"{RUN}/attempts"
_LOCK: Final = f"{RUN}/lock"
_READ_AT_ONCE: Final = 16
_MOST_JSON_BYTES: Final = 1 << 30


class Place(Protocol):
    """Files below one folder or prefix, by their names relative to it.

    A stamp is what changes when a file does: size and time of a file, the ETag of an object.
    """

    @property
    def name(self) -> str:
        """How messages and manifests name it."""

    def stamps(self) -> dict[str, str]:
        """Names and stamps of what lies directly below, in the order of names; folders end in a slash."""

    def stamp(self, name: str) -> str | None:
        """The stamp of one file; None where there is none."""

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None where there is none."""

    def read_all(self, folder: str) -> list[bytes]:
        """The contents of all small files in a folder below."""

    def write(self, name: str, content: bytes) -> None:
        """Write a small file durably and in one step."""

    def exchange(self, name: str, content: bytes, *, instead_of: bytes | None) -> str:
        """Write a small file where another content is, or none; return its stamp.

        Raises
        ------
        JobConflictError
            Another run has written it. A folder tells under the lock alone.
        """

    def remove(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are passed over."""

    def remove_folder(self, folder: str) -> None:
        """Remove a folder below, with all that is in it, if it is there."""

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """A path under which a file can be read in this block."""

    @contextmanager
    def attempt(self) -> Iterator[Path]:
        """A new folder to write files into, which no other worker uses."""

    def hand_over(self, path: Path, name: str) -> str:
        """Bring a file of an attempt to where `accept` takes it from, and say where that is."""

    def accept(self, handed_over: str, name: str) -> str:
        """Give what was handed over its name, and return its stamp; the driver's call alone."""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other drivers out, where the place can."""


class FolderPlace:
    """A folder. With workers on several machines all of them see it under the same path.

    Parameters
    ----------
    folder
        Made when something is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        """Its path."""
        return str(self._folder)

    def stamps(self) -> dict[str, str]:
        """Names and stamps of what lies directly below; see `Place`."""
        try:
            entries = os.scandir(self._folder)
        except FileNotFoundError:
            return {}
        with entries:
            found = {entry.name + "/" * entry.is_dir(): self.stamp(entry.name) or "" for entry in entries}
        return dict(sorted(found.items()))

    def stamp(self, name: str) -> str | None:
        """The stamp of one file."""
        try:
            return _stamp_of((self._folder / name).stat())
        except FileNotFoundError:  # also of a link that leads nowhere
            return None

    def read(self, name: str) -> bytes | None:
        """The content of a small file."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def read_all(self, folder: str) -> list[bytes]:
        """The contents of all small files in a folder below."""
        # A name that begins with a dot is of a file that was being written.
        return [path.read_bytes() for path in sorted((self._folder / folder).glob("[!.]*"))]

    def write(self, name: str, content: bytes) -> None:
        """Write a small file durably and in one step."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, content)

    def exchange(self, name: str, content: bytes, *, instead_of: bytes | None) -> str:
        """Write a small file where another content is; see `Place`."""
        if self.read(name) != instead_of:
            raise another_run(self.name)
        self.write(name, content)
        return self.stamp(name) or ""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files."""
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        """Remove a folder below."""
        shutil.rmtree(self._folder / folder, ignore_errors=True)

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """The file itself."""
        yield self._folder / name

    @contextmanager
    def attempt(self) -> Iterator[Path]:
        """A new folder beside the outputs, so that accepting one is a rename; it stays until the run ends."""
        folder = self._folder / ATTEMPTS / uuid.uuid4().hex
        folder.mkdir(parents=True)
        yield folder

    def hand_over(self, path: Path, name: str) -> str:  # noqa: ARG002 - it has its name in an attempt
        """It stays where it is until it is accepted."""
        return str(path.relative_to(self._folder))

    def accept(self, handed_over: str, name: str) -> str:
        """Rename it; the attempt's folder goes with its last file."""
        source, target = self._folder / handed_over, self._folder / name
        target.parent.mkdir(exist_ok=True)
        source.replace(target)
        if target.parent != self._folder:
            sync_folder(target.parent)  # the folder itself is synced with the manifest
        if not any(source.parent.iterdir()):
            source.parent.rmdir()
        return _stamp_of(target.stat())

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a lock, which ends with this process."""
        import fcntl

        path = self._folder / _LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except (BlockingIOError, FileNotFoundError):
                mine = False
            if not mine:  # held, or removed by the run that held it
                raise another_run(self.name)
            yield


class StorePlace:
    """A prefix of an object store.

    Parameters
    ----------
    address
        Such as ``s3://bucket/prefix``.
    """

    def __init__(self, address: str) -> None:
        from embup_core.object_store import ObjectStore

        self._store = ObjectStore(address)

    @property
    def name(self) -> str:
        """Its address."""
        return self._store.address

    def stamps(self) -> dict[str, str]:
        """Names and stamps of what lies directly below; see `Place`."""
        found: dict[str, str] = {}
        for one in self._store.objects():
            head, slash, _ = one.key.partition("/")
            if one.key:  # consoles make an empty object for the folder itself
                found[head + slash] = "" if slash else _stamp_of_object(one)
        return found

    def stamp(self, name: str) -> str | None:
        """The stamp of one object."""
        found = self._store.find(name)
        return None if found is None else _stamp_of_object(found)

    def read(self, name: str) -> bytes | None:
        """The content of a small object."""
        found = self._store.read(name, max_bytes=_MOST_JSON_BYTES)
        return None if found is None else found[0]

    def read_all(self, folder: str) -> list[bytes]:
        """The contents of all small objects in a folder below."""
        keys = [one.key for one in self._store.objects(f"{folder}/")]
        with ThreadPoolExecutor(_READ_AT_ONCE) as threads:
            contents = list(threads.map(self.read, keys))
        return [content for content in contents if content is not None]

    def write(self, name: str, content: bytes) -> None:
        """Write a small object."""
        self._store.write(name, content)

    def exchange(self, name: str, content: bytes, *, instead_of: bytes | None) -> str:
        """Write a small object where another content is; see `Place`."""
        from embup_core.object_store import NEW

        found = self._store.read(name, max_bytes=_MOST_JSON_BYTES)
        if (None if found is None else found[0]) != instead_of:
            raise another_run(self.name)
        try:
            stored = self._store.write(name, content, only=NEW if found is None else found[1])
        except ObjectChangedError:
            if self.read(name) != content:  # else an answer was lost, and the write tried again
                raise another_run(self.name) from None
            return self.stamp(name) or ""
        return _stamp_of_object(stored)

    def remove(self, names: Iterable[str]) -> None:
        """Remove objects."""
        self._store.delete(list(names))

    def remove_folder(self, folder: str) -> None:
        """Remove all objects in a folder below."""
        self._store.delete([one.key for one in self._store.objects(f"{folder}/")])

    @contextmanager
    def local_copy(self, name: str) -> Iterator[Path]:
        """Download it into a folder for temporary files."""
        found = self._store.find(name)
        if found is None:
            raise InputFileError(f"{self.name}/{name} does not exist.", remedy="Start again.")
        with tempfile.TemporaryDirectory(prefix="embup-part-") as folder:
            path = Path(folder) / name
            self._store.download(found, path)
            yield path

    @contextmanager
    def attempt(self) -> Iterator[Path]:
        """A folder for temporary files."""
        with tempfile.TemporaryDirectory(prefix="embup-part-") as folder:
            yield Path(folder)

    def hand_over(self, path: Path, name: str) -> str:
        """Upload it under its name: readers see the whole object or none."""
        return _stamp_of_object(self._store.upload(path, name))

    def accept(self, handed_over: str, name: str) -> str:  # noqa: ARG002 - see `hand_over`
        """Nothing: it has its name. Where another run has replaced it since, the end finds that."""
        return handed_over

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing: the end compares ETags, and finds what another run has written."""
        yield


def open_place(text: str) -> Place:
    """The place of a path or an address.

    Raises
    ------
    InvalidArgumentError
        The address is malformed, or the path that of a file.
    MissingExtraError
        It is an address, and the extra `s3` is not installed.
    """
    if is_address(text):
        return StorePlace(text)
    path = Path(text).resolve()
    if path.exists() and not path.is_dir():
        raise InvalidArgumentError(f"{path}: expected a folder, found a file.", remedy="Name a folder.")
    return FolderPlace(path)


def is_folder(text: str) -> bool:
    """Whether a path or an address names a folder of parts: a folder that exists, an address with a slash."""
    return text.endswith("/") if is_address(text) else Path(text).is_dir()


def another_run(place: str) -> JobConflictError:
    """The error of a run that finds another one in its output."""
    return JobConflictError(
        f"{place}: another run writes there, or has begun there since.",
        remedy="Wait until it has ended, then run it again.",
    )


def _stamp_of(status: os.stat_result) -> str:
    return f"{status.st_size}:{status.st_mtime_ns}"


def _stamp_of_object(stored: StoredObject) -> str:
    return stored.etag or f"{stored.size_bytes}:{stored.modified}"
