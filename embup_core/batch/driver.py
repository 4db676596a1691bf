"""Run a batch to its end in one call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.run import BatchRun


def run_to_completion(
    run: BatchRun,
    *,
    checkpoint_every_s: float = 1.0,
    on_progress: Callable[[BatchRun], None] | None = None,
    on_checkpoint: Callable[[Checkpoint], None] | None = None,
) -> None:
    """Step, sync and publish.

    When it fails or is interrupted, the part files are removed; with `on_checkpoint` they stay, so that
    another run can resume.

    Parameters
    ----------
    run
        A run that is open; it is closed at the end.
    checkpoint_every_s
        Seconds between two syncs: what a crash costs at most.
    on_progress
        Called after each step.
    on_checkpoint
        Called with each checkpoint once it is durable; the last one comes before the output is published.

    Raises
    ------
    InputError, OutputError
        As `BatchRun.step`, `sync` and `publish`.
    """
    try:
        # More threads split a matrix product otherwise, and its last bits differ.
        with threadpool_limits(1):
            _work(run, checkpoint_every_s, on_progress, on_checkpoint)
    except BaseException:
        if on_checkpoint is None:
            run.abort()
        raise
    finally:
        run.close()


def _work(
    run: BatchRun,
    checkpoint_every_s: float,
    on_progress: Callable[[BatchRun], None] | None,
    on_checkpoint: Callable[[Checkpoint], None] | None,
) -> None:
    synced_at = time.monotonic()
    while run.step():
        if on_progress is not None:
            on_progress(run)
        if time.monotonic() - synced_at >= checkpoint_every_s:
            _sync(run, on_checkpoint)
            synced_at = time.monotonic()
    if on_progress is not None:
        on_progress(run)
    if not run.published:
        _sync(run, on_checkpoint)
        run.publish()


def _sync(run: BatchRun, on_checkpoint: Callable[[Checkpoint], None] | None) -> None:
    checkpoint = run.sync()
    if on_checkpoint is not None:
        on_checkpoint(checkpoint)
    run.kept(checkpoint.uploaded_parts)
