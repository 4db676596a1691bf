"""The published decoders, and putting the latest one into service."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from litestar import Controller, get, post
from litestar.di import NamedDependency

from serving.openapi import DescribedOperation, problems
from serving.schemas import ModelEntry, ModelList, ReloadAnswer, ReloadFailure
from serving.services import Services

if TYPE_CHECKING:
    from serving.hot_model import HotModel


class ModelController(Controller):
    """Decoders."""

    path = "/v1/models"
    tags = ("models",)

    @get(
        operation_class=DescribedOperation,
        operation_id="listModels",
        summary="Published decoders, newest first",
    )
    async def published(self, services: NamedDependency[Services]) -> ModelList:
        """Answer which decoders are published and which one answers."""
        model = services.model
        found = await asyncio.get_running_loop().run_in_executor(
            services.file_executor, model.registry.versions
        )
        return ModelList(
            in_service=model.version,
            loaded_at=model.loaded_at,
            last_failure=reload_failure(model),
            models=[
                ModelEntry(
                    version=info.version,
                    decoder=info.manifest["decoder"]["name"],
                    created_at=info.manifest["created_utc"],
                    latest=info.is_latest,
                    in_service=info.version == model.version,
                )
                for info in found
            ],
        )

    @post(
        "/reload",
        status_code=200,
        operation_class=DescribedOperation,
        operation_id="reloadModel",
        summary="Put the latest published decoder into service",
        responses=problems(503),
    )
    async def reload(self, services: NamedDependency[Services]) -> ReloadAnswer:
        """Load and verify the latest decoder, then swap; a bad one leaves the old one in service (503)."""
        before, upsampler = await services.model.reload()
        services.engine.notice()
        return ReloadAnswer(
            model_version=upsampler.version,
            previous_version=before,
            changed=before != upsampler.version,
        )


def reload_failure(model: HotModel) -> ReloadFailure | None:
    """Say why the last reload changed nothing; None when it did what it should."""
    failure = model.failure
    if failure is None:
        return None
    return ReloadFailure(at=failure.at, detail=failure.message, remedy=failure.remedy)
