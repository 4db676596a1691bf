"""Operations as controllers declare them: examples, further media types, the problems they may answer."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from litestar.openapi import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)

from serving.description import examples
from serving.problems.problem import PROBLEM_JSON, Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

# What any request may be answered with: broken or slow HTTP, a foreign page, another host's name, a fault
# of ours.
_ALWAYS = (400, 403, 408, 414, 421, 431, 500, 503)


def problems(*statuses: int, keyed: bool = True) -> dict[int, ResponseSpec]:
    """Describe the errors an operation may answer with, besides those that any may.

    Parameters
    ----------
    statuses
        Its own.
    keyed
        Whether it asks for an API key.
    """
    return {
        status: ResponseSpec(
            Problem,
            description=HTTPStatus(status).phrase,
            media_type=PROBLEM_JSON,
            generate_examples=False,
        )
        for status in sorted({*_ALWAYS, *statuses, *((401,) if keyed else ())})
    }


@dataclass
class DescribedOperation(Operation):
    """Adds the examples, by operation id, where the page offers them to be tried and read."""

    def __post_init__(self) -> None:
        """Complete the description of the request and of the answer."""
        operation_id = self.operation_id or ""
        if isinstance(self.request_body, RequestBody) and operation_id in examples.REQUESTS:
            _exemplify(self.request_body.content["application/json"], examples.REQUESTS[operation_id])
        if operation_id in examples.ANSWERS:
            _exemplify(self.answer("application/json"), examples.ANSWERS[operation_id])
        for status, answer in (self.responses or {}).items():
            if int(status) in examples.PROBLEMS and isinstance(answer, OpenAPIResponse) and answer.content:
                _exemplify(answer.content[PROBLEM_JSON], examples.PROBLEMS[int(status)])

    def answer(self, media_type: str) -> OpenAPIMediaType:
        """Give the description of the successful answer's body."""
        content = self.success.content
        if content is None:
            raise TypeError(f"{self.operation_id} has no answer")
        return content[media_type]

    @property
    def success(self) -> OpenAPIResponse:
        """The description of the successful answer."""
        found = next(answer for status, answer in (self.responses or {}).items() if status.startswith("2"))
        if not isinstance(found, OpenAPIResponse):
            raise TypeError(f"{self.operation_id} refers to its answer")
        return found


@dataclass
class FollowOperation(DescribedOperation):
    """Says what one event of the stream is."""

    def __post_init__(self) -> None:
        """Complete the description of the answer."""
        super().__post_init__()
        self.answer("text/event-stream").schema = Schema(
            type=OpenAPIType.OBJECT,
            required=["event", "data"],
            properties={
                "event": Schema(const="status"),
                "data": Schema(
                    type=OpenAPIType.STRING,
                    content_media_type="application/json",
                    content_schema=Reference(ref="#/components/schemas/BatchStatus"),
                ),
            },
        )


@dataclass
class UpsampleOperation(DescribedOperation):
    """Adds the second media type of the answer."""

    raw_headers: ClassVar[dict[str, str]] = {
        "Embup-Model-Version": "Version of the decoder that answered; on raw answers.",
        "Embup-Rows": "Rows in the body; on raw answers.",
        "Embup-Dims": "Numbers in a row; on raw answers.",
        "Embup-Confidence": "The rows' confidences, separated by commas; on raw answers.",
    }

    def __post_init__(self) -> None:
        """Complete the description of the answer."""
        super().__post_init__()
        success = self.success
        success.content = (success.content or {}) | {
            "application/octet-stream": OpenAPIMediaType(
                schema=Schema(
                    type=OpenAPIType.STRING,
                    content_media_type="application/octet-stream",
                    description="Rows of little-endian float32, one after the other.",
                )
            )
        }
        success.headers = {
            name: OpenAPIHeader(description=text, schema=Schema(type=OpenAPIType.STRING))
            for name, text in self.raw_headers.items()
        }
        success.headers["Embup-Normalised"] = OpenAPIHeader(
            description="How many of the rows had another length than 1 (by more than 0.001); absent when "
            "none had. Only a row's direction counts: it is made unit before it is decoded.",
            schema=Schema(type=OpenAPIType.INTEGER, minimum=1),
        )


def _exemplify(described: OpenAPIMediaType, found: Mapping[str, Any]) -> None:
    described.examples = {name: Example(summary=name, value=value) for name, value in found.items()}
