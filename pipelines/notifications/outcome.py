"""What to tell about a published version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.notifications.messages import Message

if TYPE_CHECKING:
    from embup_core.training.publication import Published
    from embup_core.training.selection import Evaluation


def outcome_message(published: Published, evaluation: Evaluation, *, run_id: str = "") -> Message | None:
    """That it is in service, with figures, or held, with reasons; None where it was asked to wait."""
    version, promotion = published.info.version, published.promotion
    previous = published.previous.version if published.previous else ""
    if promotion.promoted:
        return Message.promoted(
            version,
            previous=previous,
            r2=evaluation.test[evaluation.champion].test_test.r2,
            note=promotion.damage or "",
            gate=promotion.gate,
            run_id=run_id,
        )
    if promotion.objection is None:
        return None
    return Message.held(
        version,
        previous=previous,
        reason=promotion.objection,
        gate=promotion.gate,
        run_id=run_id,
    )
