"""The decoder in service: one hot reference, swapped only after the new one has been loaded and verified.

A newer one is noticed by looking at the registry's pointer every few seconds, and not by inotify: that sees
nothing on network file systems, where registries often lie, and needs a watch for each new folder. A look
is one `stat` of the pointer and two of the version that it names, in the thread that loads; of a registry in
an object store, one request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import structlog

from embup_core.errors import ArtifactError, NoArtifactError, RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from embup_core.artifacts.history import How
    from embup_core.artifacts.reference_statistics import ReferenceStatistics
    from embup_core.artifacts.registry import PointerState, Registry
    from embup_core.upsampler import Upsampler

log = structlog.get_logger("embup.serving.models")

T = TypeVar("T")

NOTHING_PUBLISHED = "No decoder is published yet."
PUBLISH_FIRST = (
    "Train one into the registry of this service (`embup train --source sample`); it is taken up without a "
    "restart, at once by `POST /v1/models/reload`."
)
REMEMBERED = 16  # refused versions
SHOWN_CHARS = 500  # of what is wrong with one; it may quote the artifact


@dataclass(frozen=True)
class LoadFailure:
    """Why a decoder was not put into service.

    Attributes
    ----------
    at
        When.
    version
        Which; None where the pointer names none.
    message, remedy
        Without the registry's path: clients read them.
    """

    at: datetime
    version: str | None
    message: str
    remedy: str


class HotModel:
    """Holds the upsampler that answers now.

    Parameters
    ----------
    registry
        Where decoders are published.
    executor
        Where loading and verifying run, away from the event loop; for this alone, since it may take seconds.

    Attributes
    ----------
    loaded_at
        Since when the current one answers.
    failure
        Why what the pointer names is not in service; None while it is.
    reloads, failures
        How often one was put into service, and refused.
    on_swap
        Called when another one has come into service.
    """

    def __init__(self, registry: Registry, executor: Executor) -> None:
        self._registry = registry
        self._executor = executor
        self._current: Upsampler | None = None
        self._reloading = asyncio.Lock()
        self._seen: PointerState | None = None
        self._refused: dict[str | None, LoadFailure] = {}
        self._logged_outage = False
        self.loaded_at: datetime | None = None
        self.failure: LoadFailure | None = None
        self.reloads = 0
        self.failures = 0
        self.on_swap: Callable[[], None] = lambda: None

    @property
    def registry(self) -> Registry:
        """Where decoders are published."""
        return self._registry

    @property
    def version(self) -> str | None:
        """The version that answers now, None before the first one."""
        return None if self._current is None else self._current.version

    @property
    def outage(self) -> str | None:
        """Why the registry's object store does not answer; None while it does, and for a folder."""
        state = self._registry.store_state
        return None if state is None or state.outage is None else self._shown(state.outage)

    @property
    def dims(self) -> tuple[int, int] | None:
        """Input and output dimensions of the decoder in service; None before the first one."""
        return None if self._current is None else (self._current.input_dims, self._current.output_dims)

    @property
    def reference_statistics(self) -> ReferenceStatistics | None:
        """What the rows were like that the decoder in service learned from; None where it does not say."""
        return None if self._current is None else self._current.reference_statistics

    @property
    def refused(self) -> tuple[LoadFailure, ...]:
        """The last refusal of each version that has not been in service since, the newest first."""
        return tuple(reversed(self._refused.values()))

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
        raise NoArtifactError(NOTHING_PUBLISHED, remedy=PUBLISH_FIRST)

    async def reload(self) -> tuple[str | None, Upsampler]:
        """Put the latest published decoder in service; give the version before and the one that answers now.

        One that was refused before is tried again; one that answers already, and has not changed on disk,
        is not loaded a second time.

        Raises
        ------
        NoArtifactError
            Nothing is published.
        ArtifactError
            The latest one is bad; the one in service stays.
        """
        async with self._reloading:
            state = await self._pointer_state()
            current = self._current
            if current is not None and self.failure is None and state is not None and state == self._seen:
                return current.version, current
            return await self._take_up(state)

    async def bring_here(self, version: str) -> None:
        """Have a version in the registry's folder, where another process loads it, if it can be had at all.

        Raises
        ------
        RegistryUnavailableError
            It is in an object store that does not answer.
        """
        try:
            await self._run(lambda: self._registry.path(version))
        except RegistryUnavailableError:
            raise
        except ArtifactError:
            pass  # what loads it says so

    async def watch(self, poll_s: float) -> None:
        """Take up whatever the pointer comes to name, until cancelled. A bad one is tried once.

        Parameters
        ----------
        poll_s
            Seconds between two looks.
        """
        # One that the disk did not give is tried again at each look.
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self._look()
            except ArtifactError:
                pass  # logged, and shown
            except Exception:
                log.exception("looking for a newer decoder failed")

    async def promote(self, version: str) -> tuple[str | None, Upsampler]:
        """Load and verify a version, let the pointer name it, put it in service; give as `reload` does.

        Raises
        ------
        NoArtifactError
            There is no such version.
        ArtifactError
            It is bad, or the registry cannot be written; pointer and service stay.
        """
        async with self._reloading:
            return await self._move(version, "promote")

    async def roll_back(self) -> tuple[str | None, Upsampler]:
        """Put the version that was in service before the latest in service; give as `reload` does.

        Raises
        ------
        NoArtifactError
            There was none before.
        ArtifactError
            It is bad, or the registry cannot be written; pointer and service stay.
        """
        async with self._reloading:
            try:
                latest = await self._run(self._registry.current_version)
                earlier = await self._run(self._registry.earlier_version)
            except ArtifactError as error:
                raise self._for_clients(error) from error
            return await self._move(earlier, "rollback", only_from=latest)

    async def _move(
        self, version: str, how: How, *, only_from: str | None = None
    ) -> tuple[str | None, Upsampler]:
        try:
            upsampler = await self._run(lambda: self._registry.load(version))
            await self._run(lambda: self._registry.point_at(version, how, only_from=only_from))
        except ArtifactError as error:
            log.warning("a decoder was not promoted", version=version, error=str(error))
            raise self._for_clients(error) from error
        state = await self._pointer_state()
        # If another process has moved the pointer since, the next look takes that up.
        return self._swap(upsampler, state if state is not None and state.version == version else None)

    async def _look(self) -> None:
        async with self._reloading:
            state = await self._pointer_state()
            if state is None or state == self._seen:
                return
            if state.version is not None and state.version == self.version:
                self._seen, self.failure = state, None  # back to what answers already
                return
            await self._take_up(state)

    async def _pointer_state(self) -> PointerState | None:
        """Look at the pointer, and log when an object store stops answering, and when it is back."""
        state = await self._run(self._registry.pointer_state)
        outage = self.outage
        if outage is not None and not self._logged_outage:
            log.warning("the registry does not answer", in_service=self.version, error=outage)
        elif outage is None and self._logged_outage:
            log.info("the registry answers again", in_service=self.version)
        self._logged_outage = outage is not None
        return state

    async def _take_up(self, state: PointerState | None) -> tuple[str | None, Upsampler]:
        """Load what the pointer names; `state` is of before the loading, so that no change is missed."""
        self._seen = state
        try:
            upsampler = await self._run(self._registry.load)
        except NoArtifactError as error:
            raise NoArtifactError(NOTHING_PUBLISHED, remedy=PUBLISH_FIRST) from error
        except ArtifactError as error:
            if _may_pass(error):
                self._seen = None  # the next look tries again
            self._refuse(None if state is None else state.version, error)
            raise self._for_clients(error) from error
        return self._swap(upsampler, state)

    def _swap(self, upsampler: Upsampler, state: PointerState | None) -> tuple[str | None, Upsampler]:
        before = self.version
        self._current = upsampler  # what is being answered keeps the one it began with
        self._seen = state
        self.failure = None
        self._refused.pop(upsampler.version, None)
        self._refused.pop(None, None)
        self.reloads += 1
        self.loaded_at = datetime.now(UTC)
        log.info("decoder in service", version=upsampler.version, before=before)
        self.on_swap()
        return before, upsampler

    def _refuse(self, version: str | None, error: ArtifactError) -> None:
        shown = self._for_clients(error)
        self.failures += 1
        earlier = self.failure
        self.failure = LoadFailure(datetime.now(UTC), version, shown.message, shown.remedy)
        self._refused.pop(version, None)
        self._refused[version] = self.failure
        while len(self._refused) > REMEMBERED:
            del self._refused[next(iter(self._refused))]
        if earlier is None or (earlier.version, earlier.message) != (version, shown.message):
            log.warning(
                "the latest decoder cannot be used", latest=version, in_service=self.version, error=str(error)
            )

    def _for_clients(self, error: ArtifactError) -> ArtifactError:
        """The same error without the registry's path, which clients need not know."""
        return type(error)(self._shown(error.message), remedy=self._shown(error.remedy))

    def _shown(self, text: str) -> str:
        places = {self._registry.address, str(self._registry.root)}
        # A relative path tells nothing, and may be part of any word.
        for place in sorted(place for place in places if "://" in place or place.startswith("/")):
            text = text.replace(f" --registry {place}", "").replace(f"{place}/", "")
            text = text.replace(place, "the registry")
        return text[:SHOWN_CHARS]

    async def _run(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)


def _may_pass(error: ArtifactError) -> bool:
    """Whether the disk or the store failed rather than the artifact: no file need change until it is back."""
    if isinstance(error, RegistryUnavailableError):
        return True
    cause = error.__cause__
    return isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
