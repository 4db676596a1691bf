"""`embup serve`: the HTTP service in this process, until a signal stops it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from embup_core.extras import extra_required


@extra_required("serve")
def serve(
    *,
    registry: Annotated[
        str | None,
        typer.Option(
            "--registry",
            help="Folder of published decoders, or s3://bucket/prefix. [EMBUP_REGISTRY, data/registry]",
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of jobs and their history. [EMBUP_DATA, data]")
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", help="Address to listen on. [EMBUP_HOST, 127.0.0.1]")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one. [EMBUP_PORT, 8000]"),
    ] = None,
    port_file: Annotated[
        Path | None, typer.Option("--port-file", help="File to write the port into once it is bound.")
    ] = None,
) -> None:
    """Serve single vectors and batches over HTTP.

    The current decoder of the registry answers. Every other setting is an EMBUP_ variable, which
    docs/reference/settings.md lists.
    """
    from pydantic import ValidationError

    from embup_core.settings_table import refused_setting
    from serving.server import run_server
    from serving.settings import ServingSettings

    given: dict[str, Any] = {"registry": registry, "data": data, "host": host, "port": port}
    try:
        settings = ServingSettings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise refused_setting(error.errors(), listed_by="python -m serving.settings") from error
    run_server(settings, port_file=port_file)
