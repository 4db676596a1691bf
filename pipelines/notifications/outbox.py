"""Messages that an address has not taken yet, in their order: written before they are sent, tried again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Self

from embup_core.files.atomic import replace_durably
from pipelines.notifications.messages import Kind, Message

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FIRST_WAIT: Final = timedelta(minutes=1)
"""After the first try that failed; each further one doubles it."""
LONGEST_WAIT: Final = timedelta(hours=1)
GIVEN_UP_AFTER: Final = timedelta(days=3)
MOST_UNREADABLE: Final = 1000


@dataclass(frozen=True)
class Waiting:
    """A message that not all addresses have.

    Attributes
    ----------
    message
        What.
    since
        When it was told of, in UTC.
    tries
        How often it failed, and when it did last, by the address' digest.
    """

    message: Message
    since: datetime
    tries: dict[str, tuple[int, datetime]] = field(default_factory=dict)

    def is_due(self, digest: str, now: datetime) -> bool:
        """Whether an address is to be tried."""
        if digest not in self.tries:
            return True
        count, last = self.tries[digest]
        wait: timedelta = min(FIRST_WAIT * 2 ** min(count - 1, 10), LONGEST_WAIT)
        return now - last >= wait

    def failed_at(self, digest: str, now: datetime) -> Self:
        """The same after one more try that failed."""
        count, _ = self.tries.get(digest, (0, now))
        return replace(self, tries={**self.tries, digest: (count + 1, now)})

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        tries = {digest: [count, last.isoformat()] for digest, (count, last) in self.tries.items()}
        return {"message": asdict(self.message), "since": self.since.isoformat(), "tries": tries}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Rebuild from `to_json`; ValueError, LookupError or TypeError where it is something else."""
        message = Message(**{**content["message"], "kind": Kind(content["message"]["kind"])})
        tries = {to: (int(n), datetime.fromisoformat(last)) for to, (n, last) in content["tries"].items()}
        return cls(message, datetime.fromisoformat(content["since"]), tries)


class Outbox:
    """The messages that wait below one data folder; used under the lock of `SentRecord`.

    Parameters
    ----------
    folder
        Of the record of what was sent.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "waiting.jsonl"

    def load(self) -> list[Waiting]:
        """All of them, the oldest first. Lines that cannot be read are passed over, and stay."""
        return self._read()[0]

    def _read(self) -> tuple[list[Waiting], list[str]]:
        """What waits, and the lines that cannot be read: another version of embup may have written them."""
        try:
            content = self._path.read_text(encoding="utf-8", errors="surrogateescape")
        except FileNotFoundError:
            return [], []
        found, unreadable = [], []
        for line in content.splitlines():
            try:
                found.append(Waiting.from_json(json.loads(line)))
            except (ValueError, LookupError, TypeError):
                unreadable.append(line)
        return found, unreadable[-MOST_UNREADABLE:]

    def put(self, message: Message) -> None:
        """Write a message down, unless one of its key waits already."""
        waiting = self.load()
        if all(one.message.key != message.key for one in waiting):
            self.replace([*waiting, Waiting(message, datetime.now(UTC))])

    def replace(self, waiting: Sequence[Waiting]) -> None:
        """Keep these, and lines that cannot be read, at once or not at all."""
        lines = [*self._read()[1], *(json.dumps(one.to_json()) for one in waiting)]
        if not lines:
            self._path.unlink(missing_ok=True)
            return
        content = "".join(f"{line}\n" for line in lines)
        replace_durably(self._path, content.encode(errors="surrogateescape"))
