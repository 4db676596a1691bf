"""The requests, each made in one place: what is sent, how the answer is read, whether it may be sent twice.

Nothing is sent here. Both clients have no other way to make or to read anything.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import quote

import msgspec

from embup_client.answers import (
    Alive,
    BatchAccepted,
    BatchList,
    BatchStatus,
    ModelList,
    Ready,
    Reloaded,
    Upsampled,
    UpsampledArray,
    UpsampledMany,
)
from embup_client.errors import InvalidArgumentError, UnexpectedAnswerError
from embup_client.refusals import refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    import httpx
    from numpy.typing import NDArray

    # One row, or rows; whatever has `tolist` is sent as what that gives.
    Vector: TypeAlias = Sequence[float] | NDArray[Any]
    Vectors: TypeAlias = Sequence[Vector] | NDArray[Any]
    FilePath: TypeAlias = str | PathLike[str]

T = TypeVar("T")
OnBadRow = Literal["fail", "nan"]
Basis = Literal["decoded", "original"]
OCTET_STREAM = "application/octet-stream"
EVENT_STREAM = "text/event-stream"
SILENCE_S = 25.0  # of a stream; the service says every 10 s that it is still there


class Repeat(Enum):
    """When a call may be sent again."""

    ALWAYS = "answered twice, it does no more than answered once"
    UNSENT = "only when the service has done nothing of it"
    NEVER = "it asks how things are now"


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and how its answer is read.

    Attributes
    ----------
    method, path, params, headers, content
        What is sent.
    read
        Makes the result of a successful answer; may raise `UnexpectedAnswerError`.
    repeat
        When it may be sent again.
    silence_s
        How long the answer may be silent, where it is another time than the client's.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    repeat: Repeat
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    silence_s: float | None = None

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Make the request as httpx sends it."""
        request = http.build_request(
            self.method,
            self.path,
            params=dict(self.params) or None,
            headers=dict(self.headers),
            content=self.content,
        )
        if self.silence_s is not None:
            request.extensions["timeout"] |= {"read": self.silence_s}
        return request

    def result(self, response: httpx.Response) -> T:
        """Read the answer.

        Raises
        ------
        EmbupServiceError
            It is a refusal, or no answer of this service.
        """
        if not response.is_success:
            raise refusal(response)
        return self.read(response)


def upsample(embedding: Vector, *, basis: Basis) -> Call[Upsampled]:
    """Decode one vector."""
    return posted("/v1/upsample", {"embedding": embedding} | _other(basis), json_reader(Upsampled))


def upsample_many(embeddings: Vectors, *, basis: Basis) -> Call[UpsampledMany]:
    """Decode several, answered as JSON."""
    return posted("/v1/upsample", {"embeddings": embeddings} | _other(basis), json_reader(UpsampledMany))


def upsample_array(embeddings: Vectors, *, basis: Basis) -> Call[UpsampledArray]:
    """Decode several, answered as raw float32."""
    import numpy as np  # an ImportError now and not after the answer

    def read(response: httpx.Response) -> UpsampledArray:
        headers = response.headers
        try:
            shape = int(headers["Embup-Rows"]), int(headers["Embup-Dims"])
            values = np.frombuffer(response.content, "<f4").reshape(shape).astype(np.float32)
            confidence = np.array(headers["Embup-Confidence"].split(","), np.float64).reshape(shape[0])
            return UpsampledArray(values, headers["Embup-Model-Version"], confidence)
        except (KeyError, ValueError) as error:
            raise unexpected(response, f"no rows of float32: {error}") from error

    body = {"embeddings": embeddings} | _other(basis)
    return posted("/v1/upsample", body, read, headers={"Accept": OCTET_STREAM})


def submit_batch(
    input_filepath: FilePath,
    output_filepath: FilePath,
    *,
    on_bad_row: OnBadRow,
    overwrite: bool,
    make_parents: bool,
    max_bad_rows: float | None,
    basis: Basis,
    idempotency_key: str | None,
) -> Call[str]:
    """Submit a file; its key makes a second try of it the same batch."""
    body: dict[str, Any] = {
        "input_filepath": str(input_filepath),
        "output_filepath": str(output_filepath),
        "on_bad_row": on_bad_row,
        "overwrite": overwrite,
        "max_bad_rows": max_bad_rows,
        **_other(basis),
    }
    if make_parents:  # else a service of before this field would refuse it
        body["make_parents"] = True
    accepted = json_reader(BatchAccepted)
    return posted(
        "/v1/batches",
        body,
        lambda response: accepted(response).batch_request_id,
        headers={"Idempotency-Key": idempotency_key or str(uuid.uuid4())},
    )


def batch(batch_request_id: str) -> Call[BatchStatus]:
    """Look where one batch stands."""
    return Call("GET", _batch_path(batch_request_id), json_reader(BatchStatus), Repeat.ALWAYS)


