"""What is told, and when two messages are one: they have the same key.

docs/how-to/run-book.md says of each kind what it means and which command answers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from embup_core.training.promotion import GateResult

OFFENDERS_SHOWN = 10


class Kind(StrEnum):
    """What a message is about."""

    run_failed = "run_failed"
    drop_refused = "drop_refused"
    drop_quarantined = "drop_quarantined"
    drop_late = "drop_late"
    promoted = "promoted"
    held = "held"
    drift = "drift"
    service = "service"
    test = "test"

    @property
    def severity(self) -> str:
        """In apprise's words: info, success, warning or failure."""
        if self in {Kind.run_failed, Kind.drop_refused, Kind.service}:
            return "failure"
        if self in {Kind.promoted, Kind.test}:
            return "success"
        return "warning"


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes
    ----------
    kind
        What it is about.
    about
        What exactly: a run, a drop, a version. A second message of the same kind about the same is not sent.
    title, body
        Plain text.
    run_id
        Of the run in Dagster that it links to; empty where there is none.
    """

    kind: Kind
    about: str
    title: str
    body: str
    run_id: str = ""

    @property
    def key(self) -> str:
        """Equal for messages of which one is enough."""
        return f"{self.kind}/{self.about}"

    @classmethod
    def run_failed(cls, job: str, run_id: str, *, step: str, reason: str, partition: str = "") -> Self:
        """Tell that a run failed, in which step and why."""
        of = f" of {partition}" if partition else ""
        return cls(
            Kind.run_failed,
            run_id,
            f"embup: {job}{of} failed at {step}",
            f"{reason}\n\nWhat is in service: embup models",
            run_id,
        )

    @classmethod
    def drop_refused(cls, drop: str, reasons: Sequence[str], *, sha256: str = "", run_id: str = "") -> Self:
        """Tell that a drop is not used; `sha256` tells apart what is delivered again under its name."""
        return cls(
            Kind.drop_refused,
            f"{drop}/{sha256}",
            f"embup: drop {drop} refused",
            "\n".join([*reasons, "", "Mend it and upload it again, drop.json last."]),
            run_id,
        )

    @classmethod
    def drop_quarantined(
        cls, drop: str, rows: Sequence[int], *, of: int, reason: str, sha256: str = "", run_id: str = ""
    ) -> Self:
        """Tell that rows of a drop are left out, and the drop is used without them."""
        shown = ", ".join(map(str, rows[:OFFENDERS_SHOWN])) + (", ..." if len(rows) > OFFENDERS_SHOWN else "")
        return cls(
            Kind.drop_quarantined,
            f"{drop}/{sha256}",
            f"embup: {len(rows):,} of {of:,} rows of drop {drop} quarantined",
            f"{reason}\nRows: {shown}\nThe drop is used without them.",
            run_id,
        )

    @classmethod
    def drop_late(cls, drop: str, *, due: str) -> Self:
        """Tell that a drop did not come in time."""
        return cls(
            Kind.drop_late,
            drop,
            f"embup: drop {drop} is late",
            f"It was due on {due}. Training starts by itself when its drop.json is there.",
        )

    @classmethod
    def promoted(
        cls,
        version: str,
        *,
        previous: str,
        r2: float,
        note: str = "",
        gate: GateResult | None = None,
        run_id: str = "",
    ) -> Self:
        """Tell that a version is in service, with the figures; `note` is what else to know."""
        return cls(
            Kind.promoted,
            version,
            f"embup: {version} is in service",
            f"R2 of cosines on test rows: {r2:.3f}. Before: {previous or 'nothing'}."
            f"{f' {note}' if note else ''}{_figures(gate)}\n\nTo go back: embup models rollback",
            run_id,
        )

    @classmethod
    def held(
        cls, version: str, *, previous: str, reason: str, gate: GateResult | None = None, run_id: str = ""
    ) -> Self:
        """Tell that a version is published and not in service, with the reasons."""
        return cls(
            Kind.held,
            version,
            f"embup: {version} is held",
            f"{reason}{_figures(gate)}\n\n{previous or 'Nothing'} stays in service. To look at it: "
            f"embup models show {version}. To overrule: embup models promote {version}",
            run_id,
        )

    @classmethod
    def drift(cls, drop: str, findings: Sequence[str], *, run_id: str = "") -> Self:
        """Tell that the rows of a drop differ from those before."""
        return cls(
            Kind.drift,
            drop,
            f"embup: rows of drop {drop} differ from earlier ones",
            "\n".join([*findings, "", "The drop is used. Ask whether other texts than before are expected."]),
            run_id,
        )


def _figures(gate: GateResult | None) -> str:
    """Old beside new, a line a check, without the slices that passed."""
    if gate is None:
        return ""
    _, rows = gate.table(slices=0)
    lines = [f"{name}: {old} -> {new} {moved} {verdict}" for name, _, old, new, moved, _, verdict in rows]
    return "\n\n" + f"On {gate.rows:,} held-out rows:\n" + "\n".join(lines)
