"""Landmark columns turned into coordinates, once: from then on the source is one of coordinates.

The basis is recovered from all landmarks and a sample of the other rows, by the same steps as from a matrix.
Then coordinates of all rows, C = G[:, L] X (X^T X)^-1, are written in one pass over the columns, a block at a
time: neither the columns nor the coordinates are ever held in memory. A few landmarks take no part in the
recovery of a new basis: their columns are true cosines of pairs of recovered rows, and tell what
recovered coordinates miss.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from embup_core.artifacts.manifest import BASIS_FILE
from embup_core.blocks import row_blocks
from embup_core.errors import BasisLostError, InvalidDataError, SourceUnavailableError
from embup_core.files.atomic import sync_folder, write_durably
from embup_core.geometry.basis import (
    SHORT_SHARE,
    SPANNED_LENGTH,
    Basis,
    recover_in_kept_basis,
    recover_in_new_basis,
)
from embup_core.geometry.coordinates import default_landmarks, recover
from embup_core.geometry.noise import MatrixNoise
from embup_core.sources.cosine_matrix import CoordinateProducts, CosineMatrix
from embup_core.sources.files import COORDINATES_FILE, RECOVERY_FILE, recovery_beside
from embup_core.sources.landmark_columns import LandmarkColumns
from embup_core.sources.validation import load_projected, validate_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.geometry.basis import RecoveryInBasis
    from embup_core.progress import Progress
    from embup_core.sources.files import SourceFiles

SAMPLED_ROWS: Final = 16_384
"""Rows beside the landmarks that the principal axes and the noise are estimated from."""
CHECKING_SHARE: Final = 1 / 32
"""Share of the landmarks that check the recovery."""
_MOST_CHECKING: Final = 64
_BLOCK_ROWS: Final = 8192
_SHORTEST: Final = 0.5


class RecordedRecovery(NamedTuple):
    """What is recorded beside recovered coordinates.

    Attributes
    ----------
    noise
        Of the landmark columns; its residual is what recovered coordinates miss of true cosines.
    seconds
        That the recovery took.
    landmarks
        Columns that were used.
    checking
        Columns that checked it.
    """

    noise: MatrixNoise
    seconds: float
    landmarks: int
    checking: int

    def describe(self) -> str:
        """One sentence: what true cosines are where there is no matrix."""
        if not self.checking:
            return (
                "True cosines are products of coordinates recovered from landmark columns; all of these were "
                "needed, so what they miss was not measured."
            )
        return (
            "True cosines are products of coordinates recovered from landmark columns; they miss those of "
            f"{self.checking} landmarks that took no part by {self.noise.residual:.1e} (root mean square), "
            f"{(self.noise.residual / max(self.noise.deviation, 1e-7)) ** 2:.3%} of the variance of cosines."
        )


def recorded_recovery(cosines: Path) -> RecordedRecovery | None:
    """How the coordinates in a source's file were recovered; None where it has none from landmark columns."""
    path = recovery_beside(cosines)
    if path is None:
        return None
    content = json.loads(path.read_bytes())
    noise = MatrixNoise(**content["noise"])
    return RecordedRecovery(noise, content["seconds"], content["landmarks"], content["checking"])


