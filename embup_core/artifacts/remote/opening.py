"""Open a registry by what names it: a folder, or an address in an object store."""

from __future__ import annotations

import os
from pathlib import Path

from embup_core.artifacts.registry import Registry
from embup_core.object_store.address import folder_of, is_address, parsed_address

CACHE_VARIABLE = "EMBUP_REGISTRY_CACHE"


def registry_place(value: object) -> object:
    """An address in its one spelling, or a folder as a `Path`; other types as they are, for a later check.

    Raises
    ------
    InvalidArgumentError
        The address is malformed; a `ValueError`, too.
    """
    if is_address(value):
        return parsed_address(str(value))
    return Path(value) if isinstance(value, str) else value


def registry_folder(place: Path | str, cache: Path | None = None) -> Path:
    """The local folder of a registry: itself, or for an address the folder of its copy in the cache.

    Parameters
    ----------
    place
        A folder or an address.
    cache
        Folder of the copies; None takes EMBUP_REGISTRY_CACHE, else ``embup/registries`` in the user's cache.
    """
    if not is_address(place):
        return Path(place)
    return folder_of(parsed_address(str(place)), _user_cache() if cache is None else cache)


def open_registry(place: Path | str, cache: Path | None = None, *, look: bool = True) -> Registry:
    """Open a registry in a folder or in an object store.

    Parameters
    ----------
    place, cache
        As for `registry_folder`.
    look
        Whether to ask the store at once what is in service there. Without it, a store that does not answer
        is no error, and the local copy is used until it does.

    Raises
    ------
    RegistryUnavailableError
        The store does not answer, or refuses.
    InvalidArgumentError
        The address is malformed.
    MissingExtraError
        The extra `s3` is not installed.
    """
    if not is_address(place):
        return Registry(place)
    from embup_core.artifacts.remote.mirrored import MirroredRegistry

    registry = MirroredRegistry(str(place), registry_folder(place, cache))
    if look:
        registry.look()
    return registry


def _user_cache() -> Path:
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embup" / "registries"
