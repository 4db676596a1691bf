"""Data sets that stay open between reads: opening one takes longer than most answers."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import duckdb

from debugger.reading import BrokenDatasetError, OpenDataset, chosen_version, open_dataset
from debugger.store.names import find_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from debugger.store.names import DatasetFolder


class KeptOpen(threading.local):
    """The data set that each thread has read last, open as long as none of its files changes."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._state: tuple[Any, ...] = ()
        self._opened: OpenDataset | None = None

    @contextmanager
    def open(self, data: Path, name: str, *, version: int | None = None) -> Iterator[OpenDataset]:
        """Open a data set, or give the one that is open; parameters and errors are those of `open_dataset`.

        What is given is as of this moment, and no other thread's.
        """
        folder = find_dataset(data, name)
        chosen = chosen_version(folder, version)
        # Looked at before the files are opened: one that changes meanwhile is opened again the next time.
        state = dataset_state(folder, chosen)
        if self._opened is None or state != self._state:
            self.close()
            self._opened = self._stack.enter_context(open_dataset(data, name, version=chosen))
            self._state = state
        try:
            yield self._opened
        except (BrokenDatasetError, duckdb.Error):
            self.close()
            raise

    def close(self) -> None:
        """Close this thread's data set, if there is one."""
        self._opened = None
        self._stack.close()


def dataset_state(folder: DatasetFolder, version: int | None) -> tuple[Any, ...]:
    """What is another one where a file of a data set, or of a version of its analysis, was written since."""
    analysis = None if version is None else folder.analysis(version)
    files = (folder.dataset, folder.predictions, folder.review_log, analysis)
    return (folder.path, version, *(None if path is None else _stamp(path) for path in files))


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
