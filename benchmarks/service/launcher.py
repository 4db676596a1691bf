"""Starts the service with what only a benchmark asks of it.

    python -m benchmarks.service.launcher REGISTRY DATA PORT_FILE [--open-gate] [--pauses FILE]

It answers one more request, POST /noop, which costs what any request costs and does nothing. With
--open-gate realtime requests never stop the batch. With --pauses each pause of the batch becomes a line of
that file when it ends: its two moments on the monotonic clock, in seconds.
"""

from __future__ import annotations

import argparse
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from litestar import post

import serving.server
import serving.services
from serving.application import assemble
from serving.realtime.gate import PriorityGate
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from litestar import Litestar

    from serving.access.keys import ApiKeys
    from serving.access.sessions import Sessions
    from serving.realtime.gate import BatchLease
    from serving.services import Services


@post("/noop", status_code=200, include_in_schema=False)
async def noop(body: bytes) -> dict[str, int]:
    """Take the same body as a realtime request and answer its length."""
    return {"bytes": len(body)}


def assemble_with_noop(services: Services, keys: ApiKeys | None, sessions: Sessions) -> Litestar:
    """The application, and the request that does nothing."""
    app = assemble(services, keys, sessions)
    app.register(noop)
    return app


class OpenGate(PriorityGate):
    """Lets realtime requests through and tells the batch nothing of them."""

    @asynccontextmanager
    async def realtime(self) -> AsyncIterator[None]:
        """Hold nothing."""
        yield


def recording_gate(path: Path) -> type[PriorityGate]:
    """A gate that notes when the batch was stopped and when it went on."""
    file = path.open("w", buffering=1)

    class RecordingGate(PriorityGate):
        @asynccontextmanager
        async def batch(
            self, *, freeze: Callable[[], None], thaw: Callable[[], None]
        ) -> AsyncIterator[BatchLease]:
            since = 0.0

            def noting_freeze() -> None:
                nonlocal since
                freeze()
                since = time.monotonic()

            def noting_thaw() -> None:
                until = time.monotonic()
                thaw()
                file.write(f"{since:.6f} {until:.6f}\n")

            async with super().batch(freeze=noting_freeze, thaw=noting_thaw) as lease:
                yield lease

    return RecordingGate


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="The service, as benchmarks need it.")
    parser.add_argument("registry", type=Path)
    parser.add_argument("data", type=Path, help="folder of the job database; batch files lie there too")
    parser.add_argument("port_file", type=Path)
    parser.add_argument("--open-gate", action="store_true", help="requests never stop the batch")
    parser.add_argument("--pauses", type=Path, help="note the batch's pauses there")
    options = parser.parse_args()
    # What they are made of is not for users to choose: benchmarks alone reach into the two modules.
    if options.open_gate:
        vars(serving.services)["PriorityGate"] = OpenGate
    elif options.pauses:
        vars(serving.services)["PriorityGate"] = recording_gate(options.pauses)
    vars(serving.server)["assemble"] = assemble_with_noop
    settings = ServingSettings(
        registry=options.registry,
        data=options.data,
        port=0,
        batch_roots=(options.data.parent,),
        log_level="warning",
    )
    serving.server.run_server(settings, port_file=options.port_file)


if __name__ == "__main__":
    main()
