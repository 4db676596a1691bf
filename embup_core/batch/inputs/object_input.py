"""An object of a bucket as the input of a batch: read by ranges, a few blocks in memory.

Each range is asked for under the condition that the object is still the one that was opened (its ETag).
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from embup_core.batch.inputs.input_file import input_changed, no_rows
from embup_core.errors import InputFileError, ObjectChangedError, ObjectStoreError
from embup_core.object_store.failures import passing_code
from embup_core.object_store.store import ObjectStore, StoredObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.object_store.address import ObjectPath

BLOCK_BYTES: Final = 4 << 20
_BLOCKS_KEPT: Final = 5  # the one being read, two under way, and those that a reader turns back to
_BLOCKS_AHEAD: Final = 2


class ObjectInput:
    """An object, open for reading; see `RangedFile`.

    Parameters
    ----------
    path
        Its address.

    Raises
    ------
    InputFileError
        It is missing, empty, or the store does not give it.
    """

    def __init__(self, path: ObjectPath) -> None:
        self._path = path
        with _explained(path):
            self._store = ObjectStore(str(path.parent))
            stored = self._store.find(path.name)
        if stored is None:
            raise InputFileError(f"{path} does not exist.", remedy="Check the input path.")
        if stored.size_bytes == 0:
            raise no_rows(path)
        self._stored: StoredObject = stored
        self._blocks: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None
        self._last = -1

    def status(self) -> os.stat_result:
        """Return its size and time, and a number of its address and ETag in place of an inode."""
        return _status(self._path, self._stored)

    def read_at(self, count: int, offset: int) -> bytes:
        """Return bytes from an offset on; fewer at the end.

        Raises
        ------
        InputFileError
            The object was overwritten or removed, or the store does not answer.
        """
        end = min(offset + count, self._stored.size_bytes)
        if offset >= end:
            return b""
        found = []
        with _explained(self._path):
            for number in range(offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1):
                block = self._block(number)
                start = number * BLOCK_BYTES
                found.append(block[max(0, offset - start) : end - start])
        return found[0] if len(found) == 1 else b"".join(found)

    def require_same(self) -> None:
        """Check that the address still names the object that was opened.

        Raises
        ------
        InputFileError
            It was overwritten or removed, or the store does not answer.
        """
        with _explained(self._path):
            stored = self._store.find(self._path.name)
        if stored is None:
            raise input_changed(f"{self._path} is gone")
        if stored.etag != self._stored.etag:
            raise input_changed(f"{self._path} was overwritten")

    def close(self) -> None:
        """Let go of what was read. Idempotent."""
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
            self._threads = None
        self._blocks.clear()

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            self._blocks[number] = self._fetch(number)
        if 0 < number in {self._last, self._last + 1}:  # only who reads on will want the next
            blocks = -(-self._stored.size_bytes // BLOCK_BYTES)
            for one in range(number + 1, min(number + 1 + _BLOCKS_AHEAD, blocks)):
                if one not in self._blocks:
                    self._blocks[one] = self._fetch(one)
        self._blocks.move_to_end(number)
        try:
            content = self._blocks[number].result()
        except BaseException:
            del self._blocks[number]
            raise
        self._last = number
        while len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)[1].cancel()
        return content

    def _fetch(self, number: int) -> Future[bytes]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_BLOCKS_AHEAD + 1, thread_name_prefix="object-input")
        start = number * BLOCK_BYTES
        end = min(start + BLOCK_BYTES, self._stored.size_bytes)
        return self._threads.submit(self._store.read_range, self._stored, start, end)


def identity_of(path: ObjectPath, etag: str | None) -> int:
    """Return a number that stands for one state of one object, as an inode stands for a file."""
    return int.from_bytes(sha256(f"{path} {etag}".encode()).digest()[:8], "big") >> 2


def object_status(path: ObjectPath, size_bytes: int, etag: str | None, mtime_ns: int = 0) -> os.stat_result:
    """Return an object's size and identity in the form of a file's status."""
    mode = stat.S_IFREG | 0o444
    seconds = mtime_ns // 1_000_000_000
    return os.stat_result(
        (mode, identity_of(path, etag), 0, 1, 0, 0, size_bytes, seconds, seconds, seconds),
        {"st_mtime_ns": mtime_ns},
    )


def _status(path: ObjectPath, stored: StoredObject) -> os.stat_result:
    mtime_ns = 0 if stored.modified is None else int(stored.modified.timestamp()) * 1_000_000_000
    return object_status(path, stored.size_bytes, stored.etag, mtime_ns)


@contextmanager
def _explained(path: ObjectPath) -> Iterator[None]:
    """Turn the errors of a store into those of an input."""
    try:
        yield
    except ObjectChangedError as error:
        raise input_changed(f"{path} was overwritten or removed") from error
    except ObjectStoreError as error:
        raise InputFileError(error.message, remedy=error.remedy, code=passing_code(error)) from error
