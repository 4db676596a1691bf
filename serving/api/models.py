"""The published decoders, and putting one of them into service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from litestar import Controller, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from serving.actions.decoders import described_failure, model_entry, promote_decoder, roll_back_decoder
from serving.description.operations import DescribedOperation, problems
from serving.schemas import ModelList, ReloadAnswer
from serving.services import Services

if TYPE_CHECKING:
    from embup_core.upsampler import Upsampler


class ModelController(Controller):
    """Decoders."""

    path = "/v1/models"
    tags = ("models",)

    @get(
        opt={"access": "read"},
        operation_class=DescribedOperation,
        operation_id="listModels",
        summary="Published decoders, newest first",
        responses=problems(),
    )
    async def published(self, services: NamedDependency[Services]) -> ModelList:
        """Answer which decoders are published, which one answers, and which were refused and why."""
        model = services.model
        found = await asyncio.get_running_loop().run_in_executor(
            services.file_executor, model.registry.versions
        )
        return ModelList(
            in_service=model.version,
            loaded_at=model.loaded_at,
            last_failure=described_failure(services, model.failure),
            refused=[failure for one in model.refused if (failure := described_failure(services, one))],
            models=[model_entry(info, in_service=info.version == model.version) for info in found],
        )

    @post(
        "/reload",
        status_code=200,
        operation_class=DescribedOperation,
        operation_id="reloadModel",
        summary="Put the current published decoder into service",
        responses=problems(503),
        opt={"access": "admin"},
    )
    async def reload(self, services: NamedDependency[Services]) -> ReloadAnswer:
        """Load and verify the current decoder, then swap; a bad one leaves the old one in service (503)."""
        return _answer(*await services.model.reload())

    @post(
        "/{version:str}/promote",
        status_code=200,
        operation_class=DescribedOperation,
        operation_id="promoteModel",
        summary="Put a published decoder into service, and keep it there",
        responses=problems(400, 404, 409),
        opt={"access": "admin"},
    )
    async def promote(self, version: FromPath[str], services: NamedDependency[Services]) -> ReloadAnswer:
        """Load and verify it, let CURRENT name it, then swap; a bad one changes nothing (409)."""
        return _answer(*await promote_decoder(services, version))

    @post(
        "/rollback",
        status_code=200,
        operation_class=DescribedOperation,
        operation_id="rollBackModel",
        summary="Put the decoder that was in service before the current back into service",
        responses=problems(409),
        opt={"access": "admin"},
    )
    async def roll_back(self, services: NamedDependency[Services]) -> ReloadAnswer:
        """As a promotion of the version before; two rollbacks lead two versions back."""
        return _answer(*await roll_back_decoder(services))


def _answer(before: str | None, upsampler: Upsampler) -> ReloadAnswer:
    return ReloadAnswer(
        model_version=upsampler.version,
        previous_version=before,
        changed=before != upsampler.version,
    )
