"""A picture of realtime requests beside a batch: each answer, each pause, each row, on one clock."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.peers.rivals import Service
    from benchmarks.service.client import Answered

RECORDED_S = 2.0
BEFORE_S = 1.0  # of the recording that is not drawn: connections, caches
DRAWN_S = 0.4
SAMPLE_S = 0.001


@dataclass(frozen=True)
class Panel:
    """What was recorded with one server. All moments in seconds on the monotonic clock.

    Attributes
    ----------
    title
        What is different.
    start_s
        Where drawing starts.
    answered
        Each request.
    progress
        Moments and the rows written until then, shape (n, 2).
    pauses
        Where each pause of the batch began and ended, shape (m, 2).
    """

    title: str
    start_s: float
    answered: list[Answered]
    progress: np.ndarray
    pauses: np.ndarray


def record(title: str, server: Service, bodies: Sequence[bytes], rate: float, pauses: Path | None) -> Panel:
    """Send requests beside a batch and note all that happens.

    Parameters
    ----------
    title
        What is different.
    server
        Whom to ask.
    bodies, rate
        What to send, and how often a second.
    pauses
        Where the server notes the batch's pauses; None where it makes none.
    """
    progress: list[tuple[float, float]] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            progress.append((time.monotonic(), server.rows_written()))
            time.sleep(SAMPLE_S)

    server.start_batch()
    thread = threading.Thread(target=look)
    thread.start()
    started = time.monotonic()
    answered = server.requests.send(bodies, rate=rate, seconds=RECORDED_S, seed=1)
    ended.set()
    thread.join()
    server.end_batch()
    noted = np.empty((0, 2)) if pauses is None else np.loadtxt(pauses, ndmin=2).reshape(-1, 2)
    return Panel(title, started + BEFORE_S, answered, np.array(progress), noted)


def draw(panels: Sequence[Panel], rate: float, *, dpi: int = 110) -> bytes:
    """One panel under the other, on equal scales: PNG bytes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(9, 2.6 * len(panels) + 0.4), layout="constrained")
    axes: list[Axes] = list(figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0])
    drawn = [[one for one in panel.answered if _is_drawn(panel, one.sent_s)] for panel in panels]
    latencies = [one.latency_ms for part in drawn for one in part] or [1.0]
    fastest, slowest = min(latencies), max(latencies)
    most = max(float(np.ptp(_drawn_progress(panel)[:, 1])) for panel in panels)
    for panel, part, one in zip(panels, drawn, axes, strict=True):
        rows = one.twinx()
        progress = _drawn_progress(panel)
        rows.plot((progress[:, 0] - panel.start_s) * 1e3, progress[:, 1] - progress[0, 1], color="tab:orange")
        rows.set(ylabel="rows of the batch", ylim=(0, most * 1.05))
        rows.yaxis.label.set_color("tab:orange")
        for number, (begin, end) in enumerate(panel.pauses[_overlapping(panel)]):
            one.axvspan(
                (begin - panel.start_s) * 1e3,
                (end - panel.start_s) * 1e3,
                color="0.8",
                linewidth=0,
                label="" if number else "the batch is paused",
            )
        one.plot(
            [(answer.sent_s - panel.start_s) * 1e3 for answer in part],
            [answer.latency_ms for answer in part],
            "o",
            markersize=4,
            color="tab:blue",
            label="a request: when it was sent, how long it took",
        )
        one.set(ylabel="latency, ms", yscale="log", ylim=(fastest / 2, slowest * 2), xlim=(0, DRAWN_S * 1e3))
        one.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        one.yaxis.set_major_formatter("{x:g}")
        one.yaxis.set_minor_locator(NullLocator())
        one.set_title(f"{panel.title}, {rate:g} requests a second", fontsize=10)
        one.yaxis.label.set_color("tab:blue")
        one.set_zorder(rows.get_zorder() + 1)
        one.patch.set_visible(False)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    axes[-1].set_xlabel("ms")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def _is_drawn(panel: Panel, moment_s: float) -> bool:
    return panel.start_s <= moment_s <= panel.start_s + DRAWN_S


def _drawn_progress(panel: Panel) -> np.ndarray:
    return panel.progress[[_is_drawn(panel, moment) for moment in panel.progress[:, 0]]]


def _overlapping(panel: Panel) -> np.ndarray:
    begin, end = panel.pauses[:, 0], panel.pauses[:, 1]
    return (end >= panel.start_s) & (begin <= panel.start_s + DRAWN_S)
