"""The service over HTTP, plain dicts in and out, refusals as errors of the one tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

import httpx

from embup_core.errors import EmbupError, InputError, JobConflictError, JobError, UnknownJobError

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMEOUT_S = 30.0


class ServiceClient:
    """One connection pool to one service.

    Parameters
    ----------
    url
        Where the service is, e.g. `http://127.0.0.1:8000`.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise InputError(
                f"{url!r} is not the address of a service.",
                remedy="Give one such as http://127.0.0.1:8000 with --url.",
            )
        self._http = httpx.Client(base_url=parsed, timeout=TIMEOUT_S, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._http.close()

    def upsample(self, embedding: Sequence[float]) -> dict[str, Any]:
        """Decode one vector of 32 numbers: `embedding`, `model_version`, `confidence`."""
        return self._call("POST", "/v1/upsample", json={"embedding": list(embedding)})

    def submit(self, request: dict[str, Any]) -> str:
        """Submit a batch; returns its `batch_request_id`."""
        return str(self._call("POST", "/v1/batches", json=request)["batch_request_id"])

    def status(self, batch_request_id: str) -> dict[str, Any]:
        """Ask how far one batch is."""
        return self._call("GET", _batch_path(batch_request_id))

    def cancel(self, batch_request_id: str) -> dict[str, Any]:
        """Cancel one batch."""
        return self._call("POST", f"{_batch_path(batch_request_id)}/cancel")

    def batches(self) -> dict[str, Any]:
        """List the batches the service knows, as it answers them."""
        return self._call("GET", "/v1/batches")

    def is_ready(self) -> bool:
        """Tell whether the service is there and has a decoder to serve."""
        try:
            return self._http.get("/health/ready").is_success
        except httpx.TransportError:
            return False

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise JobError(
                f"no service answers at {self.url} ({str(error) or type(error).__name__}).",
                remedy="Start one with `embup serve`, or give its address with --url.",
            ) from error
        if response.is_error:
            raise _refusal(response)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise JobError(
                f"what answers at {self.url} is not an embup service: {method} {path} gave no JSON object."
            )
        return answer


def _batch_path(batch_request_id: str) -> str:
    """Name one batch; an empty id, such as an unset variable of a script, would name the list of all."""
    if not batch_request_id.strip():
        raise InputError(
            "expected a batch_request_id, found nothing.", remedy="`embup list` shows the ids of all batches."
        )
    return f"/v1/batches/{quote(batch_request_id, safe='')}"


def _refusal(response: httpx.Response) -> EmbupError:
    """Turn a problem+json answer (RFC 9457) into an error with its detail and remedy."""
    try:
        problem = response.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict):
        problem = {}
    message = str(
        problem.get("detail") or problem.get("title") or f"the service answered {response.status_code}."
    )
    remedy = str(problem.get("remedy") or "")
    if response.status_code == httpx.codes.NOT_FOUND:
        return UnknownJobError(message, remedy=remedy)
    if response.status_code == httpx.codes.CONFLICT:
        return JobConflictError(message, remedy=remedy)
    return (InputError if response.is_client_error else JobError)(message, remedy=remedy)
