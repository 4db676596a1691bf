"""Which message reached which address: one JSON object a line, so that none is sent twice."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from embup_core.files.atomic import replace_durably

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = "notifications"
KEPT_LINES = 2000  # after as many more the older ones are forgotten


class SentRecord:
    """The record below one data folder.

    Parameters
    ----------
    data
        The data folder.
    """

    def __init__(self, data: Path) -> None:
        self.folder = data / FOLDER
        self._path = self.folder / "sent.jsonl"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from sending meanwhile: they would not know what this one sends."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # messages quote errors
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def reached(self, key: str) -> set[str]:
        """Digests of the addresses that have had the message."""
        return {str(line["to"]) for line in self._lines() if line["key"] == key}

    def add(self, key: str, digest: str) -> None:
        """Note that an address has had the message."""
        lines = self._lines()
        at = datetime.now(UTC).isoformat(timespec="seconds")
        lines.append({"at": at, "key": key, "to": digest})
        kept = lines[-KEPT_LINES:] if len(lines) > 2 * KEPT_LINES else lines
        replace_durably(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def _lines(self) -> list[dict[str, str]]:
        try:
            content = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        found = []
        for line in content.splitlines():
            try:
                one = json.loads(line)
            except ValueError:
                continue
            if isinstance(one, dict) and {"key", "to"} <= one.keys():
                found.append(one)
        return found
