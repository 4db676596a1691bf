"""The first page: what the service is doing now, and what needs a person."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from litestar import Response, get
from litestar.di import NamedDependency

from embup_core.errors import ArtifactError
from serving.access.sessions import Viewer
from serving.actions.batches import batch_status
from serving.jobs.model import FINAL_PHASES, Phase
from serving.observability.recent import STEP_S, STEPS
from serving.pages.charts import Panel, Tick, scale
from serving.pages.console.attention import MOST_FAILED, drift_meters, full_disks, notices
from serving.pages.console.scores import SideBySide, side_by_side
from serving.pages.layout import page
from serving.services import Services

if TYPE_CHECKING:
    from embup_core.artifacts.registry import Registry
    from serving.jobs.model import JobRecord
    from serving.jobs.storage.tables import JobTables
    from serving.observability.recent import RealtimeStep, RecentRealtime
    from serving.pages.console.scores import ScoreLine

LAST_MINUTE_S = 60.0
MOST_IN_PROGRESS = 10
MOST_RECENT = 5


@get("/", include_in_schema=False, opt={"access": "read", "page": True})
async def overview(services: NamedDependency[Services], viewer: NamedDependency[Viewer]) -> Response[str]:
    """Show the page."""
    loop, model = asyncio.get_running_loop(), services.model
    batches, decoder, full = await asyncio.gather(
        services.store.call(_batches),
        loop.run_in_executor(services.file_executor, _decoder, model.registry, model.version),
        loop.run_in_executor(services.file_executor, full_disks, services),
    )
    return page(
        "console/overview.html",
        viewer,
        here="/",
        title="Overview",
        notices=notices(services, batches.failed, full),
        decoder=decoder,
        dims=model.dims,
        loaded_at=model.loaded_at,
        in_progress=[batch_status(job, services.engine.live) for job in reversed(batches.in_progress)],
        recent=[batch_status(job, None) for job in batches.recent],
        counts=batches.counts,
        realtime=None if services.recent is None else _realtime(services.recent),
        inputs=_inputs(services),
    )


class Batches(NamedTuple):
    """Batches that are shown, the newest first, and how many there are by phase."""

    in_progress: list[JobRecord]
    recent: list[JobRecord]
    failed: list[JobRecord]
    counts: dict[str, int]


def _batches(tables: JobTables) -> Batches:
    """Read them in one turn of the store's thread, which a running batch keeps busy with checkpoints."""
    live = [phase for phase in Phase if phase not in FINAL_PHASES]
    return Batches(
        tables.newest(MOST_IN_PROGRESS, live),
        tables.newest(MOST_RECENT, sorted(FINAL_PHASES)),
        tables.newest(MOST_FAILED + 1, [Phase.FAILED]),
        tables.counts(),
    )


class DecoderCard(NamedTuple):
    """What is in service: its scores, and how they compare to those of the version before, if one was."""

    version: str
    decoder: str
    source: str
    rows: int | None
    scores: tuple[ScoreLine, ...]
    compared: SideBySide | None


def _decoder(registry: Registry, version: str | None) -> DecoderCard | None:
    """Read what is recorded of the version in service; for a thread."""
    if version is None:
        return None
    try:
        found = side_by_side(registry, version, version)
    except ArtifactError:  # its folder is gone, and it answers all the same
        return DecoderCard(version, "", "", None, (), None)
    side = found.second
    compared = _compared_to_the_last(registry, version)
    return DecoderCard(version, side.decoder, side.source, side.rows, found.lines, compared)


def _compared_to_the_last(registry: Registry, version: str) -> SideBySide | None:
    try:
        earlier = registry.earlier_version()
        return None if earlier == version else side_by_side(registry, earlier, version)
    except ArtifactError:  # there was none, or it is gone
        return None


class RealtimeCard(NamedTuple):
    """Realtime requests: the last minute in figures, the last ten in a chart."""

    last: RealtimeStep
    seconds: Panel
    p50: str
    p99: str
    rates: Panel
    area: str
    x_ticks: tuple[Tick, ...]
    quiet: bool


def _realtime(recent: RecentRealtime) -> RealtimeCard:
    steps = recent.steps()
    end = steps[-1].at if steps else 0.0
    span_s = STEP_S * STEPS
    x = scale(end - span_s, end)
    shown_ms = [1e3 * step.p99_s for step in steps if step.p99_s is not None]
    seconds = Panel.fitting(shown_ms, top=14, height=124, x=x)
    rates = Panel.fitting([step.per_second for step in steps], top=172, height=66, x=x)
    return RealtimeCard(
        last=recent.since(LAST_MINUTE_S),
        seconds=seconds,
        p50=seconds.line((step.at - step.seconds / 2, _ms(step.p50_s)) for step in steps),
        p99=seconds.line((step.at - step.seconds / 2, _ms(step.p99_s)) for step in steps),
        rates=rates,
        area=rates.area([(step.at - step.seconds, step.at, step.per_second) for step in steps]),
        x_ticks=tuple(
            Tick(x(end - minutes * 60), "now" if not minutes else f"{minutes} min ago")
            for minutes in (10, 8, 6, 4, 2, 0)
        ),
        quiet=not shown_ms,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds


class InputLine(NamedTuple):
    """Incoming rows of one source against the training rows; None where nothing is known."""

    source: str
    rows: int
    confidence: float | None
    low_share: float | None
    distance: float | None


class InputCard(NamedTuple):
    """Incoming rows, and what the decoder in service knows of its training rows."""

    lines: tuple[InputLine, ...]
    training_confidence: float | None
    threshold: float | None


def _inputs(services: Services) -> InputCard:
    training: Any = services.model.reference_statistics
    low = services.settings.low_confidence
    lines = tuple(
        InputLine(
            source,
            meter.rows,
            meter.mean_confidence,
            meter.low_rows / meter.rows if meter.rows else None,
            None if training is None else meter.distance(training.z_mean),
        )
        for source, meter in drift_meters(services).items()
    )
    return InputCard(
        lines,
        None if training is None else training.confidence_mean,
        low if low is not None or training is None else training.confidence_low,
    )
