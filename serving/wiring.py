"""Puts the application together: every handler, every plugin, once."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

from litestar import Litestar, Router
from litestar.di import Provide

from serving.access import AccessControl
from serving.batches import BatchController
from serving.health import HealthController
from serving.home import home
from serving.metrics import MetricsController
from serving.models import ModelController
from serving.openapi import docs_asset, openapi_config, state_access, state_shapes
from serving.problem_pages import problem_page
from serving.problems import exception_handlers
from serving.realtime import RealtimeController, RealtimePriority
from serving.services import Services
from serving.sql import sql_router
from serving.strict_json import StrictRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from serving.access import ApiKeys


def assemble(services: Services, keys: ApiKeys | None = None) -> Litestar:
    """Make the application around a service's parts; they are started and stopped with it.

    Parameters
    ----------
    services
        The parts.
    keys
        The API keys in force; None lets everybody do everything.
    """

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        async with services.running(), nullcontext() if keys is None else keys.kept_fresh():
            yield

    realtime = Router("/", route_handlers=[RealtimeController], middleware=[RealtimePriority(services)])
    optional = [sql_router(services.settings)] if services.settings.sql_over_http else []
    app = Litestar(
        [
            realtime,
            BatchController,
            ModelController,
            HealthController,
            *([MetricsController] if services.settings.metrics else []),
            home,
            docs_asset,
            problem_page,
            *optional,
        ],
        dependencies={"services": Provide(lambda: services, sync_to_thread=False)},
        exception_handlers=exception_handlers(services.public),
        lifespan=[running],
        logging_config=None,
        middleware=[AccessControl(keys)],
        openapi_config=openapi_config(),
        request_class=StrictRequest,
        request_max_body_size=services.settings.max_body_bytes,
        signature_types=[Services],
    )
    state_shapes(app.openapi_schema, max_rows=services.settings.max_realtime_rows)
    state_access(app)
    return app
