"""Whether the two files of a source belong together row by row, and all checks of a source in one call."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.errors import InvalidDataError
from embup_core.geometry.landmark_source import recovered_originals
from embup_core.geometry.row_defects import (
    SHORT_COSINE_CORRELATION,
    RowDefects,
    find_row_defects,
    short_cosine_share,
)
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.row_labels import load_row_labels
from embup_core.sources.row_ranges import describe_rows
from embup_core.sources.validation import load_projected, validate_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.geometry.noise import MatrixNoise
    from embup_core.progress import Progress
    from embup_core.sources.files import SourceFiles
    from embup_core.sources.profile import DataProfile

SAMPLED_PAIRS = 100_000
NO_ROWS: NDArray[np.int64] = np.empty(0, np.int64)
MOST_LEFT_OUT = 0.05
"""Largest share of wrong rows that a training may leave out."""


def judge_rows(
    projected: NDArray[np.float32], coordinates: NDArray[np.float32], files: SourceFiles
) -> RowDefects:
    """Find rows of z that do not belong to their row of the matrix.

    Parameters
    ----------
    projected
        z: float32, shape (N, d), unit rows.
    coordinates
        The originals up to a rotation, recovered from the matrix: float32, shape (N, r), unit rows.
    files
        The source, for messages.

    Raises
    ------
    InvalidDataError
        The matrix holds the cosines of z itself, or has no more dimensions than z: nothing can be learned.
    """
    _refuse_short_cosines(projected, coordinates, files)
    return find_row_defects(projected, coordinates)


def rows_to_leave_out(
    defects: RowDefects,
    files: SourceFiles,
    *,
    leave_out: bool = False,
    without: NDArray[np.int64] = NO_ROWS,
) -> NDArray[np.int64]:
    """Rows that a training does without: those listed, and the wrong ones where that is asked for.

    Parameters
    ----------
    defects
        From `judge_rows`.
    files
        The source, for messages.
    leave_out
        Whether up to 5 % of wrong rows may be left out.
    without
        Rows that are left out in any case, wrong or right: int64, shape (v,), each below N.

    Returns
    -------
    0-based, sorted: int64, shape (w,).

    Raises
    ------
    InvalidDataError
        Rows are wrong and may not be left out. The message names them, their shift, or unrelated files.
    """
    wrong, n_rows = np.setdiff1d(defects.wrong_rows, without), len(defects.z_rows)
    if not len(wrong):
        return np.unique(without)
    if defects.verdict == "unrelated":
        raise InvalidDataError(
            f"{files.projected} and {files.given_cosines}: {defects.describe()}",
            remedy="Both files must come from the same originals, rows in the same order.",
        )
    repair = f"`embup check {files.name} --repair OUT` writes a source with each row in its place"
    if files.has_coordinates:  # only a source with the matrix is repaired
        repair = f"Bring the rows of {files.projected.name} in the order of the cosines"
    if defects.verdict == "reordered":
        raise InvalidDataError(
            f"{files.projected} and {files.given_cosines}: {defects.describe()}",
            remedy=f"Both files must have their rows in the same order. {repair}.",
        )
    few = len(wrong) <= MOST_LEFT_OUT * n_rows
    if few and leave_out:
        return np.union1d(wrong, without)
    moved = f" {defects.reordering.describe(n_rows).capitalize()}." if defects.reordering else ""
    limit = (
        "--leave-out-wrong-rows (`leave_out_wrong_rows`) trains without them"
        if few
        else f"they are more than the {MOST_LEFT_OUT:.0%} of all rows that a training may leave out"
    )
    raise InvalidDataError(
        f"{files.projected}: expected row i to be the projection of row i of "
        f"{PurePath(files.given_cosines).name}, found "
        f"rows that belong elsewhere: {describe_rows(wrong)} of {n_rows:,}.{moved}",
        remedy=f"{repair}, and `embup check --json` lists them; {limit}.",
    )


def left_out_note(rows: NDArray[np.int64], n_rows: int, without: NDArray[np.int64] = NO_ROWS) -> str | None:
    """A sentence about rows that a training left out, but for those of `without`; None where none are."""
    wrong = np.setdiff1d(rows, without)
    if not len(wrong):
        return None
    return (
        f"rows were left out, because their row of z does not belong to their row of the matrix: "
        f"{describe_rows(wrong)} of {n_rows:,}."
    )


def _refuse_short_cosines(
    projected: NDArray[np.float32], coordinates: NDArray[np.float32], files: SourceFiles
) -> None:
    left, right = np.random.default_rng(0).integers(0, len(projected), (2, SAMPLED_PAIRS))
    cosines = np.empty(SAMPLED_PAIRS, np.float32)
    for block in range(0, SAMPLED_PAIRS, 4096):
        pairs = slice(block, block + 4096)
        cosines[pairs] = np.einsum("ij,ij->i", coordinates[left[pairs]], coordinates[right[pairs]])
    correlation = short_cosine_share(projected, cosines, left, right)
    dims, rank = projected.shape[1], coordinates.shape[1]
    if correlation > SHORT_COSINE_CORRELATION or rank <= dims:
        raise InvalidDataError(
            f"{files.given_cosines} holds nothing beyond {files.projected.name}: expected cosines of the "
            f"originals, found cosines of rank {rank}, which correlate with those of the {dims}-d projected "
            f"embeddings by {correlation:.5f}.",
            remedy="Compute the matrix from the originals: g = x @ x.T, x the unit rows before projection.",
        )


@dataclass(frozen=True, eq=False)
class SourceReport:
    """What all checks of a source found.

    Attributes
    ----------
    profile
        Size, fingerprint and spread of the cosines.
    noise
        Noise of the matrix.
    rows
        Which rows belong together.
    projected
        z: float32, shape (N, d).
    coordinates
        The originals up to a rotation: float32, shape (N, r).
    """

    profile: DataProfile
    noise: MatrixNoise
    rows: RowDefects
    projected: NDArray[np.float32]
    coordinates: NDArray[np.float32]

    @property
    def dims(self) -> int:
        """Dimensions of z."""
        return int(self.projected.shape[1])

    @property
    def rank(self) -> int:
        """Dimensions of the originals that were recovered."""
        return int(self.coordinates.shape[1])

    @property
    def ok(self) -> bool:
        """Whether the source can be trained on."""
        return not len(self.rows.wrong_rows)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what does not prevent training."""
        return tuple(text for text in (self.noise.warning(), self.rows.note) if text)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values; rows that belong nowhere are null."""
        rows, profile, transform = self.rows, self.profile, self.rows.transform
        return {
            "ok": self.ok,
            "verdict": rows.verdict,
            "finding": rows.describe(),
            "rows": profile.rows,
            "dims": self.dims,
            "rank": self.rank,
            "fingerprint": profile.fingerprint,
            "wrong_rows": rows.wrong_rows.tolist(),
            "belongs_to": [None if row < 0 else row for row in rows.belongs_to.tolist()],
            "reordering": None if rows.reordering is None else asdict(rows.reordering),
            "detectable_share": rows.detectable_share,
            "map": transform.to_json(),
            "cosines": {
                "mean": profile.mean_cosine,
                "std": profile.cosine_deviation,
                "lowest": profile.lowest_cosine,
                "highest": profile.highest_cosine,
            },
            "matrix_noise": self.noise.to_json(),
            "warnings": list(self.warnings),
        }


def check_source(
    files: SourceFiles,
    *,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    progress: Progress | None = None,
) -> SourceReport:
    """Run all checks of a source, without training.

    Parameters
    ----------
    files
        The source.
    output_dims
        Dimensions of the originals, which the files do not state.
    progress
        Called with a label, units done and units in all.

    Raises
    ------
    SourceUnavailableError
        A file cannot be read.
    InvalidDataError
        A file is not what it should be, the matrix is too noisy, or it holds nothing beyond z. Wrong rows are
        no error: they are reported.
    """
    projected = load_projected(files.projected)
    for labels in (files.groups, files.labels):
        if labels is not None:
            load_row_labels(labels, len(projected))
    profile = validate_pair(files, progress=progress)
    if progress:
        progress("recovering the originals", 0, None)
    coordinates, noise = recovered_originals(files, CosineMatrix.open(files.cosines), output_dims=output_dims)
    if progress:
        progress("comparing rows", 0, None)
    rows = judge_rows(projected, coordinates, files)
    return SourceReport(profile, noise, rows, projected, coordinates)
