"""The client to await: the methods of `Client`, which describes them in full, on asyncio's event loop."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from embup_client import calls
from embup_client.address import common_headers, service_url, timeouts
from embup_client.debug import AsyncDebugger
from embup_client.errors import EmbupServiceError
from embup_client.following import PATIENCE_S, Following
from embup_client.refusals import telling_of
from embup_client.retries import attempts

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator

    from embup_client.answers import (
        Alive,
        BatchStatus,
        ModelList,
        Ready,
        Reloaded,
        Upsampled,
        UpsampledArray,
        UpsampledMany,
    )
    from embup_client.calls import Basis, Call, FilePath, OnBadRow, Vector, Vectors

T = TypeVar("T")


class AsyncClient:
    """One pool of connections to one service; tasks of one event loop may share it.

    Calls are tried again as those of `Client` are.

    Parameters
    ----------
    url, api_key, timeout_s, retry_s, proxy, verify
        As for `Client`.

    Raises
    ------
    InvalidArgumentError
        The address is none, or the key cannot be sent.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry_s: float = 30.0,
        proxy: str | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self.url = service_url(url)
        self._retry_s = retry_s
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers=common_headers(api_key),
            timeout=timeouts(timeout_s),
            proxy=proxy,
            verify=verify,
            trust_env=False,
        )
        self.debug = AsyncDebugger(self._send)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def upsample(self, embedding: Vector, *, basis: Basis = "decoded") -> Upsampled:
        """Decode one projected embedding."""
        return await self._send(calls.upsample(embedding, basis=basis))

    async def upsample_many(self, embeddings: Vectors, *, basis: Basis = "decoded") -> UpsampledMany:
        """Decode several vectors, up to as many as the service takes (256), as lists."""
        return await self._send(calls.upsample_many(embeddings, basis=basis))

    async def upsample_array(self, embeddings: Vectors, *, basis: Basis = "decoded") -> UpsampledArray:
        """Decode several vectors as NumPy arrays; embeddings: float32, shape (n, output dimensions)."""
        return await self._send(calls.upsample_array(embeddings, basis=basis))

    async def submit_batch(
        self,
        input_filepath: FilePath,
        output_filepath: FilePath,
        *,
        on_bad_row: OnBadRow = "fail",
        overwrite: bool = False,
        make_parents: bool = False,
        max_bad_rows: float | None = None,
        basis: Basis = "decoded",
        idempotency_key: str | None = None,
    ) -> str:
        """Submit a file; give its batch_request_id."""
        return await self._send(
            calls.submit_batch(
                input_filepath,
                output_filepath,
                on_bad_row=on_bad_row,
                overwrite=overwrite,
                make_parents=make_parents,
                max_bad_rows=max_bad_rows,
                basis=basis,
                idempotency_key=idempotency_key,
            )
        )

    async def batch(self, batch_request_id: str) -> BatchStatus:
        """Ask where one batch stands; raises `NotFoundError` for an id that is none."""
        return await self._send(calls.batch(batch_request_id))

    async def batches(
        self, *, limit: int = 50, status: str | None = None, phase: str | None = None
    ) -> list[BatchStatus]:
        """List the newest batches, newest first, of one status or phase only if that is asked for."""
        return await self._send(calls.batches(limit=limit, status=status, phase=phase))

    async def cancel(self, batch_request_id: str) -> BatchStatus:
        """Cancel one batch; raises `ConflictError` when it has ended already."""
        return await self._send(calls.cancel(batch_request_id))

    async def follow(
        self, batch_request_id: str, *, patience_s: float = PATIENCE_S
    ) -> AsyncGenerator[BatchStatus]:
        """Give the status of a batch now, at each change, and a last time when it has ended.

        To leave the loop early, end the stream with `contextlib.aclosing`.
        """
        following = Following(patience_s)
        poll, stream = calls.batch(batch_request_id), calls.batch_events(batch_request_id)
        while not following.ended:
            failed: EmbupServiceError | None = None
            found = self._streamed(stream, following) if following.streaming else self._asked(poll)
            try:
                async with aclosing(found):
                    async for status in found:
                        if following.news(status):
                            yield status
            except EmbupServiceError as error:
                failed = error
            await asyncio.sleep(following.pause_s(failed))

    async def wait(self, batch_request_id: str, *, patience_s: float = PATIENCE_S) -> BatchStatus:
        """Wait until a batch has ended, however it ends; give its last status. Raises as `follow` does."""
        last: BatchStatus | None = None
        async with aclosing(self.follow(batch_request_id, patience_s=patience_s)) as statuses:
            async for status in statuses:
                last = status
        if last is None:
            raise AssertionError("following a batch ends with its last status")
        return last

    async def models(self) -> ModelList:
        """List published decoders, and which one answers."""
        return await self._send(calls.models())

    async def reload(self) -> Reloaded:
        """Put the latest published decoder into service."""
        return await self._send(calls.reload())

    async def promote(self, version: str) -> Reloaded:
        """Put one published version into service."""
        return await self._send(calls.promote(version))

    async def rollback(self) -> Reloaded:
        """Put the version that was in service before into service."""
        return await self._send(calls.rollback())

    async def live(self) -> Alive:
        """Ask whether the process answers; one try."""
        return await self._send(calls.live())

    async def ready(self) -> Ready:
        """Ask whether the service can do its work; one try."""
        return await self._send(calls.ready())

    async def is_ready(self) -> bool:
        """Tell whether the service is there and can do its work; one try."""
        try:
            await self.ready()
        except EmbupServiceError:
            return False
        return True

    async def _send(self, call: Call[T]) -> T:
        async for attempt in attempts(call, self._retry_s):
            with attempt:
                return await self._try(call)
        raise AssertionError("the last attempt raises")

    async def _try(self, call: Call[T]) -> T:
        with telling_of(self.url):
            response = await self._http.send(call.request(self._http))
        return call.result(response)

    async def _asked(self, call: Call[BatchStatus]) -> AsyncGenerator[BatchStatus]:
        yield await self._try(call)

    async def _streamed(self, call: Call[None], following: Following) -> AsyncGenerator[BatchStatus]:
        request = call.request(self._http)
        with telling_of(self.url):
            async with aclosing(await self._http.send(request, stream=True)) as response:
                if not response.is_success:
                    await response.aread()
                    call.result(response)
                if not following.opened(response):
                    return
                async for line in response.aiter_lines():
                    status = following.line(line)
                    if status is not None:
                        yield status
                        if status.is_final:
                            return
