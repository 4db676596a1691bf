"""Runs the service in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING

import msgspec
import structlog
import uvicorn
from litestar.enums import ScopeType

from embup_core.errors import EmbupError, JobError
from serving.logs import AccessLog, configure_logging
from serving.problems import PROBLEM_JSON, Problem, problem_type
from serving.services import Services
from serving.threads import limit_math_threads
from serving.wiring import assemble

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

    from litestar.types import ASGIApp, Message, Receive, Scope, Send

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
    EmbupError
        The address cannot be listened on.
    """
    configure_logging(settings)
    limit_math_threads()
    sys.setswitchinterval(settings.switch_interval_ms / 1e3)
    listening = _listen(settings.host, settings.port)
    services = Services(settings)
    app: ASGIApp = assemble(services)
    app = CutOff(app)
    if settings.access_log:
        app = AccessLog(app)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
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


class CutOff:
    """Answers requests that are cut off because the service stops and their time is over.

    uvicorn cancels them, and takes what comes out of that for a fault of the application.

    Parameters
    ----------
    app
        The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through; answer 503 when it is cancelled before its answer began."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        answering = False

        async def watched_send(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except asyncio.CancelledError:
            log.info("a request was cut off by the stop", method=scope["method"], path=scope["path"])
            if answering:
                return
            problem = Problem(
                type=problem_type("stopping"),
                title="The service is stopping",
                status=503,
                detail="The service is stopping, and the request was not whole in the time it had left.",
                instance=scope["path"],
                remedy="Send it again once the service is back.",
            )
            body = msgspec.json.encode(problem)
            headers = [
                (b"content-type", PROBLEM_JSON.encode()),
                (b"content-length", str(len(body)).encode()),
                (b"retry-after", b"10"),
                (b"connection", b"close"),
            ]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})


class _Server(uvicorn.Server):
    """uvicorn, which stops the batch as soon as the signal comes, and ends without raising it again."""

    def __init__(self, config: uvicorn.Config, services: Services, port_file: Path | None) -> None:
        super().__init__(config)
        self._services = services
        self._port_file = port_file
        self._loop: asyncio.AbstractEventLoop | None = None
        self.start_failure: BaseException | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            # uvicorn tells the lifespan's failure only as text on its log; opening here keeps the error.
            await self._services.store.open()
        except JobError as error:
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
        await super().shutdown(sockets=sockets)
        if self.force_exit:
            # uvicorn leaves it out then; but a checkpoint and the worker's end are a matter of moments.
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        if self.should_exit:
            self.force_exit = True  # a second signal: requests in flight are not waited for
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._services.engine.stop)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise EmbupError(
            f"The address {host} cannot be listened on: {error}.",
            remedy="Name an address of this machine, such as 127.0.0.1.",
        ) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.set_inheritable(False)
    except OSError as error:
        listening.close()
        raise EmbupError(
            f"Port {port} of {host} cannot be listened on: {error}.",
            remedy="Stop what uses it, or choose another port; 0 takes a free one.",
        ) from error
    return listening
