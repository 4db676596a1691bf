"""What the service and its batch worker say to each other: JSON, one message a line, over a socket pair.

The service sends one command and waits for its answer; while the worker works, it may send `Halt` and
`Kept`. The worker answers each other command once, `Work` with any number of `Synced` before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from embup_core import errors
from embup_core.batch import BatchStatistics, Checkpoint
from serving.jobs.confinement import Buckets, Root
from serving.jobs.model import JobRequest

if TYPE_CHECKING:
    from collections.abc import Mapping


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Start or resume a batch. Answered by `Opened`.

    Attributes
    ----------
    batch_request_id
        For log lines.
    registry, model_version
        Which decoder; kept for the next batch.
    request, checkpoint
        What to do, and where to resume.
    roots, reserved, buckets
        Beneath which folders and prefixes its files lie, as in `Confinement`. The worker inherits the roots'
        descriptors.
    chunk_rows, helpers, patience_s, replace_parts
        As in `BatchRun`.
    low_confidence
        As in `BatchRun`; None for the decoder's own.
    """

    batch_request_id: str
    registry: str
    model_version: str
    request: JobRequest
    checkpoint: Checkpoint | None
    roots: list[Root]
    reserved: list[str]
    buckets: Buckets
    chunk_rows: int
    helpers: int
    patience_s: float
    low_confidence: float | None
    replace_parts: bool


class Work(msgspec.Struct, frozen=True, tag="work"):
    """Answer rows until none is left, or until `Halt`. Answered by `Worked`."""

    checkpoint_interval_s: float


class Halt(msgspec.Struct, frozen=True, tag="halt"):
    """Stop working at the next block's edge; without meaning for a worker that does not work.

    Attributes
    ----------
    sync
        Whether what was written is to be made durable first.
    """

    sync: bool


class Kept(msgspec.Struct, frozen=True, tag="kept"):
    """A checkpoint is in the database: see `BatchRun.kept`. Not answered."""

    uploaded_parts: int


class Publish(msgspec.Struct, frozen=True, tag="publish"):
    """Put the output in place. Answered by `Done`."""


class Close(msgspec.Struct, frozen=True, tag="close"):
    """Close the files; the part files stay. Answered by `Done`."""


class Abandon(msgspec.Struct, frozen=True, tag="abandon"):
    """Close and remove the part files. Answered by `Done`."""


Command = Open | Work | Halt | Kept | Publish | Close | Abandon


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The batch is open."""

    rows: int
    bytes_total: int


class Synced(msgspec.Struct, frozen=True, tag="synced"):
    """A checkpoint is durable in the files.

    Attributes
    ----------
    checkpoint
        It.
    statistics
        What was done since the last message that had one.
    """

    checkpoint: Checkpoint
    statistics: BatchStatistics


class Worked(msgspec.Struct, frozen=True, tag="worked"):
    """The work has come to a stop.

    Attributes
    ----------
    more
        Whether rows are left.
    checkpoint
        What is durable now; None where `Halt` asked for none.
    statistics
        As in `Synced`.
    """

    more: bool
    checkpoint: Checkpoint | None
    statistics: BatchStatistics


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The command was carried out."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The command could not be carried out: an error as plain values.

    Attributes
    ----------
    kind
        Name of the class in `embup_core.errors`, or of any other error.
    message, remedy, code
        As in `EmbupError`; the code is empty for other errors.
    line
        Of a `BadRowError`.
    """

    kind: str
    message: str
    remedy: str
    code: str
    line: int | None

    @classmethod
    def of(cls, error: Exception) -> Failed:
        """Put an error into words."""
        if not isinstance(error, errors.EmbupError):
            return cls(type(error).__name__, str(error), "", "", None)
        line = error.line if isinstance(error, errors.BadRowError) else None
        return cls(type(error).__name__, error.message, error.remedy, error.code, line)

    def error(self) -> Exception:
        """Make the error again; one that is none of ours becomes an `UnexpectedError`."""
        known: Mapping[str, Any] = vars(errors)
        found = known.get(self.kind)
        if not self.code or not isinstance(found, type) or not issubclass(found, errors.EmbupError):
            return UnexpectedError(self.kind, self.message)
        if issubclass(found, errors.BadRowError):
            error: errors.EmbupError = found(self.line or 0, "", remedy=self.remedy, code=self.code)
            error.message = self.message
            return error
        return found(self.message, remedy=self.remedy, code=self.code)


Reply = Opened | Synced | Worked | Done | Failed


class UnexpectedError(Exception):
    """An unexpected error in the worker; its own text is in the service's log.

    Parameters
    ----------
    kind
        Name of its class.
    message
        Its text.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


_ENCODER = msgspec.json.Encoder()
_COMMANDS = msgspec.json.Decoder(Command)
_REPLIES = msgspec.json.Decoder(Reply)


def encode(message: Command | Reply) -> bytes:
    """Return a message as one line."""
    return _ENCODER.encode(message) + b"\n"


def decode_command(line: bytes) -> Command:
    """Read a command."""
    command: Command = _COMMANDS.decode(line)
    return command


def decode_reply(line: bytes) -> Reply:
    """Read an answer."""
    reply: Reply = _REPLIES.decode(line)
    return reply
