"""The decoder in service: one hot reference, swapped only after the new one has been loaded and verified."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from embup_core.errors import ArtifactError, NoArtifactError

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from embup_core.registry import Registry
    from embup_core.upsampler import Upsampler

log = structlog.get_logger("embup.serving.models")

NOTHING_PUBLISHED = "No decoder is published yet in {root}."
PUBLISH_FIRST = (
    "Train one (`embup train --source sample --registry {root}`), then `POST /v1/models/reload`; "
    "a restart is not needed."
)


@dataclass(frozen=True)
class LoadFailure:
    """Why the last reload left the old decoder in service."""

    at: datetime
    message: str
    remedy: str


class HotModel:
    """Holds the upsampler that answers now.

    Parameters
    ----------
    registry
        Where decoders are published.
    executor
        Where loading and verifying run, away from the event loop.
    """

    def __init__(self, registry: Registry, executor: Executor) -> None:
        self._registry = registry
        self._executor = executor
        self._current: Upsampler | None = None
        self._reloading = asyncio.Lock()
        self.loaded_at: datetime | None = None
        self.failure: LoadFailure | None = None
        self.reloads = 0
        self.failures = 0

    @property
    def registry(self) -> Registry:
        """Where decoders are published."""
        return self._registry

    @property
    def version(self) -> str | None:
        """The version that answers now, None before the first one."""
        return None if self._current is None else self._current.version

    def current(self) -> Upsampler:
        """Give the upsampler that answers now.

        Raises
        ------
        NoArtifactError
            None was loaded yet.
        ArtifactError
            None was loaded yet, because the published one is bad.
        """
        if self._current is not None:
            return self._current
        if self.failure is not None:
            raise ArtifactError(self.failure.message, remedy=self.failure.remedy)
        root = self._registry.root
        raise NoArtifactError(NOTHING_PUBLISHED.format(root=root), remedy=PUBLISH_FIRST.format(root=root))

    async def reload(self) -> tuple[str | None, Upsampler]:
        """Load the latest published decoder and put it in service; give the version before and the new one.

        Raises
        ------
        NoArtifactError
            Nothing is published.
        ArtifactError
            The latest one is bad; the one in service stays.
        """
        async with self._reloading:
            before = self.version
            try:
                upsampler = await self._load(None)
            except NoArtifactError as error:
                root = self._registry.root
                raise NoArtifactError(
                    NOTHING_PUBLISHED.format(root=root), remedy=PUBLISH_FIRST.format(root=root)
                ) from error
            except ArtifactError as error:
                self.failures += 1
                self.failure = LoadFailure(datetime.now(UTC), error.message, error.remedy)
                log.warning("the latest decoder cannot be used", in_service=before, error=str(error))
                raise
            self._current = upsampler
            self.failure = None
            self.reloads += 1
            self.loaded_at = datetime.now(UTC)
            log.info("decoder in service", version=upsampler.version, before=before)
            return before, upsampler

    async def version_for_job(self, version: str | None) -> Upsampler:
        """Give the upsampler of a version; None means the one that answers now.

        Raises
        ------
        ArtifactError
            It is not there any more, or bad.
        """
        if version is None or version == self.version:
            return self.current()
        return await self._load(version)

    async def _load(self, version: str | None) -> Upsampler:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._registry.load, version)
