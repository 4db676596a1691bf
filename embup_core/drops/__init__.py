"""Training data that grows: one delivery after another, each checked before it is trained on.

`format` is one delivery on disk (a drop), `folder` the place of all of them. `checks` and its siblings judge
a drop against the accepted ones before it, `acceptance` keeps the verdict, `training_set` unites what was
accepted, and `month` trains on it.
"""

from embup_core.drops.acceptance import check_drop, keep_verdict
from embup_core.drops.folder import DropsFolder, open_drops
from embup_core.drops.held_out import held_out_mask
from embup_core.drops.month import MonthResult, run_month
from embup_core.drops.report import Check, DropReport, Verdict
from embup_core.drops.training_set import TrainingSet, write_training_set

__all__ = [
    "Check",
    "DropReport",
    "DropsFolder",
    "MonthResult",
    "TrainingSet",
    "Verdict",
    "check_drop",
    "held_out_mask",
    "keep_verdict",
    "open_drops",
    "run_month",
    "write_training_set",
]
