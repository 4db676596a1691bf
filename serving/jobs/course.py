"""How batches got on since the start of this process: rows and pauses by time, for a plot.

The history in DuckDB has what happened to a batch (submitted, started, stopped), not each checkpoint. The
course of the last batches is kept in memory, and thinned as it grows, so that none takes more than some
kilobytes.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MOST_BATCHES: Final = 64
MOST_POINTS: Final = 400


class CoursePoint(NamedTuple):
    """Where a batch stood.

    Attributes
    ----------
    at
        Seconds since 1970.
    rows
        Durable rows.
    paused_s
        Seconds of all pauses by then.
    """

    at: float
    rows: int
    paused_s: float


class BatchCourses:
    """The courses of the last batches.

    Parameters
    ----------
    clock
        Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._courses: OrderedDict[str, list[CoursePoint]] = OrderedDict()

    def note(self, batch_request_id: str, *, rows: int, paused_s: float) -> None:
        """Note where a batch stands now."""
        points = self._courses.setdefault(batch_request_id, [])
        self._courses.move_to_end(batch_request_id)
        points.append(CoursePoint(self._clock(), rows, paused_s))
        if len(points) > MOST_POINTS:
            # Rates are differences, so that every other point may go; the first and the last one stay.
            del points[1:-1:2]
        while len(self._courses) > MOST_BATCHES:
            self._courses.popitem(last=False)

    def of(self, batch_request_id: str) -> Sequence[CoursePoint]:
        """Give the course of a batch, in order of time; empty where none is kept."""
        return tuple(self._courses.get(batch_request_id, ()))
