"""Whether the process lives and whether it can do its work. Neither waits for the gate."""

from __future__ import annotations

from litestar import Controller, get
from litestar.di import NamedDependency

from serving.access.control import OPEN
from serving.actions.decoders import described_failure
from serving.description.operations import DescribedOperation, problems
from serving.problems.problem import ProblemError
from serving.schemas import Alive, Ready
from serving.services import Services


class HealthController(Controller):
    """Health."""

    path = "/health"
    tags = ("operations",)
    opt = {"access": OPEN}  # noqa: RUF012 - Litestar's own attribute

    @get(
        "/live",
        operation_class=DescribedOperation,
        operation_id="live",
        summary="The process answers",
        responses=problems(keyed=False),
    )
    async def live(self) -> Alive:
        """Answer; an orchestrator restarts a process that does not."""
        return Alive()

    @get(
        "/ready",
        operation_class=DescribedOperation,
        operation_id="ready",
        summary="A decoder is loaded and jobs are stored",
        responses=problems(keyed=False),
    )
    async def ready(self, services: NamedDependency[Services]) -> Ready:
        """Answer 200 when requests can be served, 503 with the reason when they cannot.

        Not without a decoder, and not while the service stops, though what is in flight is still answered.
        `degraded` is a 200, too: the object store of the registry does not answer, so no newer decoder can be
        taken up, and the one in service goes on.
        """
        if services.engine.stopping:
            raise ProblemError(
                "stopping",
                "The service is stopping, and still answers requests in flight.",
                remedy="Send new requests to another instance, or once the service is back.",
            )
        upsampler = services.model.current()
        return Ready(
            status="ready" if services.model.outage is None else "degraded",
            model_version=upsampler.version,
            last_reload_failure=described_failure(services, services.model.failure),
            registry_outage=None if services.model.outage is None else services.public(services.model.outage),
            batch_engine_failure=None
            if services.engine.failure is None
            else services.public(services.engine.failure),
            batches=await services.store.counts(),
        )
