"""Locks between processes; the kernel drops them when their holder ends, however it ends."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from embup_core.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def exclusive(path: Path, *, wait: bool, what: str) -> Iterator[int]:
    """Hold the lock of a folder, or of a file, which is made where there is none.

    Parameters
    ----------
    path
        The folder or the file.
    wait
        Whether to wait for another holder, or to refuse at once.
    what
        What the other holder does, for the message.

    Yields
    ------
    A descriptor of it; that of a file is for reading and writing.

    Raises
    ------
    InputError
        Another process holds it.
    OutputError
        It cannot be opened.
    """
    how = os.O_RDONLY | os.O_DIRECTORY if path.is_dir() else os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, how | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror}.", remedy="Check the folder."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"Another process {what} in {path.parent}.", remedy="Wait until it is done.", code="conflict"
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)
