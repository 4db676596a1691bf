"""What assets hand to each other, as JSON: where a result lies and what it is. And how to open it.

Assets can be materialized one by one and days apart, so what a handle says may be of the past. Input files
are opened only if they are still those that were checked, and results are used together only if they were
made from one another.
"""

import hashlib
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from embup_core.errors import InvalidDataError, SourceUnavailableError, TrainingError
from embup_core.geometry.basis import Basis
from embup_core.sources import (
    Anchors,
    SourceFiles,
    load_anchors,
    load_held_out,
    load_projected,
    load_row_labels,
    require_agreement,
)
from embup_core.sources.anchors import AnchorFiles
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.training.split import RowSplit, SplitBy

OWNERS = ["team:embup"]
AGAIN = "Materialize projected_embeddings and everything after it."


class Handle(BaseModel):
    """A small value that crosses from one asset to the next."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InputFile(Handle):
    """One file of a source as it was when it was checked."""

    path: str
    size_bytes: int
    mtime_ns: int

    @classmethod
    def now(cls, path: Path) -> Self:
        """The file as it is; raises `SourceUnavailableError` where there is none."""
        try:
            status = path.stat()
        except OSError as error:
            raise SourceUnavailableError(
                f"{path} cannot be read: {error.strerror}.", remedy=f"Put it back. {AGAIN}"
            ) from error
        return cls(path=str(path), size_bytes=status.st_size, mtime_ns=status.st_mtime_ns)


class HashedFile(InputFile):
    """A file that is small enough to hash, as it was when it was checked."""

    sha256: str

    @classmethod
    def now(cls, path: Path) -> Self:
        """The file as it is; raises `SourceUnavailableError` where there is none."""
        return cls(**InputFile.now(path).model_dump(), sha256=_sha256(path))


class AnchorHandles(Handle):
    """The two files of a source's anchors."""

    originals: HashedFile
    rows: HashedFile

    @property
    def files(self) -> AnchorFiles:
        """Their paths."""
        return AnchorFiles(Path(self.originals.path), Path(self.rows.path))

    @property
    def version(self) -> str:
        """Of both files' bytes."""
        return f"{self.originals.sha256[:16]}-{self.rows.sha256[:16]}"


class InputFiles(Handle):
    """The files of a source, on this machine."""

    projected: InputFile
    projected_sha256: str
    cosines: InputFile
    source: str
    groups: HashedFile | None = None
    labels: HashedFile | None = None
    anchors: AnchorHandles | None = None
    held_out: HashedFile | None = None
    drops: HashedFile | None = None

    @classmethod
    def now(cls, files: SourceFiles) -> Self:
        """The files as they are; to be called before they are checked, so that no change is missed."""
        return cls(
            projected=InputFile.now(files.projected),
            projected_sha256=_sha256(files.projected),
            cosines=InputFile.now(files.cosines),
            source=files.name,
            groups=None if files.groups is None else HashedFile.now(files.groups),
            labels=None if files.labels is None else HashedFile.now(files.labels),
            anchors=None
            if files.anchors is None
            else AnchorHandles(
                originals=HashedFile.now(files.anchors.originals), rows=HashedFile.now(files.anchors.rows)
            ),
            held_out=None if files.held_out is None else HashedFile.now(files.held_out),
            drops=None if files.drops is None else HashedFile.now(files.drops),
        )

    @property
    def source_files(self) -> SourceFiles:
        """The two files, without the optional ones."""
        return SourceFiles(Path(self.projected.path), Path(self.cosines.path), self.source)


class MatrixHandle(Handle):
    """The validated cosine matrix, and the files it was validated with."""

    files: InputFiles
    rows: int
    fingerprint: str
    cosine_deviation: float


class StagedResult(Handle):
    """A staged file or folder, and the versions of the results it was made from, by asset."""

    path: str
    version: str
    made_from: dict[str, str]


class CoordinatesHandle(StagedResult):
    """The staged coordinates, the originals' dimensions, which may be more than theirs, and the basis."""

    output_dims: int
    basis_path: str
    basis_note: str


class CandidateHandle(StagedResult):
    """A staged candidate."""


class CandidatesHandle(Handle):
    """The staged candidates of one run by decoder, and why decoders of its choice could not be fitted."""

    candidates: dict[str, CandidateHandle]
    not_fitted: dict[str, str]
    version: str
    made_from: dict[str, str]


def open_projected(files: InputFiles, matrix: MatrixHandle) -> NDArray[np.float32]:
    """The projected embeddings: float32, shape (N, d).

    Raises
    ------
    InvalidDataError
        The file changed since it was checked, or the cosine matrix was checked with another one.
    SourceUnavailableError
        The file is gone.
    """
    path = Path(files.projected.path)
    # Small enough to compare every byte: a replacement may keep size and time.
    if files != matrix.files or _sha256(path) != files.projected_sha256:
        raise _changed(path)
    return load_projected(path)


