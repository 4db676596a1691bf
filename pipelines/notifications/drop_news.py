"""What to tell about a drop, and about the version that was trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embup_core.drops.report import Status
from pipelines.notifications.messages import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.drops import DropReport
    from embup_core.training.result import TrainingResult

DRIFT_CHECKS = ("drift_of_z", "drift_of_coordinates")
NOT_ASKED = "It was not to go into service by itself: as asked, or because a later month has been accepted."


def drop_messages(report: DropReport, *, run_id: str = "") -> Iterator[Message]:
    """That a drop is refused, or used without some rows, or unlike earlier ones; nothing for a clean one."""
    if not report.accepted:
        yield Message.drop_refused(report.month, report.reasons, sha256=report.drop_sha256, run_id=run_id)
        return
    if report.quarantined:
        reasons = [
            one.found
            for one in report.checks
            if one.left_out and set(one.left_out) <= set(report.quarantined)
        ]
        yield Message.drop_quarantined(
            report.month,
            report.quarantined,
            of=report.rows,
            reason=" ".join(reasons),
            sha256=report.drop_sha256,
            run_id=run_id,
        )
    drift = [one.found for one in report.checks if one.name in DRIFT_CHECKS and one.status == Status.warning]
    if drift:
        yield Message.drift(report.month, drift, run_id=run_id)


def training_message(trained: TrainingResult, *, run_id: str = "") -> Message:
    """That a month's version is in service, with figures, or held, with reasons."""
    previous = trained.previous.version if trained.previous else ""
    if trained.promoted:
        r2 = trained.scores.test_test.r2
        note = " ".join(trained.warnings)
        return Message.promoted(
            trained.version, previous=previous, r2=r2, note=note, gate=trained.gate, run_id=run_id
        )
    reason = " ".join(trained.warnings) or NOT_ASKED
    return Message.held(trained.version, previous=previous, reason=reason, gate=trained.gate, run_id=run_id)
