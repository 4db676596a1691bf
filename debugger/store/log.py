"""A log of JSON lines that is only ever added to, for what must survive a kill as soon as it is acknowledged.

Each entry has a number. A writer holds the file's lock for the moment of writing, so several processes may
write in turn, and nobody who reads waits. Entries that were added together are stored together: each line
names the last number of its batch. A batch without its last line was never acknowledged: readers pass it
over, and the next writer cuts it off.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from debugger.store.locking import exclusive
from embup_core.errors import OutputError
from embup_core.files.atomic import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_TAIL_BYTES: Final = 64 * 1024


def append(
    path: Path,
    entries: Sequence[Mapping[str, Any]],
    *,
    check: Callable[[int], None] | None = None,
) -> int:
    """Add entries; durable when this returns.

    Parameters
    ----------
    path
        The log; made where there is none.
    entries
        JSON values by name, other names than ``seq`` and ``last``. Each gets its number as ``seq``. After a
        kill all of them are there or none.
    check
        Called with the last number before writing, under the lock; what it raises ends the call.

    Returns
    -------
    Number of the last entry.

    Raises
    ------
    OutputError
        The disk is full, or the file cannot be written. Nothing was added.
    """
    with exclusive(path, wait=True, what="writes") as descriptor:
        end, last = _end(descriptor)
        if check is not None:
            check(last)
        if not entries:
            return last
        batch = last + len(entries)
        lines = (
            json.dumps({"seq": number, "last": batch, **entry}, allow_nan=False)
            for number, entry in enumerate(entries, last + 1)
        )
        content = "".join(line + "\n" for line in lines).encode()
        try:
            os.ftruncate(descriptor, end)
            written = 0
            while written < len(content):
                written += os.pwrite(descriptor, content[written:], end + written)
            os.fsync(descriptor)
            if not end:
                sync_folder(path.parent)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(descriptor, end)
            raise OutputError(
                f"{path} cannot be written: {error.strerror}.",
                remedy="Free space on its disk, and try again.",
            ) from error
    return batch


def entries(path: Path, *, after: int = 0) -> Iterator[dict[str, Any]]:
    """Read the entries of a log whose number is above `after`; none where there is no log."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        left, _ = _end(file.fileno())
        file.seek(0)
        for line in file:
            left -= len(line)
            if left < 0:
                return
            entry: dict[str, Any] = json.loads(line)
            entry.pop("last", None)
            if entry["seq"] > after:
                yield entry


def last_number(path: Path) -> int:
    """Number of the last entry; 0 where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return _end(descriptor)[1]
    finally:
        os.close(descriptor)


def _end(descriptor: int) -> tuple[int, int]:
    """Where the last whole batch ends, and its last number."""
    size = os.fstat(descriptor).st_size
    length = _TAIL_BYTES
    while True:
        start = max(0, size - length)
        tail = os.pread(descriptor, size - start, start)
        end = tail.rfind(b"\n") + 1
        begin = tail.rfind(b"\n", 0, max(end - 1, 0)) + 1
        if begin or not start:
            break
        length *= 4
    if not end:
        return 0, 0
    entry = json.loads(tail[begin:end])
    if _ends_batch(entry):
        return start + end, int(entry["seq"])
    return _end_from_start(descriptor)


def _ends_batch(entry: Mapping[str, Any]) -> bool:
    return bool(entry["seq"] == entry.get("last", entry["seq"]))


def _end_from_start(descriptor: int) -> tuple[int, int]:
    """`_end` of a log with part of a batch at its end: a write is under way, or was killed."""
    end = last = position = 0
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        for line in file:
            position += len(line)
            if line.endswith(b"\n") and _ends_batch(entry := json.loads(line)):
                end, last = position, int(entry["seq"])
    return end, last


def clear(path: Path, *, up_to: int) -> None:
    """Empty a log whose last entry is number `up_to`; one that has grown since stays as it is."""
    with exclusive(path, wait=True, what="writes") as descriptor:
        if _end(descriptor)[1] == up_to:
            os.ftruncate(descriptor, 0)
            os.fsync(descriptor)
