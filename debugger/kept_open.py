"""Data sets that stay open between reads: opening one takes longer than most answers."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import duckdb

from debugger.reading import BrokenDatasetError, OpenDataset, chosen_version, open_dataset
from debugger.store.names import find_dataset

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from debugger.store.names import DatasetFolder


IDLE_S: Final = 300.0
"""Longer than a reviewer thinks about a row. What is open holds memory, and disk space after its removal."""


class KeptOpen(threading.local):
    """The data set that each thread has read last, open as long as none of its files changes.

    Parameters
    ----------
    idle_s
        Seconds after the last read until it is closed.
    """

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._kept = _Kept(idle_s)

    @contextmanager
    def open(self, data: Path, name: str, *, version: int | None = None) -> Iterator[OpenDataset]:
        """Open a data set, or give the one that is open; parameters and errors are those of `open_dataset`.

        What is given is as of this moment, and no other thread's.
        """
        folder = find_dataset(data, name)
        chosen = chosen_version(folder, version)
        # Looked at before the files are opened: one that changes meanwhile is opened again the next time.
        state = dataset_state(folder, chosen)
        with self._kept.read(state, lambda: open_dataset(data, name, version=chosen)) as opened:
            yield opened

    def close(self) -> None:
        """Close this thread's data set, if there is one."""
        self._kept.close()


class _Kept:
    """One thread's data set, which a timer's thread closes when it has not been read for long."""

    def __init__(self, idle_s: float) -> None:
        self._idle_s = idle_s
        self._lock = threading.RLock()
        self._stack = ExitStack()
        self._state: tuple[Any, ...] = ()
        self._opened: OpenDataset | None = None
        self._read_at = 0.0
        self._timer: threading.Timer | None = None

    @contextmanager
    def read(
        self, state: tuple[Any, ...], open_it: Callable[[], AbstractContextManager[OpenDataset]]
    ) -> Iterator[OpenDataset]:
        with self._lock:
            if self._opened is None or state != self._state:
                self.close()
                self._opened = self._stack.enter_context(open_it())
                self._state = state
            try:
                yield self._opened
            except (BrokenDatasetError, duckdb.Error):
                self.close()
                raise
            finally:
                self._read_at = time.monotonic()
                if self._timer is None:
                    self._wait(self._idle_s)

    def close(self) -> None:
        with self._lock:
            self._opened = None
            self._stack.close()

    def _wait(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._close_if_idle)
        self._timer.daemon = True  # nothing waits for it at the end
        self._timer.start()

    def _close_if_idle(self) -> None:
        with self._lock:
            self._timer = None
            left = self._read_at + self._idle_s - time.monotonic()
            if left <= 0:
                self.close()
            elif self._opened is not None:
                self._wait(left)


def dataset_state(folder: DatasetFolder, version: int | None) -> tuple[Any, ...]:
    """What is another one where a file of a data set, or of a version of its analysis, was written since."""
    analysis = None if version is None else folder.analysis(version)
    files = (folder.dataset, folder.predictions, folder.review_log, analysis)
    return (folder.path, version, *(None if path is None else file_state(path) for path in files))


def file_state(path: Path) -> tuple[int, ...] | None:
    """What is another one where a file was written since; None where there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
