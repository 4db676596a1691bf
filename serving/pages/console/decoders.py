"""Decoders: the published versions, two of them side by side, and which one is in service."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

from litestar import Controller, Request, Response, get, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect

from embup_core.artifacts.manifest import listed_files
from embup_core.artifacts.verified_files import read_verified
from embup_core.errors import ArtifactError
from serving.access.sessions import Sessions, Viewer
from serving.actions.decoders import (
    described_failure,
    model_entry,
    promote_decoder,
    roll_back_decoder,
)
from serving.pages.console.forms import read_form
from serving.pages.console.scores import SideBySide, side_by_side
from serving.pages.layout import page
from serving.problems.problem import ProblemError
from serving.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from embup_core.artifacts.registry import Registry
    from serving.schemas import ModelEntry

    T = TypeVar("T")

PATH: Final = "/console/decoders"
PAGE_ROWS: Final = 20
MOST_CHOICES: Final = 200
PLOT_BYTES: Final = 8 << 20

Version = Annotated[str, QueryParameter(max_length=40)]


class DecoderPages(Controller):
    """The pages of decoders."""

    path = PATH
    include_in_schema = False

    @get(opt={"access": "read", "page": True})
    async def published(
        self,
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        before: Version = "",
        first: Version = "",
        second: Version = "",
    ) -> Response[str]:
        """List a page of versions, the newest first; and compare two."""
        found = await _read(services, partial(_listed, services.model.registry, before))
        compared = None
        if first and second:
            compared = await _read(services, partial(_compared, services.model.registry, first, second))
        failure = described_failure(services, services.model.failure)
        return page(
            "console/decoders.html",
            viewer,
            here=PATH,
            title="Decoders",
            models=found.models,
            in_service=services.model.version,
            choices=found.choices,
            earlier=found.earlier,
            following=found.following,
            before=before,
            first=first or (found.earlier or ""),
            second=second or (services.model.version or ""),
            compared=compared,
            failure=failure,
        )

    @get("/{version:str}/promote", opt={"access": "admin", "page": True})
    async def ask(
        self, version: FromPath[str], services: NamedDependency[Services], viewer: NamedDependency[Viewer]
    ) -> Response[str]:
        """Ask whether a version is to be put into service, and show what that would change."""
        return await _confirmation(services, viewer, version, back=False)

    @post("/{version:str}/promote", opt={"access": "admin", "page": True})
    async def promote(
        self,
        request: Request[Any, Any, Any],
        version: FromPath[str],
        services: NamedDependency[Services],
        sessions: NamedDependency[Sessions],
    ) -> Redirect:
        """Put a version into service."""
        form = await read_form(request, sessions)
        _require_unchanged(services, form.get("in_service", ""))
        await promote_decoder(services, version)
        return Redirect(PATH, status_code=303)

    @get("/{version:str}/rollback", opt={"access": "admin", "page": True})
    async def ask_back(
        self, version: FromPath[str], services: NamedDependency[Services], viewer: NamedDependency[Viewer]
    ) -> Response[str]:
        """Ask whether the version before is to be put back into service."""
        return await _confirmation(services, viewer, version, back=True)

    @post("/{version:str}/rollback", opt={"access": "admin", "page": True})
    async def roll_back(
        self,
        request: Request[Any, Any, Any],
        version: FromPath[str],
        services: NamedDependency[Services],
        sessions: NamedDependency[Sessions],
    ) -> Redirect:
        """Put the version before back into service, if it is the one that was asked about."""
        form = await read_form(request, sessions)
        _require_unchanged(services, form.get("in_service", ""))
        if await _read(services, services.model.registry.earlier_version) != version:
            raise _changed()
        await roll_back_decoder(services)
        return Redirect(PATH, status_code=303)

    @get(
        "/{version:str}/plots/{name:str}",
        opt={"access": "read"},
        cache_control=CacheControlHeader(max_age=86_400, private=True, immutable=True),
    )
    async def plot(
        self, version: FromPath[str], name: FromPath[str], services: NamedDependency[Services]
    ) -> Response[bytes]:
        """Answer a plot of a version's report."""
        content = await _read(services, partial(_plot, services.model.registry, version, name))
        return Response(content, media_type="image/png")