def open_matrix(handle: MatrixHandle) -> CosineMatrix:
    """The cosine matrix, memory-mapped.

    Raises
    ------
    InvalidDataError
        The file changed since it was checked.
    SourceUnavailableError
        The file is gone.
    """
    require_unchanged(handle.files.cosines)
    return CosineMatrix.open(Path(handle.files.cosines.path))


def open_row_labels(file: HashedFile, matrix: MatrixHandle) -> NDArray[Any]:
    """Groups or labels: integers or strings, shape (N,).

    Raises
    ------
    InvalidDataError
        The file changed since it was checked.
    SourceUnavailableError
        The file is gone.
    """
    path = Path(file.path)
    if _sha256(path) != file.sha256:
        raise _changed(path)
    return load_row_labels(path, matrix.rows)


def open_slices(matrix: MatrixHandle) -> dict[str, NDArray[Any]]:
    """What tells rows apart where versions are compared: shape (N,) each; raises as `open_row_labels`."""
    files = {"drop": matrix.files.drops, "group": matrix.files.groups}
    return {name: open_row_labels(file, matrix) for name, file in files.items() if file is not None}


def open_held_out(matrix: MatrixHandle) -> NDArray[np.bool_] | None:
    """Rows that are held out for ever: bool, shape (N,); None where the source does not say.

    Raises
    ------
    InvalidDataError
        The file changed since it was checked.
    SourceUnavailableError
        The file is gone.
    """
    file = matrix.files.held_out
    if file is None:
        return None
    if _sha256(Path(file.path)) != file.sha256:
        raise _changed(Path(file.path))
    return load_held_out(Path(file.path), matrix.rows)


def open_anchors(matrix: MatrixHandle, *, output_dims: int) -> Anchors | None:
    """The source's anchors, held against its cosine matrix; None where it has none.

    Raises
    ------
    InvalidDataError
        A file changed since it was checked, the originals have other dimensions, or their cosines are not
        those of the matrix.
    SourceUnavailableError
        A file is gone.
    """
    handles = matrix.files.anchors
    if handles is None:
        return None
    for file in (handles.originals, handles.rows):
        if _sha256(Path(file.path)) != file.sha256:
            raise _changed(Path(file.path))
    anchors = load_anchors(handles.files, matrix.rows, output_dims=output_dims)
    require_agreement(anchors, open_matrix(matrix), handles.files)
    return anchors


def require_unchanged(file: InputFile) -> None:
    """Raise `InvalidDataError` unless a file has the size and the time that it had when it was checked."""
    path = Path(file.path)
    if InputFile.now(path) != file:
        raise _changed(path)


def require_one_lineage(matrix: MatrixHandle, **results: StagedResult | CandidatesHandle) -> dict[str, str]:
    """Version of each result and of all it was made from, by asset.

    Raises
    ------
    TrainingError
        A result was made from another version of something than the one that is there now.
    """
    versions = {"cosine_matrix": matrix.fingerprint} | {name: one.version for name, one in results.items()}
    stale = [
        f"{name} was made from another {origin}"
        for name, result in results.items()
        for origin, version in result.made_from.items()
        if versions.setdefault(origin, version) != version
    ]
    if stale:
        raise TrainingError(
            f"Results do not belong together: {', '.join(stale)}.",
            remedy="Materialize the first of them and everything after it.",
        )
    return versions


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise SourceUnavailableError(
            f"{path} cannot be read: {error.strerror}.", remedy=f"Put it back. {AGAIN}"
        ) from error


def _changed(path: Path) -> InvalidDataError:
    return InvalidDataError(f"{path} changed since it was checked.", remedy=AGAIN)


def open_coordinates(handle: StagedResult) -> NDArray[np.float32]:
    """The coordinates, memory-mapped: float32, shape (N, r)."""
    coordinates: NDArray[np.float32] = np.load(handle.path, mmap_mode="r", allow_pickle=False)
    return coordinates


def open_basis(handle: CoordinatesHandle) -> Basis:
    """The basis that the coordinates are in."""
    return Basis.from_bytes(Path(handle.basis_path).read_bytes())


def open_split(handle: StagedResult) -> RowSplit:
    """The row split."""
    with np.load(handle.path, allow_pickle=False) as parts:
        return RowSplit(
            train=parts["train"],
            validation=parts["validation"],
            test=parts["test"],
            by=SplitBy(str(parts["by"])),
            seed=int(parts["seed"][0]),
            held_out=bool(parts["held_out"]),
            not_sampled=parts["not_sampled"],
        )


class PublishedDecoder(Handle):
    """A version in a registry.

    `warning` is what to tell the user about its promotion.
    """

    version: str
    registry: str
    promoted: bool = True
    warning: str | None = None
