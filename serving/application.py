"""Puts the application together: every handler, every plugin, once."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Request, Router
from litestar.di import Provide

from serving.access.control import AccessControl
from serving.access.keys import ApiKeys
from serving.access.sessions import Sessions, Viewer, viewer_of
from serving.api.batches import BatchController
from serving.api.debug.datasets import DebugController
from serving.api.debug.map import DebugMapController
from serving.api.debug.reviews import DebugReviewController
from serving.api.health import HealthController
from serving.api.metrics import MetricsController
from serving.api.models import ModelController
from serving.api.search import SearchController
from serving.api.sql import sql_router
from serving.api.upsample import RealtimeController
from serving.description.api import openapi_config, state_access, state_order, state_shapes
from serving.description.dimensions import DescriptionFile
from serving.edge.strict_json import StrictRequest
from serving.pages.assets import page_asset
from serving.pages.console.batches import BatchPages
from serving.pages.console.decoders import DecoderPages
from serving.pages.console.login import LoginController
from serving.pages.console.overview import overview
from serving.pages.console.try_row import TryPages
from serving.pages.debugger.datasets import DatasetPages
from serving.pages.debugger.map import MapPages
from serving.pages.debugger.review import ReviewPages
from serving.pages.debugger.tables import TablePages
from serving.pages.docs import SwaggerPage, docs_asset, with_policy
from serving.pages.layout import compile_templates
from serving.pages.problem import problem_page
from serving.problems.handlers import exception_handlers
from serving.realtime.priority import RealtimePriority
from serving.realtime.usual import UsualRequests
from serving.services import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def assemble(services: Services, keys: ApiKeys | None = None, sessions: Sessions | None = None) -> Litestar:
    """Make the application around a service's parts; they are started and stopped with it.

    Parameters
    ----------
    services
        The parts.
    keys
        The API keys in force; None lets everybody do everything.
    sessions
        Of browsers that gave one of the keys; made here where nobody else needs them.
    """
    known = Sessions(keys) if sessions is None else sessions
    compile_templates()

    def viewer(request: Request[Any, Any, Any]) -> Viewer:
        return viewer_of(request.scope, known)

    @asynccontextmanager
    async def running(_: Litestar) -> AsyncIterator[None]:
        async with services.running(), nullcontext() if keys is None else keys.kept_fresh():
            yield

    settings = services.settings
    priority = RealtimePriority(
        services.gate,
        deadline_s=settings.realtime_deadline_s,
        max_body_bytes=settings.max_body_bytes,
        max_requests=settings.max_realtime_requests,
        usual=UsualRequests(
            services.model.current, services.count_realtime_row, max_body_bytes=settings.max_body_bytes
        ),
    )
    app = Litestar(
        [
            Router(
                "/",
                route_handlers=[
                    RealtimeController,
                    *([] if settings.search_index is None else [SearchController]),
                ],
                middleware=[priority],
            ),
            BatchController,
            ModelController,
            DebugController,
            DebugMapController,
            DebugReviewController,
            HealthController,
            *([MetricsController] if settings.metrics else []),
            *([sql_router(settings)] if settings.sql_over_http else []),
            overview,
            BatchPages,
            TryPages,
            DecoderPages,
            DatasetPages,
            TablePages,
            MapPages,
            ReviewPages,
            LoginController,
            page_asset,
            docs_asset,
            problem_page,
        ],
        dependencies={
            "services": Provide(lambda: services, sync_to_thread=False),
            "sessions": Provide(lambda: known, sync_to_thread=False),
            "keys": Provide(lambda: keys, sync_to_thread=False),
            "viewer": Provide(viewer, sync_to_thread=False),
        },
        exception_handlers=exception_handlers(services.public),
        lifespan=[running],
        logging_config=None,
        middleware=[AccessControl(keys, known)],
        openapi_config=openapi_config(
            SwaggerPage(known), DescriptionFile(lambda: services.model.dims), with_policy
        ),
        request_class=StrictRequest,
        request_max_body_size=settings.max_body_bytes,
        signature_types=[ApiKeys, Services, Sessions, Viewer],
    )
    state_shapes(app.openapi_schema, max_rows=settings.max_realtime_rows)
    state_order(app.openapi_schema)
    state_access(app)
    return app
