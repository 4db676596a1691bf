"""What needs a person: each with what happened, and what to do about it."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from serving.decoders.hot_model import NOTHING_PUBLISHED, PUBLISH_FIRST
from serving.jobs.model import utc_now
from serving.pages.texts import ago, count, file_name, percent, sentences, size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serving.jobs.model import JobRecord
    from serving.observability.drift import DriftMeter
    from serving.services import Services

FAILED_SINCE: Final = timedelta(hours=24)
MOST_FAILED: Final = 3
LEAST_FREE_SHARE: Final = 0.05
LEAST_FREE_BYTES: Final = 1 << 30
FEWEST_ROWS: Final = 200
MOST_LOW_SHARE: Final = 0.3
"""Three times what rows like the training rows have below the limit, which a tenth of them does."""


class Notice(NamedTuple):
    """Something that needs a person.

    Attributes
    ----------
    level
        `bad` where something does not work, `warn` where it soon may not, or answers may be poor.
    title, text
        What happened, and what to do.
    link, link_text
        Where to look; empty where there is no page of it.
    """

    level: Literal["bad", "warn"]
    title: str
    text: str
    link: str = ""
    link_text: str = ""


def notices(services: Services, failed: Sequence[JobRecord], full: Sequence[Notice]) -> list[Notice]:
    """Find everything that needs a person now, the worst first.

    Parameters
    ----------
    services
        The running parts.
    failed
        The newest batches that failed, one more than are shown.
    full
        From `full_disks`.
    """
    found = [
        *_of_decoders(services),
        *_of_registry(services),
        *_of_engine(services),
        *full,
        *_of_batches(failed),
        *_of_requests(services),
    ]
    for source, meter in drift_meters(services).items():
        found += _of_inputs(source, meter)
    return sorted(found, key=lambda notice: notice.level)


def drift_meters(services: Services) -> dict[str, DriftMeter]:
    """Give what is known of incoming rows, by where they came from, up to date."""
    meters = {"batch": services.engine.totals.drift}
    if services.observations is not None:
        meters["realtime"] = services.observations.drift
    for meter in meters.values():
        meter.fold()
    return meters


def _of_decoders(services: Services) -> Iterator[Notice]:
    model = services.model
    if model.failure is not None:
        now = "Nothing is in service." if model.version is None else f"{model.version} stays in service."
        yield Notice(
            "bad",
            f"The decoder {model.failure.version or ''} was refused {ago(model.failure.at)}",
            sentences(services.public(model.failure.message), now, services.public(model.failure.remedy)),
            "/console/decoders",
            "Decoders",
        )
    elif model.version is None:
        yield Notice("bad", NOTHING_PUBLISHED, PUBLISH_FIRST)


def _of_registry(services: Services) -> Iterator[Notice]:
    if services.model.outage is not None:
        yield Notice(
            "warn",
            "The object store of the registry does not answer",
            sentences(
                services.public(services.model.outage),
                "The decoder in service goes on; a newer one cannot be taken up.",
            ),
        )


def _of_engine(services: Services) -> Iterator[Notice]:
    if services.engine.failure is not None:
        yield Notice(
            "bad",
            "No batch gets on",
            sentences(
                services.public(services.engine.failure),
                "Free space on the disk of the data folder, or mend what the service's log names; batches "
                "resume by themselves.",
            ),
        )


def _of_batches(failed: Sequence[JobRecord]) -> Iterator[Notice]:
    since = utc_now() - FAILED_SINCE
    recent = [job for job in failed if job.finished_at is not None and job.finished_at > since]
    for job in recent[:MOST_FAILED]:
        yield Notice(
            "bad",
            f"The batch of {file_name(job.input_filepath)} failed {ago(job.finished_at)}",
            sentences(job.error, job.error_remedy),
            f"/console/batches/{job.batch_request_id}",
            "This batch",
        )
    if len(recent) > MOST_FAILED:
        yield Notice(
            "bad",
            "More batches failed in the last 24 hours",
            "",
            "/console/batches?status=FAILED",
            "All of them",
        )


def _of_requests(services: Services) -> Iterator[Notice]:
    seen = services.observations
    faults = 0 if seen is None else sum(n for (_, _, status), n in seen.answered.items() if status == 500)
    if faults:
        yield Notice(
            "bad",
            f"{count(faults)} requests failed by a fault of the service since its start",
            "The service's log has what happened, as `request failed`. Report it.",
        )


def _of_inputs(source: str, meter: DriftMeter) -> Iterator[Notice]:
    share = meter.low_rows / meter.rows if meter.rows else 0.0
    if meter.rows >= FEWEST_ROWS and share > MOST_LOW_SHARE:
        yield Notice(
            "warn",
            f"{percent(share)} of the {source} rows are unlike the training rows",
            "Their vectors are known less well than the scores of the decoder say. Look where the rows come "
            "from; train again with rows like them in the sample.",
        )


def full_disks(services: Services) -> list[Notice]:
    """Look at the disks; for a thread."""
    found = {}
    for folder in (services.settings.data, services.settings.registry_folder, *services.settings.batch_roots):
        try:
            usage, disk = shutil.disk_usage(folder), folder.stat().st_dev
        except OSError:
            continue
        if usage.free < max(LEAST_FREE_BYTES, LEAST_FREE_SHARE * usage.total):
            found[disk] = Notice(
                "bad",
                f"A disk is nearly full: {size(usage.free)} of {size(usage.total)} are free",
                "Batches stop where it is full. Move old outputs away, or `embup models prune` old decoders.",
            )
    return list(found.values())
