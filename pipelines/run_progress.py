"""Dagster's events of one run as progress: how much of the work is done, and what is being done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from embup_core.decoders import DECODERS
from embup_core.training.step_progress import StepProgress, decoder_step, step_shares
from pipelines.defs.assets.decoder_config import FITS
from pipelines.progress_lines import share_done

if TYPE_CHECKING:
    from embup_core.progress import Progress

DECODER_STEPS = frozenset(map(decoder_step, DECODERS))


class ProgressReport:
    """Listens to a run.

    Parameters
    ----------
    callback
        Called at each change, if given.
    choice
        The choice of decoders, which says how long steps take.

    Attributes
    ----------
    step
        What is being done.
    failed_checks
        Evaluations of checks that did not pass and block.
    warnings
        What other checks that did not pass found, a sentence each.
    service
        What a running service answered.
    """

    def __init__(self, callback: Progress | None, choice: str) -> None:
        self.step = ""
        self.failed_checks: list[dg.AssetCheckEvaluation] = []
        self.warnings: list[str] = []
        self.service = ""
        self._shares = step_shares(choice)
        self._progress = StepProgress(callback, self._shares)

    def __call__(self, entry: dg.EventLogEntry) -> None:
        """Take in one event."""
        event = entry.dagster_event
        if event is None:  # a line that an asset logged
            message = entry.user_message
            begin = message.partition(":")[0]  # one step fits all decoders, and begins with the one it is at
            step = begin if begin in self._shares else self.step
            self._progress.report(step, message.removeprefix(f"{step}: "), share_done(message) or 0.0)
        elif event.event_type == dg.DagsterEventType.STEP_START:
            self.step = event.step_key or ""
            self._progress.report(self.step)
        elif event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            self._finish(event.step_key or "")
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.WARN:
                self.warnings.append(str(evaluation.description))
            elif not evaluation.passed:
                self.failed_checks.append(evaluation)
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            asset = event.asset_key.to_user_string() if event.asset_key else ""
            if asset in DECODER_STEPS:
                self._progress.finish(asset)
            self._note_service(event)

    def _finish(self, step: str) -> None:
        """All decoders with the step that fits them, those that could not be fitted too."""
        for one in filter(DECODER_STEPS.__contains__, self._shares) if step == FITS else [step]:
            self._progress.finish(one)

    def _note_service(self, event: dg.DagsterEvent) -> None:
        materialization = event.step_materialization_data.materialization
        if materialization.asset_key == dg.AssetKey("upsampler_service"):
            self.service = str(materialization.metadata["state"].value)