class Listed(NamedTuple):
    """A page of versions, all names to choose from, and the one that a rollback leads to."""

    models: list[ModelEntry]
    choices: list[str]
    earlier: str | None
    following: str | None


class Compared(NamedTuple):
    """Two versions, and the plots of their reports: what is shown, and the file of each, empty for none."""

    scores: SideBySide
    plots: tuple[tuple[str, str, str], ...]


def _listed(registry: Registry, before: str) -> Listed:
    """Read a page of manifests; for a thread."""
    names = registry.version_names()
    wanted = [name for name in names if not before or name < before]
    models = []
    for name in wanted[:PAGE_ROWS]:
        try:
            models.append(model_entry(registry.info(name), in_service=False))
        except ArtifactError:  # `embup models verify` names it
            continue
    try:
        earlier = registry.earlier_version()
    except ArtifactError:
        earlier = None
    following = wanted[PAGE_ROWS - 1] if len(wanted) > PAGE_ROWS else None
    return Listed(models, names[:MOST_CHOICES], earlier, following)


def _compared(registry: Registry, first: str, second: str) -> Compared:
    """Read what two versions say of themselves; for a thread."""
    scores = side_by_side(registry, first, second)
    of_first, of_second = (_plots(registry, version) for version in (first, second))
    order = dict.fromkeys([*of_second, *of_first])
    return Compared(scores, tuple((name, of_first.get(name, ""), of_second.get(name, "")) for name in order))


def _plots(registry: Registry, version: str) -> dict[str, str]:
    """Files of a version's plots, by what they show; some are named after the decoder, too."""
    info = registry.info(version)
    files = sorted(
        name.removeprefix("plots/")
        for name in listed_files(info.folder, info.manifest)
        if name.startswith("plots/") and name.endswith(".png")
    )
    decoder = str(info.manifest["decoder"].get("name"))
    return {
        name.removesuffix(".png").removesuffix(f"_{decoder}").replace("_", " ").capitalize(): name
        for name in files
    }


def _plot(registry: Registry, version: str, name: str) -> bytes:
    info = registry.info(version)
    listed = listed_files(info.folder, info.manifest).get(f"plots/{name}")
    if listed is None or not name.endswith(".png") or listed.size_bytes > PLOT_BYTES:
        raise NotFoundException
    folder = registry.path(version)  # of a registry in an object store, fetched when a plot is looked at
    return read_verified(folder / "plots" / name, size_bytes=listed.size_bytes, sha256=listed.sha256)


async def _confirmation(services: Services, viewer: Viewer, version: str, *, back: bool) -> Response[str]:
    current = services.model.version
    info = await _read(services, partial(services.model.registry.info, version))
    compared = None
    if current is not None and current != version:
        compared = await _read(services, partial(_compared, services.model.registry, current, version))
    return page(
        "console/promote.html",
        viewer,
        here=PATH,
        title="Roll back" if back else "Put a decoder into service",
        model=model_entry(info, in_service=version == current),
        in_service=current,
        compared=compared,
        action="rollback" if back else "promote",
    )


def _require_unchanged(services: Services, seen: str) -> None:
    """Refuse to act on a page that shows another version in service than there is by now."""
    if (services.model.version or "") != seen:
        raise _changed()


def _changed() -> ProblemError:
    return ProblemError(
        "decoder-refused",
        "The decoder in service has changed since the page was opened: somebody else promoted one.",
        remedy="Open the page of decoders again, and decide again.",
    )


async def _read(services: Services, function: Callable[[], T]) -> T:
    """Read the registry in a thread, and say what fails without its path.

    Raises
    ------
    ProblemError
        There is no such version, or it is bad.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(services.file_executor, function)
    except ArtifactError as error:
        raise ProblemError(
            "unknown-decoder", services.public(error.message), remedy=services.public(error.remedy)
        ) from error
