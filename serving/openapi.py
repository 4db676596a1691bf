"""Prints the OpenAPI description as `openapi.json` has it: `python -m serving.openapi`."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.application import assemble
from serving.description.dimensions import DEFAULT_DIMS, at_dims
from serving.services import Services
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings, PydanticBaseSettingsSource


def openapi_file() -> str:
    """Write the description of a service with default settings, whatever is set on this machine.

    Nothing is opened or listened on for it.
    """

    class Defaults(ServingSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],  # noqa: ARG003  the base class names them so
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (init_settings,)

    with tempfile.TemporaryDirectory() as folder:
        app = assemble(Services(Defaults(data=Path(folder), registry=Path(folder) / "registry")))
    input_dims, output_dims = DEFAULT_DIMS
    described = at_dims(app.openapi_schema.to_schema(), input_dims=input_dims, output_dims=output_dims)
    # Sorted, so that a change is a small difference; but the operations stand in the order of the page.
    ordered = {name: _sorted(described[name]) for name in sorted(described) if name != "paths"}
    ordered["paths"] = {path: _sorted(item) for path, item in described["paths"].items()}
    return json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"


def _sorted(value: Any) -> Any:
    """Sort the names of all objects in a JSON value."""
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(part) for part in value] if isinstance(value, list) else value


if __name__ == "__main__":
    sys.stdout.write(openapi_file())
