"""Realtime requests hold the gate from the first byte of their body to the last byte of the answer.

A request counts towards the limit of requests in flight from its first body byte on: a connection that sends
only a head occupies nothing.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import TYPE_CHECKING, Any, Self

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware

from serving.problems.problem import send_problem
from serving.realtime.stages import STAGES_KEY, RealtimeStages

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, ReceiveMessage, Scope, Send

    from serving.realtime.gate import PriorityGate
    from serving.realtime.usual import UsualRequests


class RealtimePriority(ASGIMiddleware):
    """Holds the gate from the first byte of a request's body to the last byte of its answer.

    Parameters
    ----------
    gate
        Held while a request is read and answered.
    deadline_s
        Seconds until the first byte of the body, and again from there to the end of the answer.
    max_body_bytes
        Longer bodies, where the head announces them, are passed on without holding the gate.
    max_requests
        Most requests that hold the gate at once; the next one is refused with 429.
    usual
        Answers what it can without the route; None leaves all to that.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(
        self,
        gate: PriorityGate,
        *,
        deadline_s: float,
        max_body_bytes: int,
        max_requests: int,
        usual: UsualRequests | None = None,
    ) -> None:
        self._gate = gate
        self._deadline_s = deadline_s
        self._max_body_bytes = max_body_bytes
        self._max_requests = max_requests
        self._usual = usual
        self._requests = 0

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        """Stay one: Litestar copies a router and what hangs on it, and a copied gate guards nothing."""
        return self

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Wait for the body's first byte, hold the gate from there on, and answer."""
        if _announced_bytes(scope) > self._max_body_bytes:
            await next_app(scope, receive, send)  # refused there without reading
            return
        try:
            async with asyncio.timeout(self._deadline_s):
                first = await receive()
        except TimeoutError:
            await self._refuse(scope, send)
            return
        if first["type"] == "http.disconnect":
            await next_app(scope, receive, send)  # receives the same, and needs no gate
            return
        # Only now: clients that send a head and nothing more must not use up the places of the others.
        if self._requests >= self._max_requests:
            await send_problem(
                scope,
                send,
                "too-many-requests",
                f"Expected at most {self._max_requests} realtime requests at once, found one more.",
                remedy="Send it again a little later, or several vectors in one request.",
            )
            return
        self._requests += 1
        try:
            await self._prioritised(scope, first, receive, send, next_app)
        finally:
            self._requests -= 1

    async def _prioritised(
        self, scope: Scope, first: ReceiveMessage, receive: Receive, send: Send, next_app: ASGIApp
    ) -> None:
        replayed = False
        stages = scope["state"][STAGES_KEY] = RealtimeStages()

        async def replay() -> ReceiveMessage:
            nonlocal replayed
            if replayed:
                return await _awaited(receive, stages)
            replayed = True
            return first

        async def watched_send(message: Message) -> None:
            if not stages.sending:
                stages.sending = perf_counter()
            await send(message)
            stages.sent = perf_counter()

        async with self._gate.realtime():
            stages.held = perf_counter()
            try:
                async with asyncio.timeout(self._deadline_s):
                    answered = None if self._usual is None else self._usual.answer(scope, first, stages)
                    if answered is None:
                        await next_app(scope, replay, watched_send)
                    else:
                        for message in answered:
                            await watched_send(message)
            except TimeoutError:
                if stages.sending:  # the client does not read: only the connection can be ended
                    raise
                await self._refuse(scope, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        await send_problem(
            scope,
            send,
            "too-slow",
            f"The request was not read and answered within {self._deadline_s:g} s.",
            remedy="Send the body at once; split large requests.",
            headers={"Connection": "close"},  # the rest of the body must not be read as a request
        )


async def _awaited(receive: Receive, stages: RealtimeStages) -> ReceiveMessage:
    since = perf_counter()
    message = await receive()
    if not stages.parsed:  # else it only waits for the client to leave
        stages.body_wait_s += perf_counter() - since
    return message


def _announced_bytes(scope: Scope) -> int:
    found = dict(scope["headers"]).get(b"content-length", b"")
    return int(found) if found.isdigit() else 0
