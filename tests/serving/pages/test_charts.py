"""Axes, quantiles, courses and texts: what pages show of numbers."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.jobs.course import MOST_BATCHES, MOST_POINTS, BatchCourses, CoursePoint
from serving.jobs.model import JobEvent
from serving.observability.histogram import Histogram
from serving.observability.recent import STEP_S, RecentRealtime, quantile
from serving.pages.charts import Panel, envelope, round_ticks, scale, tick_label
from serving.pages.console.attention import notices
from serving.pages.console.batch import course_chart
from serving.pages.texts import duration, milliseconds, sentences, short, size

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("highest", [0.0, 1e-9, 0.3, 1.0, 6.2, 99.0, 100.0, 1001.0, 1e6 + 1, 7.7e12])
def test_ticks_are_few_round_and_reach_the_highest(highest: float) -> None:
    ticks = round_ticks(highest)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 6
    assert highest <= ticks[-1] * (1 + 1e-9)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1.0, 2.0, 2.5, 5.0, 10.0)) < 1e-6


def test_labels_of_ticks_are_short() -> None:
    assert [tick_label(value) for value in (0, 0.25, 500, 1500, 2e6, 3e9)] == [
        "0",
        "0.25",
        "500",
        "1.5k",
        "2M",
        "3G",
    ]


def test_a_line_has_gaps_and_stays_in_its_panel() -> None:
    panel = Panel.fitting([1.0, 3.0], top=10, height=100, x=scale(0, 3))
    line = panel.line([(0, 1.0), (1, None), (2, 3.0), (3, 99.0)])
    assert line.count("M") == 2
    heights = [float(found) for found in re.findall(r"[ML][\d.]+ ([\d.]+)", line)]
    assert all(10 <= height <= 110 for height in heights)
    assert heights[-1] == 10, "what is beyond the axis ends at its edge"


def test_an_envelope_holds_extremes_of_any_length() -> None:
    for values in ([1.0], [0.0] * 5, [0.5, -0.5] * 700, [float(number) for number in range(1536)]):
        path = envelope(values, bins=240, width=100, height=50)
        heights = [float(found) for found in re.findall(r"[ML][\d.]+ (-?[\d.]+)", path)]
        assert path.endswith("Z")
        assert all(0 <= height <= 50 for height in heights)
        assert min(heights) == (0 if max(values) > 0 else 25)


def test_quantiles_of_recent_requests_are_near_those_of_their_seconds() -> None:
    now = 100.0
    histogram = Histogram()
    recent = RecentRealtime(histogram, clock=lambda: now)
    seconds = np.random.default_rng(0).lognormal(math.log(1.2e-3), 0.4, 4000)
    for value in seconds:
        histogram.observe(float(value))
    now += STEP_S
    recent.read()
    now += STEP_S
    recent.read()
    full, empty = recent.steps()
    assert full.requests == 4000
    assert full.per_second == pytest.approx(4000 / STEP_S)
    for found, share in ((full.p50_s, 0.5), (full.p99_s, 0.99)):
        assert found is not None
        upper = bisect_left(histogram.bounds, float(np.quantile(seconds, share)))
        assert histogram.bounds[upper - 1] < found <= histogram.bounds[upper], "in the same bucket"
    assert (empty.requests, empty.p50_s, empty.p99_s) == (0, None, None)
    assert recent.since(60).requests == 4000, "the service is younger than a minute"
    assert recent.since(STEP_S).requests == 0


def test_a_quantile_beyond_the_last_bound_is_that_bound() -> None:
    assert quantile([1.0, 2.0], [0, 0, 5], 0.5) == 2.0
    assert quantile([1.0, 2.0], [4, 0, 0], 0.5) == 0.5
    assert quantile([1.0, 2.0], [0, 0, 0], 0.5) is None


def test_a_course_is_thinned_and_old_ones_are_forgotten() -> None:
    now = 0.0
    courses = BatchCourses(clock=lambda: now)
    for number in range(10 * MOST_POINTS):
        now = float(number)
        courses.note("one", rows=10 * number, paused_s=0.0)
    points = courses.of("one")
    assert len(points) <= MOST_POINTS
    assert (points[0].rows, points[-1].rows) == (0, 10 * (10 * MOST_POINTS - 1))
    assert all(b.at > a.at for a, b in pairwise(points))
    for number in range(MOST_BATCHES):
        courses.note(str(number), rows=0, paused_s=0.0)
    assert courses.of("one") == ()


def event(second: int, kind: str, rows: int) -> JobEvent:
    return JobEvent(
        second, datetime.fromtimestamp(second, UTC).replace(tzinfo=None), kind, "RUNNING", rows, ""
    )


def test_pauses_are_shaded_where_they_were() -> None:
    course = [CoursePoint(10.0, 0, 0.0), CoursePoint(11.0, 1000, 0.0), CoursePoint(12.0, 1000, 0.9)]
    chart = course_chart(course, [event(1, "submitted", 0)])
    assert chart is not None
    (band,) = chart.pauses
    middle = (chart.panel.x(0) + chart.panel.x(2)) / 2
    assert band.x == pytest.approx(middle), "the second half"
    assert band.strength > 0.5
    assert chart.panel.highest == 1000
    assert not chart.by_events


def test_a_batch_of_an_earlier_process_is_drawn_from_its_events() -> None:
    events = [
        event(1, "submitted", 0),
        event(2, "started", 0),
        event(6, "stopped", 400),
        event(9, "resumed", 400),
    ]
    chart = course_chart([], events)
    assert chart is not None
    assert chart.by_events
    assert chart.panel.highest == 100
    assert course_chart([], events[:2]) is None
    joined = course_chart([CoursePoint(9.5, 400, 3.0), CoursePoint(10.5, 900, 3.0)], events)
    assert joined is not None
    assert joined.pauses == (), "pauses of the time before are not known"
    assert joined.panel.highest == 600


def test_texts() -> None:
    assert [duration(value) for value in (None, 0.0, 9.96, 61, 3600, 90_061)] == [
        "–", "0.0 s", "10.0 s", "1 min 1 s", "1 h", "1 d 1 h",
    ]  # fmt: skip
    assert [short(value) for value in (None, float("nan"), 0, 0.01234, 12.34, 1234.5)] == [
        "–", "–", "0", "0.0123", "12.3", "1,234",
    ]  # fmt: skip
    assert milliseconds(0.00123) == "1.23 ms"
    assert [size(value) for value in (None, 12, 1500, 3e9)] == ["–", "12 B", "1.50 kB", "3.00 GB"]
    assert sentences("one", None, " ", "Two.") == "one. Two."


class _Quiet:
    """What `notices` reads of a service that is well."""

    def __init__(self, change: Callable[[Any], None]) -> None:
        from types import SimpleNamespace

        from serving.observability.requests import RequestObservations

        self.model = SimpleNamespace(failure=None, version="20260101-000000-00000000", outage=None)
        self.engine = SimpleNamespace(
            failure=None, totals=SimpleNamespace(drift=RequestObservations(None).drift)
        )
        self.observations = RequestObservations(None)
        self.public = str
        change(self)


def _low_confidence(service: Any) -> None:
    rows = np.eye(8, dtype=np.float32)
    for _ in range(40):
        service.observations.drift.note(rows, np.full(8, 0.1, np.float32), 0.5)


@pytest.mark.parametrize(
    ("change", "levels", "said"),
    [
        (lambda _: None, [], ""),
        (
            lambda service: setattr(service.engine, "failure", "the disk is full"),
            ["bad"],
            "the disk is full.",
        ),
        (lambda service: setattr(service.model, "version", None), ["bad"], "embup train"),
        (lambda service: setattr(service.model, "outage", "No answer."), ["warn"], "No answer."),
        (lambda service: service.observations.count("GET", "/", 500, 0.1), ["bad"], "log"),
        (_low_confidence, ["warn"], "train again"),
    ],
)
def test_what_needs_a_person_is_said_with_what_to_do(
    change: Callable[[Any], None], levels: list[str], said: str
) -> None:
    service: Any = _Quiet(change)
    found = notices(service, [], [])
    assert [notice.level for notice in found] == levels
    assert said in " ".join(notice.text for notice in found)
