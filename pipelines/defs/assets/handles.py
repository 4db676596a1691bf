"""What assets tell each other, as JSON: where a result lies and what it is. And how to open it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from embup_core.cosine_matrix import CosineMatrix
from embup_core.row_split import RowSplit

OWNERS = ["team:embup"]


class Handle(BaseModel):
    """A small value that crosses from one asset to the next."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputFiles(Handle):
    """Both files of a source, on this machine."""

    projected: str
    cosines: str
    source: str


class MatrixHandle(Handle):
    """The validated cosine matrix."""

    path: str
    rows: int
    fingerprint: str


class StagedResult(Handle):
    """A staged file or folder."""

    path: str
    version: str


class CandidateHandle(Handle):
    """A staged candidate; `path` is None where the choice of decoders left it out."""

    path: str | None = None
    version: str


def open_matrix(handle: MatrixHandle) -> CosineMatrix:
    """The cosine matrix, memory-mapped."""
    return CosineMatrix.open(Path(handle.path))


def open_coordinates(handle: StagedResult) -> NDArray[np.float32]:
    """The coordinates: float32, shape (N, r)."""
    coordinates: NDArray[np.float32] = np.load(handle.path, allow_pickle=False)
    return coordinates


def open_split(handle: StagedResult) -> RowSplit:
    """The row split."""
    with np.load(handle.path, allow_pickle=False) as parts:
        return RowSplit(train=parts["train"], validation=parts["validation"], test=parts["test"])


class PublishedDecoder(Handle):
    """A version in a registry."""

    version: str
    registry: str
