"""Whether a new version goes into service: the rule, the gate that compares decoders, and the decision."""

from embup_core.training.promotion.decision import PreviousVersion, Promotion, decide_promotion
from embup_core.training.promotion.earlier import compare_with_earlier
from embup_core.training.promotion.gate import compare_on_held_out
from embup_core.training.promotion.held_out import HeldOutRows
from embup_core.training.promotion.result import GateCheck, GateResult, Margins

__all__ = [
    "GateCheck",
    "GateResult",
    "HeldOutRows",
    "Margins",
    "PreviousVersion",
    "Promotion",
    "compare_on_held_out",
    "compare_with_earlier",
    "decide_promotion",
]
