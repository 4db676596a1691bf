"""Whether the process lives and whether it can do its work. Neither waits for the gate."""

from __future__ import annotations

from litestar import Controller, get
from litestar.di import NamedDependency

from serving.models import reload_failure
from serving.openapi import DescribedOperation, problems
from serving.schemas import Alive, Ready
from serving.services import Services


class HealthController(Controller):
    """Health."""

    path = "/health"
    tags = ("operations",)

    @get(
        "/live",
        operation_class=DescribedOperation,
        operation_id="live",
        summary="The process answers",
    )
    async def live(self) -> Alive:
        """Answer; an orchestrator restarts a process that does not."""
        return Alive()

    @get(
        "/ready",
        operation_class=DescribedOperation,
        operation_id="ready",
        summary="A decoder is loaded and jobs are stored",
        responses=problems(503),
    )
    async def ready(self, services: NamedDependency[Services]) -> Ready:
        """Answer 200 when requests can be served, 503 with the reason when they cannot."""
        upsampler = services.model.current()
        return Ready(
            status="ready",
            model_version=upsampler.version,
            last_reload_failure=reload_failure(services.model),
            batch_engine_failure=services.engine.failure,
            batches=await services.store.counts(),
        )
