"""Dagster's events of one run, told as progress: how much of the work is done, and what is being done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from embup_core.decoders import DECODERS
from pipelines.defs.assets.candidates import asset_name
from pipelines.progress_lines import share_done

if TYPE_CHECKING:
    from pipelines.run import ProgressCallback

# About how long steps take, as shares of a run on real data; a step that has no share does not move the bar.
_SHARES = {"cosine_matrix": 3.0, "coordinates": 5.0, "evaluation": 40.0, "decoder_artifact": 3.0}
_SHARE_OF_A_DECODER = 4.0
_SHARE_OF_A_DECODER_LEARNED_IN_STEPS = 75.0


def step_shares() -> dict[str, float]:
    """About how long each step takes, in units of which the whole is the sum."""
    return _SHARES | {
        asset_name(name): _SHARE_OF_A_DECODER_LEARNED_IN_STEPS
        if "pytorch" in decoder.fitted_with
        else _SHARE_OF_A_DECODER
        for name, decoder in DECODERS.items()
    }


class ProgressReport:
    """Listens to a run.

    Parameters
    ----------
    callback
        Told about each change, if given.

    Attributes
    ----------
    step
        What is being done.
    failed_checks
        Evaluations of checks that did not pass.
    service
        What became of the running service.
    """

    def __init__(self, callback: ProgressCallback | None) -> None:
        self.step = ""
        self.failed_checks: list[dg.AssetCheckEvaluation] = []
        self.service = ""
        self._callback = callback
        self._shares = step_shares()
        self._total = sum(self._shares.values())
        self._done = 0.0
        self._told = 0.0

    def __call__(self, entry: dg.EventLogEntry) -> None:
        """Take in one event."""
        event = entry.dagster_event
        if event is None:  # a line that an asset logged
            part = (share_done(entry.user_message) or 0.0) * self._shares.get(self.step, 0.0)
            self._tell(f"{self.step}: {entry.user_message}" if self.step else entry.user_message, part)
            return
        if event.event_type == dg.DagsterEventType.STEP_START:
            self.step = event.step_key or ""
            self._tell(self.step)
        elif event.event_type == dg.DagsterEventType.STEP_SUCCESS:
            self._done += self._shares.get(event.step_key or "", 0.0)
            self._tell(self.step)
        elif event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if not evaluation.passed:
                self.failed_checks.append(evaluation)
        elif event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
            self._note_service(event)

    def _note_service(self, event: dg.DagsterEvent) -> None:
        materialization = event.step_materialization_data.materialization
        if materialization.asset_key == dg.AssetKey("upsampler_service"):
            self.service = str(materialization.metadata["state"].value)

    def _tell(self, note: str, part_of_step: float = 0.0) -> None:
        self._told = max(self._told, self._done + part_of_step)
        if self._callback is not None:
            self._callback(self._told, self._total, note)
