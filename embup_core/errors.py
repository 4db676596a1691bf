"""Every error embup raises on purpose, and nothing else.

    EmbupError
    ├─ SourceError                training data
    │   ├─ SourceUnavailableError   cannot be had: missing, refused, too large, wrong hash
    │   ├─ InvalidDataError         had, but not what it should be: shape, NaN, not unit, not symmetric
    │   └─ BasisLostError           without the landmark rows of the basis that is to be kept
    ├─ TrainingError              a fit cannot go on, or its result must not be published
    ├─ ArtifactError              published decoders
    │   ├─ InvalidArtifactError     damaged, foreign or not reproducing its golden answers
    │   ├─ NoArtifactError          nothing is published yet
    │   ├─ PromotionConflictError   another version was put into service meanwhile
    │   └─ RegistryUnavailableError the object store of a registry fails, for now
    ├─ InputError                 what a caller handed in
    │   ├─ InvalidArgumentError     an argument of the Python API; also a ValueError
    │   │   └─ NotFittedError         a decoder used before fit; also an AttributeError
    │   ├─ NoAnchorsError           the originals' basis of a decoder without anchors, or with too few
    │   ├─ NoProjectionError        the map to short vectors of a version without one
    │   ├─ BadRowError              one row of a file
    │   └─ InputFileError           the file as a whole
    ├─ OutputError                what a caller asked to be written cannot be
    ├─ JobError                   batch requests
    │   ├─ UnknownJobError
    │   └─ JobConflictError
    ├─ ObjectStoreError           a bucket cannot be read or written
    │   └─ ObjectChangedError       an object is not the one it was, or is there already
    └─ MissingExtraError          a package that only some installations have; an ImportError, too

A message says what was expected and what was found, with file, line and value; the remedy says what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


class EmbupError(Exception):
    """Base of the tree.

    Parameters
    ----------
    message
        What was expected and what was found.
    remedy
        What the reader can do about it; may be empty.
    code
        What a program tells it by, where it differs from the class's own.
    """

    code = "internal"

    def __init__(self, message: str, *, remedy: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel between processes whole; the usual way would call the class with the message alone."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[EmbupError], args: tuple[Any, ...], state: dict[str, Any]) -> EmbupError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class SourceError(EmbupError):
    """Training data cannot be used."""


class SourceUnavailableError(SourceError):
    """Training data cannot be had."""


class InvalidDataError(SourceError):
    """Training data was had but is not what it should be."""


class BasisLostError(SourceError):
    """Training data does not hold the landmark rows of the basis that is to be kept."""


class TrainingError(EmbupError):
    """A fit cannot go on, or its result must not be published."""


class ArtifactError(EmbupError):
    """A published decoder cannot be used."""

    code = "no_decoder"


class InvalidArtifactError(ArtifactError):
    """An artifact is damaged, foreign, or does not reproduce its golden answers."""


class NoArtifactError(ArtifactError):
    """Nothing is published yet."""


class PromotionConflictError(ArtifactError):
    """Another version was put into service since this one looked; what was published stays, not promoted."""


class RegistryUnavailableError(ArtifactError):
    """The object store of a registry fails; it may answer again without a change."""


class InputError(EmbupError):
    """What a caller handed in cannot be used."""


class InvalidArgumentError(InputError, ValueError):
    """An argument of the Python API has another shape, type or value than expected."""


class NotFittedError(InvalidArgumentError, AttributeError):
    """A decoder is used before it is fitted; the same bases as scikit-learn's error of that name."""


class NoAnchorsError(InputError):
    """Rows in the originals' basis are asked of a decoder for which it is not known."""

    code = "no_anchors"


class NoProjectionError(InputError):
    """Vectors are to be projected by a version that holds no map to do it with."""


class BadRowError(InputError):
    """One row of an input file cannot be used.

    Parameters
    ----------
    line
        1-based number of the line in a text, of the row in any other file.
    reason
        What was expected and found, without the line number.
    raw
        The beginning of the offending text.
    file
        The file, as the caller named it; the message begins with it.
    unit
        What the number counts: "line" or "row".
    """

    code = "bad_row"

    def __init__(
        self,
        line: int,
        reason: str,
        raw: str = "",
        *,
        file: Path | str | None = None,
        unit: str = "line",
        remedy: str = "",
        code: str | None = None,
    ) -> None:
        place = f"{unit} {line}" if file is None else f"{file}, {unit} {line}"
        super().__init__(f"{place}: {reason}", remedy=remedy, code=code)
        self.line = line
        self.reason = reason
        self.raw = raw


class InputFileError(InputError):
    """An input file as a whole cannot be used."""

    code = "input_unusable"


class OutputError(EmbupError):
    """What a caller asked to be written cannot be written."""

    code = "output_unusable"


class JobError(EmbupError):
    """A batch request cannot be served."""


class UnknownJobError(JobError):
    """No batch request has this id."""


class JobConflictError(JobError):
    """A batch request contradicts another one, or its own state."""

    code = "conflict"


class ObjectStoreError(EmbupError):
    """An object store cannot be read or written."""

    code = "object_store"


class ObjectChangedError(ObjectStoreError):
    """An object was overwritten, removed or created by another since it was looked at."""


class MissingExtraError(EmbupError, ImportError):
    """A package is not installed that an extra of the distribution installs; the remedy names the extra."""

    code = "missing_extra"
