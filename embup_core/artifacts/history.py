"""Which versions were in service before this one: DEPLOYMENTS, beside CURRENT, for the way back.

One JSON object a line, only ever appended:

    {"at": "2026-01-31T12:00:00+00:00", "how": "promote", "version": "...", "before": "...", "by": "ann"}

A promotion against the gate's verdict has a "note" that says what it overrode.

CURRENT alone says what is in service. A line is written, and flushed to the disk, before CURRENT is moved; so
after a crash between the two the last line tells of a move that never was. Reading allows for that, for
moves by hand, which leave no line, and for a line cut short: before each line, and at the end, what is known
is brought into line with what CURRENT named at that time.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from embup_core.artifacts.manifest import VERSION
from embup_core.errors import ArtifactError
from embup_core.files.atomic import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

How: TypeAlias = Literal["publish", "promote", "rollback"]
Record: TypeAlias = "Callable[[str, How, str | None, str | None], None]"
"""Notes that CURRENT is about to name a version: version, how, what it named before, a note."""

PROMOTIONS_FILE = "DEPLOYMENTS"
_READ_BYTES = 1 << 18  # the last two thousand moves
_PATIENCE_S = 30.0
_LOOK_S = 0.02
_NOTE = 2000  # characters of a note at most


@dataclass(frozen=True)
class Deployment:
    """One move of CURRENT.

    Attributes
    ----------
    version, before
        What it named afterwards and before; None where it named nothing.
    how
        By which command.
    at
        When, ISO 8601 in UTC; empty in lines without it.
    by
        Name of the user whose process moved it; empty in lines without it.
    note
        What it overrode; empty where nothing.
    """

    version: str
    before: str | None
    how: How
    at: str = ""
    by: str = ""
    note: str = ""


class DeploymentHistory:
    """The record of one registry.

    Parameters
    ----------
    root
        Folder of the registry.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / PROMOTIONS_FILE

    def before(self, current: str) -> list[str]:
        """The versions that were in service before this one and are the way back, the nearest last."""
        steps: list[str] = []
        for line in self._lines():
            if line["before"] is not None:
                _come_to(steps, line["before"])
            if line["how"] == "rollback":
                del steps[-1:]  # what was left is no way back, also where the version is none that is known
                _come_to(steps, line["version"])
            else:
                steps.append(line["version"])
        _come_to(steps, current)
        return steps[:-1]

    def recorded(self, version: str) -> bool:
        """Whether it is known how a version came into service, and so what was there before it."""
        return any(line["version"] == version and line["how"] != "rollback" for line in self._lines())

    def deployments(self) -> list[Deployment]:
        """Every recorded move, the latest last."""
        return [Deployment(**line) for line in self._lines()]

    def replace(self, content: bytes) -> None:
        """Take over the record of another place, while `held`; in the same file, which is what is locked."""
        with self._path.open("r+b") as file:
            file.write(content)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    @contextmanager
    def held(self) -> Iterator[Record]:
        """Keep others from moving CURRENT meanwhile; gives what notes a move.

        Raises
        ------
        ArtifactError
            Somebody else has not let go of it in time.
        OSError
            The file cannot be written.
        """
        is_new = not self._path.exists()
        # Closing the descriptor gives the lock back, however the process ends.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            if is_new:
                sync_folder(self._path.parent)
            self._lock(descriptor)
            yield lambda version, how, before, note: _append(descriptor, version, how, before, note)
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if time.monotonic() > deadline:
                raise ArtifactError(
                    f"{self._path} is held by another process, which publishes or promotes, for "
                    f"{_PATIENCE_S:.0f} s.",
                    remedy="Look what hangs (`lsof` names it), and try again.",
                )
            time.sleep(_LOOK_S)

    def _lines(self) -> list[dict[str, Any]]:
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _READ_BYTES))
                content = file.read(_READ_BYTES)
        except OSError:
            return []
        return [found for line in content.split(b"\n") if (found := _parsed(line)) is not None]


def _come_to(steps: list[str], version: str) -> None:
    """Let the way end at a version: by going back to it where it is on the way, else by one more step."""
    if version in steps:
        while steps[-1] != version:
            steps.pop()
    else:
        steps.append(version)


def line_of(version: str, how: How, before: str | None, note: str | None) -> bytes:
    """One move as it is recorded, with the time and the user."""
    line: dict[str, str | None] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "how": how}
    line |= {"version": version, "before": before, "by": _user()} | ({"note": note[:_NOTE]} if note else {})
    return json.dumps(line).encode() + b"\n"


def _append(descriptor: int, version: str, how: How, before: str | None, note: str | None) -> None:
    content = line_of(version, how, before, note)
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes and os.pread(descriptor, 1, size_bytes - 1) != b"\n":
        content = b"\n" + content  # behind a line cut short
    written = os.write(descriptor, content)
    if written != len(content):
        raise OSError(None, "the disk is full", PROMOTIONS_FILE)
    os.fsync(descriptor)


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line's content; None where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("how") not in {"publish", "promote", "rollback"}:
        return None
    names = found.get("version"), found.get("before")
    if not all(isinstance(name, str) and VERSION.fullmatch(name) for name in names if name is not None):
        return None
    if names[0] is None:
        return None
    told = {name: str(found.get(name) or "") for name in ("at", "by", "note")}
    return {"how": found["how"], "version": names[0], "before": names[1], **told}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as in a container
        return f"uid {os.getuid()}"
