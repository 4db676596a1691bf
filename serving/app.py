"""The application factory, for the server and for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serving.services import Services
from serving.wiring import assemble

if TYPE_CHECKING:
    from litestar import Litestar

    from serving.settings import ServingSettings


def create_app(settings: ServingSettings) -> Litestar:
    """Make the application of these settings."""
    return assemble(Services(settings))
