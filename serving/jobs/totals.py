"""What all batches of this process did since its start, in plain numbers, for the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from embup_core.batch import BatchStatistics
from serving.jobs.course import BatchCourses
from serving.jobs.model import Phase
from serving.observability.drift import DriftMeter

if TYPE_CHECKING:
    from embup_core.batch import Checkpoint
    from serving.jobs.model import JobRecord

FAILURES: Final = (
    "bad_row", "too_many_bad_rows", "no_good_row", "input_changed", "input_unusable", "output_unusable",
    "no_space", "store_unavailable", "conflict", "no_decoder", "worker_killed", "internal",
)  # fmt: skip
"""Error codes that a failed batch may have; a counter that begins at 0 shows its first increase."""


class BatchTotals:
    """Sums over batches.

    Attributes
    ----------
    rows, failed_rows, bytes_in, bytes_out
        Rows written, those answered by nan among them, bytes of input read, bytes of output written: durable
        ones.
    ended, failures
        Batches that ended, by phase, and failed ones by error code.
    worker_deaths
        How often a worker process died under a batch.
    work
        Processor time by stage.
    publish_s
        Seconds in which outputs were put in place.
    drift
        Of the rows.
    courses
        How the last batches got on.
    """

    def __init__(self) -> None:
        self.rows = self.failed_rows = self.bytes_in = self.bytes_out = 0
        self.ended: dict[Phase, int] = dict.fromkeys((Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED), 0)
        self.failures: dict[str, int] = dict.fromkeys(FAILURES, 0)
        self.worker_deaths = 0
        self.work = BatchStatistics()
        self.publish_s = 0.0
        self.drift = DriftMeter()
        self.courses = BatchCourses()

    def add(self, before: Checkpoint | None, after: Checkpoint, statistics: BatchStatistics) -> None:
        """Add what lies between two checkpoints of a batch, the first of which may be its start."""
        self.rows += after.rows - (before.rows if before else 0)
        self.failed_rows += after.failed_rows - (before.failed_rows if before else 0)
        self.bytes_in += after.bytes_done - (before.bytes_done if before else 0)
        self.bytes_out += after.output_bytes - (before.output_bytes if before else 0)
        self.work.add(statistics)
        self.drift.add(statistics)

    def end(self, job: JobRecord) -> None:
        """Count a batch that has ended."""
        self.ended[job.phase] += 1
        if job.phase is Phase.FAILED:
            code = job.error_code or "internal"
            self.failures[code] = self.failures.get(code, 0) + 1
