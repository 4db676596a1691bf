"""What answers become: structs that are those of openapi.json, errors that keep all the service said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import embup_client
from embup_client import (
    BadRequestError,
    Client,
    ConflictError,
    EmbupServiceError,
    ForbiddenError,
    InvalidArgumentError,
    NotFoundError,
    ServiceFailedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnprocessableError,
    answers,
)
from embup_client.debug import answers as debug_answers
from embup_client.refusals import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

DESCRIBED: dict[str, Any] = json.loads((Path(__file__).parents[2] / "openapi.json").read_text())
STRUCTS: dict[str, type[msgspec.Struct]] = {
    "UpsampleAnswer": answers.Upsampled,
    "UpsampleManyAnswer": answers.UpsampledMany,
    "BatchAccepted": answers.BatchAccepted,
    "BatchStatus": answers.BatchStatus,
    "BatchError": answers.BatchError,
    "BatchList": answers.BatchList,
    "ModelEntry": answers.ModelEntry,
    "ModelList": answers.ModelList,
    "ReloadFailure": answers.ReloadFailure,
    "ReloadAnswer": answers.Reloaded,
    "Alive": answers.Alive,
    "Ready": answers.Ready,
    **{name: kind for name, kind in vars(debug_answers).items() if name.startswith("Debug")},
}
NOT_FOR_THE_CLIENT = {"instance", "status"}  # the path, and the HTTP status once more


@pytest.mark.parametrize("name", STRUCTS)
def test_a_struct_has_every_field_that_is_described(name: str) -> None:
    described = set(DESCRIBED["components"]["schemas"][name]["properties"])
    assert set(STRUCTS[name].__struct_encode_fields__) == described


def test_an_error_has_every_member_that_is_described() -> None:
    described = set(DESCRIBED["components"]["schemas"]["Problem"]["properties"])
    assert set(Problem.__struct_encode_fields__) >= described - NOT_FOR_THE_CLIENT


def successes() -> dict[str, dict[str, Any]]:
    """The described answers of JSON, by operation."""
    return {
        operation["operationId"]: content
        for path in DESCRIBED["paths"].values()
        for operation in path.values()
        for status, described in operation["responses"].items()
        for media_type, content in described.get("content", {}).items()
        if status.startswith("2") and media_type == "application/json"
    }


@pytest.mark.parametrize("operation", successes())
def test_every_described_answer_is_one_the_client_reads(operation: str) -> None:
    described = successes()[operation]
    kinds = described["schema"].get("oneOf", [described["schema"]])
    names = {kind["$ref"].rpartition("/")[2] for kind in kinds}
    assert names <= set(STRUCTS), "an answer without a struct in embup_client/answers.py"
    for example in (example["value"] for example in described["examples"].values()):
        (name,) = [name for name in names if set(STRUCTS[name].__struct_encode_fields__) >= set(example)]
        read = msgspec.to_builtins(msgspec.convert(example, STRUCTS[name]))
        assert _told(read) == example


def _told(value: Any) -> Any:
    """Leave out what is null, as the description does in its examples."""
    if isinstance(value, dict):
        return {name: _told(one) for name, one in value.items() if one is not None}
    return [_told(one) for one in value if one is not None] if isinstance(value, list) else value


def test_an_answer_of_a_newer_service_is_read(scripted: Any, answer: Any) -> None:
    newer = {"model_version": "2", "previous_version": "1", "changed": True, "warmed_up": [1, 2]}
    with Client(scripted(answer.of(newer)).url) as client:
        assert client.reload() == answers.Reloaded("2", "1", changed=True)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b"\xff", b""])
def test_what_is_no_answer_of_a_service_is_said(
    connect: type[Client], scripted: Any, answer: Any, body: bytes
) -> None:
    server = scripted(answer(200, body))
    with connect(server.url) as client:
        with pytest.raises(UnexpectedAnswerError, match="is not an embup service") as raised:
            client.models()
        with pytest.raises(UnexpectedAnswerError):
            client.upsample_array([[0.5] * 32])
    assert server.url in str(raised.value)


def test_another_place_is_not_gone_to(scripted: Any, answer: Any) -> None:
    """The key would go with the request."""
    elsewhere = scripted(answer.of({"status": "alive"}))
    server = scripted(answer(307, b"", {"Location": f"{elsewhere.url}/health/live"}))
    with Client(server.url, api_key="key") as client, pytest.raises(UnexpectedAnswerError):
        client.live()
    assert elsewhere.seen == []


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (405, BadRequestError),
        (409, ConflictError),
        (413, BadRequestError),
        (415, BadRequestError),
        (422, UnprocessableError),
        (429, TooManyRequestsError),
        (500, ServiceFailedError),
        (502, UnavailableError),
        (503, UnavailableError),
        (504, UnavailableError),
    ],
)
def test_a_refusal_is_an_error_of_its_kind_with_all_that_was_said(
    scripted: Any, answer: Any, status: int, kind: type[EmbupServiceError]
) -> None:
    problem = {
        "type": "/problems/some-kind",
        "title": "A title",
        "status": status,
        "detail": "in.txt, line 4: expected 32 numbers, found 3.",
        "remedy": "Correct the row.",
        "request_id": "abc-1",
        "line": 4,
        "errors": [{"where": "body", "message": "no"}],
        "newer": 1,
    }
    server = scripted(answer.of(problem, status, Content_Type="application/problem+json"))
    with Client(server.url, retry_s=0) as client, pytest.raises(EmbupServiceError) as raised:
        client.batch("one")
    error = raised.value
    assert type(error) is kind
    said = {name: getattr(error, name) for name in problem if name not in {"errors", "newer"}}
    assert said == {name: problem[name] for name in said}
    assert error.errors == ({"where": "body", "message": "no"},)
    assert str(error) == "in.txt, line 4: expected 32 numbers, found 3. Correct the row."


def test_a_refusal_of_something_in_between_is_shown_as_it_is(scripted: Any, answer: Any) -> None:
    server = scripted(answer(403, b"<h1>Blocked</h1>", {"X-Request-Id": "proxy-7"}))
    with Client(server.url) as client, pytest.raises(ForbiddenError) as raised:
        client.models()
    assert raised.value.detail == "<h1>Blocked</h1>"
    assert raised.value.type == "about:blank"
    assert raised.value.request_id == "proxy-7"


def test_what_is_exported_is_what_is_meant_to_be() -> None:
    """And the tree in the docstring is the tree of the classes."""
    exported = {name: getattr(embup_client, name) for name in embup_client.__all__}
    assert list(exported) == sorted(exported)
    errors = {name for name, kind in exported.items() if issubclass(kind, Exception)}
    assert set(exported) - errors == {
        "Alive", "AsyncClient", "BatchError", "BatchStatus", "Client", "ModelEntry", "ModelList", "Ready",
        "ReloadFailure", "Reloaded", "Upsampled", "UpsampledArray", "UpsampledMany",
    }  # fmt: skip
    drawn: dict[int, str] = {}
    for line in (embup_client.__doc__ or "").partition("one tree:")[2].splitlines():
        name = line.strip(" │├└─").partition(" ")[0]
        if name:
            depth = line.index(name)
            parents = [at for at in drawn if at < depth]
            base = drawn[max(parents)] if parents else "Exception"
            assert exported[name].__bases__[0].__name__ == base
            drawn = {at: found for at, found in drawn.items() if at < depth} | {depth: name}
            errors.remove(name)
    assert errors == set(), "not drawn"


CANNOT_BE_SENT: dict[str, Callable[[], object]] = {
    "no address": lambda: Client("nonsense"),
    "no host": lambda: Client("http://"),
    "another scheme": lambda: Client("ftp://example.org"),
    "a password in the address": lambda: Client("http://user:word@example.org"),
    "a password in what is no address": lambda: Client("http://user:word@example.org:port"),
    "a key of two lines": lambda: Client("http://example.org", api_key="a\nb"),
    "no id": lambda: Client().batch(""),
    "a blank id": lambda: Client().cancel(" "),
    "the folder above": lambda: Client().promote(".."),
    "no numbers": lambda: Client().upsample([object()]),  # type: ignore[list-item]
}


@pytest.mark.parametrize("call", CANNOT_BE_SENT.values(), ids=CANNOT_BE_SENT)
def test_what_cannot_be_sent_is_not(call: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgumentError, match=r"\S") as said:
        call()
    assert "word" not in str(said.value).replace("password", "")
