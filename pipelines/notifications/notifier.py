"""Sending a message to every address, once, and later where one does not answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from embup_core.errors import EmbupError
from embup_core.extras import extra_required
from pipelines.notifications.addresses import read_addresses
from pipelines.notifications.outbox import GIVEN_UP_AFTER, Outbox
from pipelines.notifications.record import SentRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.notifications.addresses import Address
    from pipelines.notifications.messages import Message
    from pipelines.notifications.outbox import Waiting


@dataclass(frozen=True)
class Delivery:
    """What became of a message.

    Attributes
    ----------
    reached
        Names of the addresses that took it now.
    repeated
        Names of those that had it before.
    failed
        Why others did not take it, by name.
    given_up
        Whether it has failed for three days, and is tried no more.
    """

    reached: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    failed: dict[str, str] | None = None
    given_up: bool = False

    @property
    def waits(self) -> bool:
        """Whether it is tried again."""
        return bool(self.failed) and not self.given_up

    def __str__(self) -> str:
        parts = [
            f"{word} {', '.join(names)}"
            for word, names in (("sent to", self.reached), ("sent before to", self.repeated))
            if names
        ]
        parts += [f"not sent to {name}: {why}" for name, why in (self.failed or {}).items()]
        parts += [f"given up after {GIVEN_UP_AFTER.days} days"] * self.given_up
        return "; ".join(parts) or "no addresses (EMBUP_NOTIFY_FILE)"


class Notifier:
    """Sends messages to the addresses of a file.

    Parameters
    ----------
    file
        Of addresses; None sends nothing.
    data
        Data folder, which holds the record of what was sent.
    dagster_url
        Where Dagster's pages are, for links; empty gives none.
    """

    def __init__(self, file: Path | None, data: Path, *, dagster_url: str = "") -> None:
        self._file = file
        self._record = SentRecord(data)
        self._outbox = Outbox(self._record.folder)
        self._dagster_url = dagster_url.rstrip("/")

    def addresses(self) -> list[Address]:
        """As they stand in the file now; raises `InputError`."""
        return [] if self._file is None else read_addresses(self._file)

    def send(self, message: Message, *, again: bool = False) -> Delivery:
        """Send a message to the addresses that have not had it.

        It is written down before, and waits where an address does not take it: `send_waiting` tries again.
        An address that does not answer delays this by some seconds, and is no error.

        Parameters
        ----------
        message
            What.
        again
            Whether addresses that have had it get it again; it does not wait then.

        Raises
        ------
        InputError
            The file of addresses cannot be used.
        MissingExtraError
            apprise is not installed.
        """
        if self._file is None:
            return Delivery()
        if again:
            return self._send_now(message)
        with self._record.locked():
            self._outbox.put(message)
            return self._send_in_order()[message.key]

    def send_waiting(self, now: datetime | None = None) -> dict[str, Delivery]:
        """Send what waits, oldest first, so that no address gets a message before an earlier one.

        Parameters
        ----------
        now
            Leaves out addresses that failed so lately that they are not due, by this time; None tries all.

        Returns
        -------
        What became of each message, by key; a message is given up after three days.

        Raises
        ------
        InputError, MissingExtraError
            As `send`.
        """
        if self._file is None or not self._outbox.load():
            return {}
        with self._record.locked():
            return self._send_in_order(now)

    def _send_in_order(self, due_by: datetime | None = None) -> dict[str, Delivery]:
        addresses, now = self.addresses(), due_by or datetime.now(UTC)
        found: dict[str, Delivery] = {}
        kept: list[Waiting] = []
        stopped: dict[str, str] = {}  # addresses that an earlier message waits for
        waiting = self._outbox.load()
        for nth, one in enumerate(waiting):
            had = self._record.reached(one.message.key)
            reached, failed = [], {}
            for address in addresses:
                digest = address.digest
                if digest in had:
                    continue
                if digest not in stopped and due_by is not None and not one.is_due(digest, now):
                    stopped[digest] = "it is tried again later"
                if digest in stopped:
                    failed[address.name] = stopped[digest]
                    continue
                problem = self._deliver(address, one.message)
                if problem is None:
                    self._record.add(one.message.key, digest)
                    reached.append(address.name)
                else:
                    failed[address.name] = problem
                    one = one.failed_at(digest, now)  # noqa: PLW2901
                    stopped[digest] = f"an earlier message waits: {problem}"
            given_up = bool(failed) and now - one.since >= GIVEN_UP_AFTER
            if failed and not given_up:
                kept.append(one)
            repeated = tuple(address.name for address in addresses if address.digest in had)
            found[one.message.key] = Delivery(tuple(reached), repeated, failed, given_up)
            self._outbox.replace([*kept, *waiting[nth + 1 :]])
        return found

    def _send_now(self, message: Message) -> Delivery:
        tried = {address.name: self._deliver(address, message) for address in self.addresses()}
        failed = {name: problem for name, problem in tried.items() if problem is not None}
        return Delivery(tuple(name for name in tried if name not in failed), (), failed)

    def _deliver(self, address: Address, message: Message) -> str | None:
        link = f"{self._dagster_url}/runs/{message.run_id}" if self._dagster_url and message.run_id else ""
        body = f"{message.body}\n\n{link}" if link else message.body
        return _deliver(address.url, message.title, body, message.kind.severity)

    def tell(self, message: Message, log: Callable[[str], object]) -> None:
        """Send a message as a by-product: what goes wrong is logged, and stops nothing."""
        if self._file is None:
            return
        try:
            log(f"message {message.key}: {self.send(message)}")
        except (EmbupError, OSError) as error:
            waits = self._waits(message.key)
            what = "was not sent, and waits" if waits else "was not sent, and could not be written down"
            log(f"message {message.key} {what}: {error}")

    def _waits(self, key: str) -> bool:
        try:
            return any(one.message.key == key for one in self._outbox.load())
        except OSError:
            return False


@extra_required()
def _deliver(url: str, title: str, body: str, severity: str) -> str | None:
    """Send to one address; why it failed, without the address, or None."""
    import logging

    import apprise

    # Nothing is written to disk, and what it logs shows no secret.
    asset = apprise.AppriseAsset(
        secure_logging=True, async_mode=False, storage_mode=apprise.PersistentStoreMode.MEMORY
    )
    sender = apprise.Apprise(asset=asset)
    capture: Any = apprise.LogCapture
    with capture(level=logging.WARNING, fmt="%(message)s") as captured:
        if not sender.add(url):
            return "it is no address that apprise knows"
        sent = sender.notify(
            title=title,
            body=body or title,  # apprise sends nothing without a body
            notify_type=apprise.NotifyType(severity),
            body_format=apprise.NotifyFormat.TEXT,
        )
        lines = [line for line in captured.getvalue().splitlines() if "://" not in line]
    return None if sent else " ".join(lines) or "it did not take the message"
