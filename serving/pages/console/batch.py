"""Everything that a page shows of one batch: what happened, how fast it was and when it paused, bad rows."""

from __future__ import annotations

import asyncio
import os
import stat
from datetime import UTC
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from embup_core.errors import EmbupError
from embup_core.object_store import ObjectPath, ObjectStore
from serving.jobs.course import CoursePoint
from serving.jobs.model import EventKind, JobEvent, Phase
from serving.jobs.storage.timeline import read_events
from serving.pages.charts import Band, Panel, Tick, scale
from serving.pages.texts import duration

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from serving.jobs.confinement import Confinement
    from serving.jobs.model import JobRecord
    from serving.services import Services

MOST_EVENTS: Final = 100
MOST_BAD_ROWS: Final = 20
REPORT_BYTES: Final = 1 << 18
SEEN_SHARE: Final = 0.005  # a pause that takes less of a step is not drawn
X_TICKS: Final = 5
MOST_STEPS: Final = 150  # of a chart

HAPPENED: Final = {
    EventKind.SUBMITTED: "Submitted",
    EventKind.STARTED: "Started",
    EventKind.RESUMED: "Resumed",
    EventKind.STOPPED: "Stopped with the service",
    EventKind.WORKER_DIED: "The worker process died",
    EventKind.CANCEL_REQUESTED: "Asked to cancel",
    EventKind.FINALIZING: "All rows written",
    EventKind.COMPLETED: "Completed",
    EventKind.FAILED: "Failed",
    EventKind.CANCELLED: "Cancelled",
}


class BadRowLine(msgspec.Struct, frozen=True):
    """One line of the report on refused rows."""

    line: int
    reason: str
    raw: str


class CourseChart(NamedTuple):
    """Rows a second by time, and the pauses."""

    panel: Panel
    area: str
    pauses: tuple[Band, ...]
    x_ticks: tuple[Tick, ...]
    by_events: bool


class BatchDetails(NamedTuple):
    """What a status does not say.

    Attributes
    ----------
    events
        What happened, and what it is called, in order.
    chart
        None before there are two points of time.
    bad_rows
        The first ones.
    report
        Where all of them stand; empty where there are none.
    """

    events: tuple[tuple[JobEvent, str], ...]
    chart: CourseChart | None
    bad_rows: tuple[BadRowLine, ...]
    report: str


async def batch_details(services: Services, job: JobRecord) -> BatchDetails:
    """Read them; the job database and files in their own threads."""
    events = await services.store.call(read_events, job.batch_request_id, MOST_EVENTS)
    course = services.engine.totals.courses.of(job.batch_request_id)
    bad_rows, report = tuple[BadRowLine, ...](), ""
    if job.failed_rows:
        spec = job.request.spec()
        path = spec.errors_path if job.phase is Phase.COMPLETED else spec.errors_part_path
        bad_rows = await asyncio.get_running_loop().run_in_executor(
            services.file_executor, read_bad_rows, services.confinement, path
        )
        bad_rows = bad_rows[: job.failed_rows]  # the report is ahead of the last checkpoint
        report = str(path)
    return BatchDetails(
        tuple((event, HAPPENED.get(EventKind(event.kind), event.kind)) for event in events),
        course_chart(course, events),
        bad_rows,
        report,
    )


def course_chart(course: Sequence[CoursePoint], events: Sequence[JobEvent]) -> CourseChart | None:
    """Draw how fast a batch was.

    Parameters
    ----------
    course
        What this process noted of it; may begin late, or be empty.
    events
        What happened, in order: all there is of the time before.
    """
    from_events = [
        CoursePoint(
            event.occurred_at.replace(tzinfo=UTC).timestamp(),
            event.num_records_processed,
            course[0].paused_s if course else 0.0,
        )
        for event in events
        if event.kind != EventKind.SUBMITTED
    ]
    points = [point for point in from_events if not course or point.at < course[0].at] + list(course)
    points = _apart(points)
    if len(points) < 2:
        return None
    start, end = points[0].at, points[-1].at
    steps = [
        (a.at - start, b.at - start, max(b.rows - a.rows, 0) / (b.at - a.at)) for a, b in pairwise(points)
    ]
    x = scale(0.0, end - start)
    panel = Panel.fitting([rate for _, _, rate in steps], top=14, height=176, x=x)
    shares = [(b.paused_s - a.paused_s) / (b.at - a.at) for a, b in pairwise(points)]
    return CourseChart(
        panel,
        panel.area(steps),
        tuple(
            Band(x(began), x(ended) - x(began), round(0.15 + 0.45 * min(share, 1.0), 2))
            for (began, ended, _), share in zip(steps, shares, strict=True)
            if share > SEEN_SHARE
        ),
        tuple(
            Tick(x((end - start) * part / X_TICKS), duration((end - start) * part / X_TICKS))
            for part in range(X_TICKS + 1)
        ),
        by_events=not course,
    )


def _apart(points: Sequence[CoursePoint]) -> list[CoursePoint]:
    """Leave out points that follow others at once: a rate of some milliseconds says nothing."""
    if not points:
        return []
    least_s = (points[-1].at - points[0].at) / MOST_STEPS
    kept = [points[0]]
    for point in points[1:]:
        if point.at - kept[-1].at >= least_s:
            kept.append(point)
    if kept[-1] is not points[-1] and len(kept) > 1:
        kept[-1] = points[-1]
    return [kept[0], *(b for a, b in pairwise(kept) if b.at > a.at)]


def read_bad_rows(confinement: Confinement, path: Path) -> tuple[BadRowLine, ...]:
    """Read the first lines of a report on refused rows, as far as it is one; for a thread.

    The file lies where users write, so that anything may be there by now.
    """
    try:
        if isinstance(path, ObjectPath) and path.suffix != ".part":
            confinement.buckets.locate(str(path))
            store = ObjectStore(str(path.parent), quick=True)
            stored = store.find(path.name)
            if stored is None:
                return ()
            return _bad_rows(store.read_range(stored, 0, min(REPORT_BYTES, stored.size_bytes)))
        with confinement.open_folder(path.parent) as folder:
            descriptor = folder.entry(path.name).open(os.O_RDONLY)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                    return ()
                return _bad_rows(file.read(REPORT_BYTES))
    except (OSError, ValueError, EmbupError):
        return ()


def _bad_rows(content: bytes) -> tuple[BadRowLine, ...]:
    found = []
    for line in content.split(b"\n")[:-1][:MOST_BAD_ROWS]:
        try:
            found.append(msgspec.json.decode(line, type=BadRowLine))
        except (msgspec.MsgspecError, UnicodeError):
            break
    return tuple(found)