def with_coordinates(
    files: SourceFiles,
    cache_dir: Path,
    *,
    output_dims: int,
    kept: Basis | None = None,
    progress: Progress | None = None,
) -> SourceFiles:
    """Recover the coordinates of a source of landmark columns, unless they are in the cache.

    Parameters
    ----------
    files
        Any source; one without landmark columns is returned as it is.
    cache_dir
        Where coordinates are kept: 4 N r bytes for r dimensions. One folder for a state of the files, the
        dimensions and the basis; it appears whole or not at all.
    output_dims
        Dimensions of the originals.
    kept
        A basis to keep, if the source holds enough of its landmarks as landmarks; else a new one is made.
    progress
        Called with a label, rows done and rows in all.

    Returns
    -------
    A source of coordinates, with the basis and the record of the recovery beside them.

    Raises
    ------
    SourceUnavailableError
        A file cannot be read, or the cache cannot be written.
    InvalidDataError
        The files are not what they should be or change meanwhile, or landmarks do not span the rows.
    """
    if not files.has_landmark_columns:
        return files
    key = _key(files, output_dims, kept)
    folder = _folder(cache_dir, files, output_dims, kept)
    recovered = replace(files, cosines=folder / COORDINATES_FILE)
    if folder.is_dir():
        os.utime(folder)  # in use
        return recovered
    profile = validate_pair(files, progress=progress)
    started_s = time.perf_counter()
    projected = load_projected(files.projected)
    columns = LandmarkColumns.open(files, len(projected))
    if progress:
        progress("recovering the originals", 0, None)
    found = _recover_sampled(columns, projected, output_dims, kept)
    staged = None
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache_dir))
        _write_coordinates(staged / COORDINATES_FILE, columns, found, progress)
        write_durably(staged / BASIS_FILE, found.basis.to_bytes())
        record = {
            "profile": asdict(profile),
            "noise": asdict(found.noise),
            "seconds": time.perf_counter() - started_s,
            "landmarks": len(found.landmarks),
            "checking": len(columns.landmarks) - len(found.landmarks),
        }
        write_durably(staged / RECOVERY_FILE, json.dumps(record, indent=1).encode())
        staged.chmod(0o755)  # mkdtemp's folder is for its owner alone
        sync_folder(staged)
        if _key(files, output_dims, kept) != key:
            raise InvalidDataError(
                f"{files.cosines}, or a file beside it, changed while it was read.",
                remedy="Train from a copy that nothing writes to.",
            )
        try:
            staged.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster
                raise
    except OSError as error:
        size_bytes = 4 * len(projected) * found.basis.dims
        raise SourceUnavailableError(
            f"the coordinates of {files.name} cannot be written to {cache_dir}: {error.strerror or error}; "
            f"they take {size_bytes / 1e9:.2f} GB.",
            remedy="Make room, or name another data folder.",
        ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
    return recovered


def recovered_originals(
    files: SourceFiles, matrix: CosineMatrix, *, output_dims: int
) -> tuple[NDArray[np.float32], MatrixNoise]:
    """Coordinates of a source, given or recovered from its matrix, and its noise; raises as `recover`.

    Parameters
    ----------
    files, matrix
        The source, with coordinates where it had landmark columns, and its cosines.
    output_dims
        Dimensions of the originals.
    """
    record = recorded_recovery(files.cosines)
    if isinstance(matrix, CoordinateProducts) and record is not None:
        return matrix.memory_map, record.noise
    found = recover(matrix, output_dims=output_dims)
    return found.coordinates, found.noise


@dataclass(frozen=True)
class _Sampled(CosineMatrix):
    """The landmarks and a sample of other rows as a matrix of which only the landmarks' rows are known.

    Attributes
    ----------
    path
        The file of landmark columns.
    memory_map
        Cosines of these rows with the landmarks: float32, shape (L + S, L), the landmarks first.
    numbers
        Of these rows in the source: int64, shape (L + S,).
    checking
        How many landmarks take no part in a new basis, the last ones of a random order.
    """

    numbers: NDArray[np.int64]
    checking: int

    @property
    def n_landmarks(self) -> int:
        """L."""
        return int(self.memory_map.shape[1])

    def rows(self, index: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of some landmarks with all of these rows: float32, shape (len(index), L + S)."""
        return np.ascontiguousarray(self.memory_map[:, index].T)

    def pairs(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.float32]:
        """Cosines of the pairs (left[k], right[k]), of which the second ones are landmarks."""
        return np.asarray(self.memory_map[left, right], dtype=np.float32)

    def landmarks(self, count: int, *, seed: int) -> NDArray[np.int64]:  # noqa: ARG002  all there are
        """Those that a new basis is made of, whatever the count: int64, sorted."""
        order = np.random.default_rng(seed).permutation(self.n_landmarks)
        return np.sort(order[: self.n_landmarks - self.checking])

    def random_pairs(
        self, rows: NDArray[np.integer], count: int, *, seed: int
    ) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """Random pairs of a row and a landmark that took no part in the recovery, if there is one."""
        landmarks = rows[rows < self.n_landmarks]
        if not len(landmarks):
            return landmarks, landmarks
        rng = np.random.default_rng(seed)
        left, right = rng.choice(rows, count), rng.choice(landmarks, count)
        return left[left != right], right[left != right]

    def row_number(self, row: int) -> int:
        """Number of a row in the source's files, for messages."""
        return int(self.numbers[row])


def _folder(cache_dir: Path, files: SourceFiles, output_dims: int, kept: Basis | None) -> Path:
    """Where the coordinates have their place; a basis to keep may be the one that these files gave before."""
    if kept is not None:
        new = _folder(cache_dir, files, output_dims, None)
        if new.is_dir() and Basis.from_bytes((new / BASIS_FILE).read_bytes()).id == kept.id:
            return new
    return cache_dir / f"recovered-{_key(files, output_dims, kept)}"


def _key(files: SourceFiles, output_dims: int, kept: Basis | None) -> str:
    """Twelve hexadecimal digits that name a state of the files and what is made of them."""
    given: list[Any] = [output_dims, None if kept is None else kept.id]
    for path in (files.projected, files.cosines, files.landmark_rows):
        if path is not None:
            status = path.stat()
            given.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()[:12]


def _recover_sampled(
    columns: LandmarkColumns, projected: NDArray[np.float32], output_dims: int, kept: Basis | None
) -> RecoveryInBasis:
    """Basis and noise from the landmarks and a sample of other rows; rows are numbered by their columns."""
    n_landmarks = len(columns.landmarks)
    others = np.setdiff1d(np.arange(len(projected)), columns.landmarks)
    sampled = np.sort(np.random.default_rng(0).permutation(len(others))[:SAMPLED_ROWS])
    numbers = np.concatenate([columns.landmarks, others[sampled]])
    checking = min(_MOST_CHECKING, int(n_landmarks * CHECKING_SHARE))
    part = _Sampled(columns.path, columns.read(numbers), numbers, checking)
    if kept is not None:
        # Lost or not is said where the basis of the source is compared with the one to keep. Only landmarks
        # are looked for: of no other row are all cosines known.
        with suppress(BasisLostError):
            return recover_in_kept_basis(kept, part, projected[columns.landmarks], output_dims=output_dims)
    found = recover_in_new_basis(part, projected[numbers], output_dims=output_dims)
    _require_spanned(part, found, output_dims)
    return found


def _require_spanned(part: _Sampled, found: RecoveryInBasis, output_dims: int) -> None:
    """Refuse landmarks that span only a part of the other originals, which makes their rows too short."""
    others = part.memory_map[part.n_landmarks :, found.landmarks]
    if not len(others):
        return
    length = float(np.quantile(np.linalg.norm(others @ found.whitening, axis=1), SHORT_SHARE))
    if length < SPANNED_LENGTH:
        raise InvalidDataError(
            f"{part.path}: its {part.n_landmarks:,} landmarks span a part of the originals only (one row in "
            f"twenty has a recovered length below {length:.3f}, expected 1).",
            remedy=f"Give cosines with more landmarks, random rows: {default_landmarks(output_dims):,} for "
            f"originals of {output_dims:,} dimensions.",
        )


def _write_coordinates(
    path: Path, columns: LandmarkColumns, found: RecoveryInBasis, progress: Progress | None
) -> None:
    """Coordinates of all rows, made unit length, by one pass over the columns."""
    n_rows, dims = len(columns.memory_map), found.basis.dims
    column_of = np.full(n_rows, -1, np.int64)
    column_of[columns.landmarks] = np.arange(len(columns.landmarks))
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (n_rows, dims)}
        np.lib.format.write_array_header_1_0(file, header)
        for place in row_blocks(n_rows, _BLOCK_ROWS):
            cosines = columns.read(place)  # (b, L)
            own = np.flatnonzero(column_of[place] >= 0)
            cosines[own, column_of[place][own]] = 1
            coordinates = cosines[:, found.landmarks] @ found.whitening  # (b, r)
            lengths = np.linalg.norm(coordinates, axis=1, keepdims=True)
            weakest = int(lengths.argmin())
            if lengths[weakest, 0] < _SHORTEST:
                raise InvalidDataError(
                    f"{columns.path}: row {place.start + weakest} is not spanned by the "
                    f"{len(found.landmarks)} landmark rows (its recovered length is "
                    f"{lengths[weakest, 0]:.3f}, expected 1).",
                    remedy="Use more landmarks, rows at random, or leave the row out of all files.",
                )
            file.write(np.ascontiguousarray(coordinates / lengths, "<f4").data)
            if progress:
                progress("writing the coordinates", place.stop, n_rows)
        file.flush()
        os.fsync(file.fileno())
