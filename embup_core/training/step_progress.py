"""How much of a training is done: steps of different length as one progress that never goes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embup_core.decoders import DECODERS
from embup_core.training.selection import SLOW_LIBRARY, wanted_candidates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from embup_core.progress import Progress

MATRIX = "cosine_matrix"
COORDINATES = "coordinates"
TRANSFORM = "transform"
EVALUATION = "evaluation"
PUBLICATION = "decoder_artifact"

# About how long steps take, as shares of a run on real data.
_SHARES = {MATRIX: 3.0, COORDINATES: 5.0, TRANSFORM: 5.0, EVALUATION: 10.0, PUBLICATION: 3.0}
_SHARE_OF_A_DECODER = 4.0
_SHARE_OF_A_DECODER_LEARNED_IN_STEPS = 75.0
_SHARE_OF_ITS_REFIT = 40.0


def decoder_step(name: str) -> str:
    """Name of the step that fits a decoder."""
    return f"decoder_{name}"


def step_shares(choice: str) -> dict[str, float]:
    """About how long each step of a training takes, in units of which the whole is the sum.

    Parameters
    ----------
    choice
        As for `wanted_candidates`.
    """
    learned_in_steps = {
        name: SLOW_LIBRARY in DECODERS[name].fitted_with for name in wanted_candidates(choice)
    }
    shares = _SHARES | {
        decoder_step(name): _SHARE_OF_A_DECODER_LEARNED_IN_STEPS if in_steps else _SHARE_OF_A_DECODER
        for name, in_steps in learned_in_steps.items()
    }
    if any(learned_in_steps.values()):
        shares[PUBLICATION] += _SHARE_OF_ITS_REFIT
    return shares


class StepProgress:
    """Progress over steps.

    Parameters
    ----------
    callback
        Called at each change, if given.
    shares
        How long each step takes, by name; a step without a share does not move the progress.
    """

    def __init__(self, callback: Progress | None, shares: Mapping[str, float]) -> None:
        self._callback = callback
        self._total = sum(shares.values())
        self._left = dict(shares)
        self._reported = 0.0

    def report(self, step: str, note: str = "", part: float = 0.0) -> None:
        """Report that a part of a step is done, from 0 to 1."""
        done = self._total - sum(self._left.values())
        self._call(f"{step}: {note}" if note else step, done + part * self._left.get(step, 0.0))

    def finish(self, step: str) -> None:
        """Report that a step is done; a second time changes nothing."""
        self._left.pop(step, None)
        self._call(step, self._total - sum(self._left.values()))

    def within(self, step: str) -> Progress:
        """Give a progress callback of one step."""

        def progress(label: str, done: float, total: float | None) -> None:
            self.report(step, label, done / total if total else 0.0)

        return progress

    def _call(self, note: str, done: float) -> None:
        self._reported = max(self._reported, done)
        if self._callback is not None:
            self._callback(note, self._reported, self._total)
