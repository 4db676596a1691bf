"""Runs the service in this process until a signal stops it."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from embup_core.errors import EmbupError
from embup_core.files.processes import is_linux
from serving.access.keys import ApiKeys, require_keys_beyond_loopback
from serving.access.sessions import Sessions
from serving.application import assemble
from serving.edge.boundary import ANSWER_HEADERS, Boundary, HostNames
from serving.edge.connections import LINGER_S, ConnectionLimits, LimitedProtocol
from serving.edge.observed import Observed
from serving.observability.logs import configure_logging, decoder_in_service
from serving.pages.problem import ProblemPages
from serving.realtime.threads import limit_math_threads
from serving.services import Services

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from litestar.types import ASGIApp

    from serving.observability.requests import RequestObservations
    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving")

KEEP_ALIVE_S = 60  # idle connections of clients that pool theirs; a stop closes them at once


def run_server(settings: ServingSettings, *, port_file: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT; then finish requests, stop the batch at a checkpoint, and return.

    Parameters
    ----------
    settings
        What to serve and where.
    port_file
        Gets the port as text, once requests are answered; written under another name and renamed.

    Raises
    ------
    JobError
        Another process holds the job database, or it cannot be opened.
    InputError
        The API keys cannot be used, or there are none although other machines could reach the service.
    EmbupError
        The address cannot be listened on, a folder of batch files cannot be opened, or this is not Linux.
    """
    if not is_linux():
        raise EmbupError(
            f"The service needs Linux, found {sys.platform}.",
            remedy="Run it in a container. Decoding, training and the client work here.",
        )
    keys = ApiKeys.of(settings)
    configure_logging(settings.log_format, settings.log_level)
    limit_math_threads()
    sys.setswitchinterval(settings.switch_interval_ms / 1e3)
    services = Services(settings)
    listening = _listen(settings, keys)
    decoder_in_service.version = lambda: services.model.version
    sessions = Sessions(keys)
    app: ASGIApp = assemble(services, keys, sessions)
    app = Boundary(app, HostNames(listening.getsockname()[0], settings.host, settings.allowed_hosts))
    app = ProblemPages(app, sessions)
    if services.observations is not None or services.spans is not None or settings.access_log:
        app = Observed(app, services.observations, services.spans, access_log=settings.access_log)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=_protocol(settings, services.observations),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=ANSWER_HEADERS,
        reset_contextvars=True,  # or a request sent behind another one would log under its id and key
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_s)),
    )
    server = _Server(config, services, port_file)
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()
        if port_file is not None:
            port_file.unlink(missing_ok=True)
    if server.start_failure is not None:
        raise server.start_failure
    # A log that ends without it tells of a crash, or of a kill.
    log.info("stopped")


def _protocol(settings: ServingSettings, observations: RequestObservations | None) -> Any:
    limits = ConnectionLimits(
        connections=settings.max_connections,
        head_bytes=settings.max_head_bytes,
        body_bytes=settings.max_body_bytes,
        receive_s=settings.receive_deadline_s,
        send_s=settings.send_deadline_s,
    )
    return partial(LimitedProtocol, limits=limits, observations=observations)


class _Server(uvicorn.Server):
    """uvicorn, which stops the batch as soon as the signal comes, and ends without raising it again."""

    def __init__(self, config: uvicorn.Config, services: Services, port_file: Path | None) -> None:
        super().__init__(config)
        self._services = services
        self._port_file = port_file
        self._loop: asyncio.AbstractEventLoop | None = None
        self._second_signal = asyncio.Event()
        self.start_failure: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            # uvicorn tells the lifespan's failure only as text on its log; opening here keeps the error.
            await self._services.open()
        except EmbupError as error:
            self.start_failure = error
            self.should_exit = True
            return
        await super().startup(sockets=sockets)
        if not self.started or not sockets:
            return
        host, port = sockets[0].getsockname()[:2]
        if self._port_file is not None:
            new = self._port_file.with_name(self._port_file.name + ".new")
            new.write_text(f"{port}\n")
            new.replace(self._port_file)
        shown = f"[{host}]" if ":" in host else host
        log.info(
            "serving",
            url=f"http://{shown}:{port}",
            docs=f"http://{shown}:{port}/docs",
            decoder=self._services.model.version,
            pid=os.getpid(),
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.started:
            log.info("stopping", drain_s=self._services.settings.drain_s)
        await self._drain()
        await super().shutdown(sockets=sockets)
        if self.force_exit:
            # uvicorn leaves it out then; but a checkpoint and the worker's end are a matter of moments.
            await self.lifespan.shutdown()
        await self._end_connections()

    async def _end_connections(self) -> None:
        """End connections whose client has not closed yet: the loop cannot be closed around them."""
        open_connections = self.server_state.connections
        with suppress(TimeoutError):
            async with asyncio.timeout(0 if self.force_exit else LINGER_S):
                while open_connections:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(0.02)
        for connection in list(open_connections):
            connection.transport.abort()
        await asyncio.sleep(0)  # the loop takes them off

    async def _drain(self) -> None:
        """Keep answering for a while, but not ready, so that a load balancer sends nothing more."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._services.settings.drain_s):
                await self._second_signal.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        if self.should_exit:
            self.force_exit = True  # a second signal: requests in flight are not waited for
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._second_signal.set)
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._services.engine.stop)


def _listen(settings: ServingSettings, keys: ApiKeys | None) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        require_keys_beyond_loopback(str(address[0]), keys)
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise EmbupError(
            f"The address {host} cannot be listened on: {error}.",
            remedy="Name an address of this machine, such as 127.0.0.1.",
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections have it from here: what a client does not take, or acknowledge, ends them.
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(settings.send_deadline_s * 1e3))
        )
        listening.bind(address)
        listening.set_inheritable(False)
    except OSError as error:
        listening.close()
        raise EmbupError(
            f"Port {port} of {host} cannot be listened on: {error}.",
            remedy="Stop what uses it, or choose another port; 0 takes a free one.",
        ) from error
    return listening
