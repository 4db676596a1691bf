"""Puts the application together: every handler, every plugin, once."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from litestar import Litestar, Router
from litestar.di import Provide

from serving.batches import BatchController
from serving.health import HealthController
from serving.home import home
from serving.metrics import MetricsController, collecting, request_metrics
from serving.models import ModelController
from serving.openapi import docs_asset, openapi_config, state_lengths
from serving.problems import exception_handlers
from serving.realtime import RealtimeController, RealtimePriority
from serving.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def assemble(services: Services) -> Litestar:
    """Make the application around a service's parts; they are started and stopped with it."""

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        async with services.running():
            with collecting(services):
                yield

    realtime = Router("/", route_handlers=[RealtimeController], middleware=[RealtimePriority(services)])
    app = Litestar(
        [realtime, BatchController, ModelController, HealthController, MetricsController, home, docs_asset],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        exception_handlers=exception_handlers(),
        lifespan=[running],
        logging_config=None,
        middleware=[request_metrics().middleware],
        openapi_config=openapi_config(),
        request_max_body_size=services.settings.max_body_bytes,
        signature_types=[Services],
    )
    state_lengths(app.openapi_schema, max_rows=services.settings.max_realtime_rows)
    return app
