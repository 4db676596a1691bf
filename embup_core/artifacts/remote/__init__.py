"""A registry in an object store: in the store as in a folder, and a verified copy in a local folder."""

from embup_core.artifacts.remote.opening import open_registry, registry_folder, registry_place

__all__ = ["open_registry", "registry_folder", "registry_place"]
