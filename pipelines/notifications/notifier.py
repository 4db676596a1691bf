"""Sending a message to every address, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embup_core.errors import EmbupError
from embup_core.extras import extra_required
from pipelines.notifications.addresses import read_addresses
from pipelines.notifications.record import SentRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipelines.notifications.addresses import Address
    from pipelines.notifications.messages import Message


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
        Why others did not take it, by name. It is sent to them when it is told of again.
    """

    reached: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    failed: dict[str, str] | None = None

    def __str__(self) -> str:
        parts = [
            f"{word} {', '.join(names)}"
            for word, names in (("sent to", self.reached), ("sent before to", self.repeated))
            if names
        ]
        parts += [f"not sent to {name}: {why}" for name, why in (self.failed or {}).items()]
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
        self._dagster_url = dagster_url.rstrip("/")

    def addresses(self) -> list[Address]:
        """As they stand in the file now; raises `InputError`."""
        return [] if self._file is None else read_addresses(self._file)

    def send(self, message: Message, *, again: bool = False) -> Delivery:
        """Send a message to the addresses that have not had it.

        An address that does not answer delays this by some seconds, and is no error.

        Parameters
        ----------
        message
            What.
        again
            Whether addresses that have had it get it again.

        Raises
        ------
        InputError
            The file of addresses cannot be used.
        MissingExtraError
            apprise is not installed.
        """
        addresses = self.addresses()
        if not addresses:
            return Delivery()
        link = f"{self._dagster_url}/runs/{message.run_id}" if self._dagster_url and message.run_id else ""
        body = f"{message.body}\n\n{link}" if link else message.body
        reached, failed = [], {}
        with self._record.locked():
            had = set() if again else self._record.reached(message.key)
            for address in addresses:
                if address.digest in had:
                    continue
                problem = _deliver(address.url, message.title, body, message.kind.severity)
                if problem is None:
                    self._record.add(message.key, address.digest)
                    reached.append(address.name)
                else:
                    failed[address.name] = problem
        repeated = tuple(address.name for address in addresses if address.digest in had)
        return Delivery(tuple(reached), repeated, failed)

    def tell(self, message: Message, log: Callable[[str], object]) -> None:
        """Send a message as a by-product: what goes wrong is logged, and stops nothing."""
        if self._file is None:
            return
        try:
            log(f"message {message.key}: {self.send(message)}")
        except (EmbupError, OSError) as error:
            log(f"message {message.key} was not sent: {error}")


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