def batch_events(batch_request_id: str) -> Call[None]:
    """Open the stream of one batch's statuses; `following` reads it."""
    path, accept = f"{_batch_path(batch_request_id)}/events", {"Accept": EVENT_STREAM}
    return Call("GET", path, lambda _: None, Repeat.NEVER, headers=accept, silence_s=SILENCE_S)


def batches(*, limit: int, status: str | None, phase: str | None) -> Call[list[BatchStatus]]:
    """List the newest batches."""
    listed = json_reader(BatchList)
    wanted = {"limit": str(limit), "status": status, "phase": phase}
    params = {name: value for name, value in wanted.items() if value is not None}
    return Call("GET", "/v1/batches", lambda found: listed(found).batches, Repeat.ALWAYS, params=params)


def cancel(batch_request_id: str) -> Call[BatchStatus]:
    """Cancel one batch; a second try would be told that it is cancelled already."""
    return Call("POST", f"{_batch_path(batch_request_id)}/cancel", json_reader(BatchStatus), Repeat.UNSENT)


def models() -> Call[ModelList]:
    """List published decoders."""
    return Call("GET", "/v1/models", json_reader(ModelList), Repeat.ALWAYS)


def reload() -> Call[Reloaded]:
    """Put the latest decoder into service; a second try would be told that nothing changed."""
    return Call("POST", "/v1/models/reload", json_reader(Reloaded), Repeat.UNSENT)


def promote(version: str) -> Call[Reloaded]:
    """Put one version into service."""
    name = in_path(version, "version", "`embup models` shows all of them.")
    return Call("POST", f"/v1/models/{name}/promote", json_reader(Reloaded), Repeat.UNSENT)


def rollback() -> Call[Reloaded]:
    """Put the version from before into service; a second try would go back one more."""
    return Call("POST", "/v1/models/rollback", json_reader(Reloaded), Repeat.UNSENT)


def live() -> Call[Alive]:
    """Ask whether the process answers."""
    return Call("GET", "/health/live", json_reader(Alive), Repeat.NEVER)


def ready() -> Call[Ready]:
    """Ask whether the service can do its work."""
    return Call("GET", "/health/ready", json_reader(Ready), Repeat.NEVER)


def _other(basis: Basis) -> dict[str, Any]:
    """The field of a basis; the usual one is not sent: a service of before this field would refuse it."""
    return {} if basis == "decoded" else {"basis": basis}


def posted(
    path: str,
    body: Mapping[str, Any],
    read: Callable[[httpx.Response], T],
    *,
    headers: Mapping[str, str] | None = None,
    repeat: Repeat = Repeat.ALWAYS,
) -> Call[T]:
    """Send a body as JSON.

    Raises
    ------
    InvalidArgumentError
        It is none.
    """
    try:
        content = msgspec.json.encode(body, enc_hook=_as_list)
    except (TypeError, ValueError) as error:
        raise InvalidArgumentError(f"{path}: expected numbers, found something else: {error}.") from error
    typed = {"Content-Type": "application/json"} | dict(headers or {})
    return Call("POST", path, read, repeat, headers=typed, content=content)


def _as_list(value: Any) -> Any:
    """Take arrays and their scalars without knowing NumPy."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__}")


@cache
def json_reader(kind: type[T]) -> Callable[[httpx.Response], T]:
    """Give what reads an answer of a kind from JSON."""
    decoder = msgspec.json.Decoder(kind)

    def read(response: httpx.Response) -> T:
        try:
            return decoder.decode(response.content)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise unexpected(response, str(error)) from error

    return read


def unexpected(response: httpx.Response, why: str) -> UnexpectedAnswerError:
    """The error of an answer that is none of this service."""
    asked = response.request
    address = f"{asked.url.scheme}://{asked.url.netloc.decode()}"
    return UnexpectedAnswerError(
        f"what answers at {address} is not an embup service that this client knows: "
        f"{asked.method} {asked.url.path} gave {why}.",
        status=response.status_code,
    )


def _batch_path(batch_request_id: str) -> str:
    """Name one batch; an empty id, such as an unset variable of a script, would name the list of all."""
    found = in_path(batch_request_id, "batch_request_id", "`embup list` shows the ids of all batches.")
    return f"/v1/batches/{found}"


def in_path(name: str, what: str, remedy: str) -> str:
    """Quote a name as one part of a path.

    Raises
    ------
    InvalidArgumentError
        It is empty, or would lead elsewhere.
    """
    # "." and "..", quoted or not, are taken out of a path on its way.
    if not name.strip() or name in {".", ".."}:
        raise InvalidArgumentError(f"expected a {what}, found {name.strip() or 'nothing'}.", remedy=remedy)
    return quote(name, safe="")
