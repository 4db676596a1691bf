"""The client to call."""

from __future__ import annotations

import time
from collections import deque
from contextlib import closing
from typing import TYPE_CHECKING, Self, TypeVar

import httpx

from embup_client import calls
from embup_client.address import common_headers, service_url, timeouts
from embup_client.debug import Debugger
from embup_client.errors import EmbupServiceError
from embup_client.following import PATIENCE_S, Following
from embup_client.refusals import telling_of
from embup_client.retries import attempts

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

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


class Client:
    """One pool of connections to one service; threads may share it.

    Calls that fail because the service is away, too busy or restarting are sent again, with growing waits or
    after the time that the service asks for: every GET, `upsample…` and `submit_batch`, whose second try is
    the same batch. Other calls only where the service has certainly done nothing.

    Parameters
    ----------
    url
        Where the service is; by default `EMBUP_SERVICE_URL`, else http://127.0.0.1:8000.
    api_key
        Sent as `Authorization: Bearer`; by default `EMBUP_API_KEY`, if set.
    timeout_s
        How long a try may be silent.
    retry_s
        How long after the first try of a call a further one may begin; 0 makes one try.
    proxy
        Address of an HTTP proxy. Variables such as `HTTP_PROXY` are not looked at.
    verify
        How a service's certificate is checked; False checks nothing.

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
        self._http = httpx.Client(
            base_url=self.url,
            headers=common_headers(api_key),
            timeout=timeouts(timeout_s),
            proxy=proxy,
            verify=verify,
            trust_env=False,
        )
        self.debug = Debugger(self._send)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def upsample(self, embedding: Vector, *, basis: Basis = "decoded") -> Upsampled:
        """Decode one projected embedding.

        Parameters
        ----------
        embedding
            As many numbers as the decoder in service takes: a sequence, or an array of shape (d,).
        basis
            Axes of the vectors: `decoded`, to be compared with other decoded ones, or `original`, to be
            compared with original embeddings as well, for which the decoder in service needs anchors.

        Raises
        ------
        BadRequestError
            It is not as long as the decoder in service takes, or a number is not finite.
        UnprocessableError
            It has only zeros, or the decoder in service has no anchors.
        EmbupServiceError
            The service cannot be reached, or refuses.
        """
        return self._send(calls.upsample(embedding, basis=basis))

    def upsample_many(self, embeddings: Vectors, *, basis: Basis = "decoded") -> UpsampledMany:
        """Decode several vectors, up to as many as the service takes (256), as lists.

        Parameters
        ----------
        embeddings
            Projected embeddings: sequences, or an array of shape (n, d).
        basis
            As for `upsample`.

        Raises
        ------
        EmbupServiceError
            As for `upsample`.
        """
        return self._send(calls.upsample_many(embeddings, basis=basis))

    def upsample_array(self, embeddings: Vectors, *, basis: Basis = "decoded") -> UpsampledArray:
        """Decode several vectors as NumPy arrays; they travel as raw float32, a third of the JSON.

        Parameters
        ----------
        embeddings
            Projected embeddings: sequences, or an array of shape (n, d).
        basis
            As for `upsample`.

        Returns
        -------
        UpsampledArray
            With embeddings: float32, shape (n, output dimensions).

        Raises
        ------
        ImportError
            NumPy is not installed.
        EmbupServiceError
            As for `upsample`.
        """
        return self._send(calls.upsample_array(embeddings, basis=basis))

    def submit_batch(
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
        """Submit a file; give its batch_request_id.

        Parameters
        ----------
        input_filepath, output_filepath
            On the service's machine; relative ones start at its first batch folder.
        on_bad_row
            Stop at a bad row, or write a row of nan for it and continue.
        overwrite
            Replace an output that exists.
        make_parents
            Whether to create the missing folders above `output_filepath`.
        max_bad_rows
            With `nan`: fail when more rows are bad. 1 and more is a count, less a share of rows.
        basis
            As for `upsample`.
        idempotency_key
            Text under which the same request is always the same batch, also for another client. By default
            each call has its own, so that trying it again never submits twice.

        Raises
        ------
        UnprocessableError
            The input or the output cannot be used.
        ConflictError
            Another batch writes to this output, or the key was used for another request.
        EmbupServiceError
            The service cannot be reached, or refuses.
        """
        return self._send(
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

    def batch(self, batch_request_id: str) -> BatchStatus:
        """Ask where one batch stands; raises `NotFoundError` for an id that is none."""
        return self._send(calls.batch(batch_request_id))

    def batches(
        self, *, limit: int = 50, status: str | None = None, phase: str | None = None
    ) -> list[BatchStatus]:
        """List the newest batches, newest first, of one status or phase only if that is asked for."""
        return self._send(calls.batches(limit=limit, status=status, phase=phase))

    def cancel(self, batch_request_id: str) -> BatchStatus:
        """Cancel one batch; raises `ConflictError` when it has ended already."""
        return self._send(calls.cancel(batch_request_id))

    def follow(self, batch_request_id: str, *, patience_s: float = PATIENCE_S) -> Iterator[BatchStatus]:
        """Give the status of a batch now, at each change, and a last time when it has ended.

        The service sends them; where something in between keeps them back they are asked for. A restart of
        the service is waited out.

        Parameters
        ----------
        batch_request_id
            Which batch.
        patience_s
            How long the service may be away.

        Raises
        ------
        EmbupServiceError
            The service was away for longer, or refuses.
        """
        following = Following(patience_s)
        poll, stream = calls.batch(batch_request_id), calls.batch_events(batch_request_id)
        while not following.ended:
            failed: EmbupServiceError | None = None
            try:
                for status in self._streamed(stream, following) if following.streaming else self._asked(poll):
                    if following.news(status):
                        yield status
            except EmbupServiceError as error:
                failed = error
            time.sleep(following.pause_s(failed))

    def wait(self, batch_request_id: str, *, patience_s: float = PATIENCE_S) -> BatchStatus:
        """Wait until a batch has ended, however it ends; give its last status. Raises as `follow` does."""
        return deque(self.follow(batch_request_id, patience_s=patience_s), maxlen=1).pop()

    def models(self) -> ModelList:
        """List published decoders, and which one answers."""
        return self._send(calls.models())

    def reload(self) -> Reloaded:
        """Put the latest published decoder into service.

        Raises
        ------
        UnavailableError
            It cannot be used; the one before stays in service.
        """
        return self._send(calls.reload())

    def promote(self, version: str) -> Reloaded:
        """Put one published version into service."""
        return self._send(calls.promote(version))

    def rollback(self) -> Reloaded:
        """Put the version that was in service before into service."""
        return self._send(calls.rollback())

    def live(self) -> Alive:
        """Ask whether the process answers; one try."""
        return self._send(calls.live())

    def ready(self) -> Ready:
        """Ask whether the service can do its work; one try.

        Raises
        ------
        UnavailableError
            It cannot; the error says why.
        """
        return self._send(calls.ready())

    def is_ready(self) -> bool:
        """Tell whether the service is there and can do its work; one try."""
        try:
            self.ready()
        except EmbupServiceError:
            return False
        return True

    def _send(self, call: Call[T]) -> T:
        for attempt in attempts(call, self._retry_s):
            with attempt:
                return self._try(call)
        raise AssertionError("the last attempt raises")

    def _try(self, call: Call[T]) -> T:
        with telling_of(self.url):
            response = self._http.send(call.request(self._http))
        return call.result(response)

    def _asked(self, call: Call[BatchStatus]) -> Iterator[BatchStatus]:
        yield self._try(call)

    def _streamed(self, call: Call[None], following: Following) -> Iterator[BatchStatus]:
        request = call.request(self._http)
        with telling_of(self.url), closing(self._http.send(request, stream=True)) as response:
            if not response.is_success:
                response.read()
                call.result(response)
            if not following.opened(response):
                return
            for line in response.iter_lines():
                status = following.line(line)
                if status is not None:
                    yield status
                    if status.is_final:
                        return
