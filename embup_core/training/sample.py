"""The rows that candidates are fitted, chosen and reported on, from a source's files."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.geometry.landmark_source import recorded_recovery
from embup_core.geometry.source_check import judge_rows, left_out_note, rows_to_leave_out
from embup_core.sources import (
    DataProfile,
    load_anchors,
    load_held_out,
    load_projected,
    load_row_labels,
    require_agreement,
    validate_pair,
)
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.row_list import require_rows
from embup_core.training.basis import BasisChoice, recover_in
from embup_core.training.split import MAX_TRAINING_ROWS, RowSplit, SplitBy, split_right_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from embup_core.geometry.basis import Basis
    from embup_core.geometry.transform import AffineTransform
    from embup_core.progress import Progress
    from embup_core.sources import Anchors, SourceFiles


@dataclass(frozen=True)
class Sample:
    """Training data: z in memory, the cosine matrix and given coordinates in mapped files.

    Attributes
    ----------
    projected
        z: float32, shape (N, d), unit rows.
    coordinates
        c: float32, shape (N, r), unit rows, in the principal axes of `basis`.
    matrix
        True cosines, memory-mapped.
    rows
        Which rows are fitted on, chosen by and reported on.
    output_dims
        Dimensions of the originals, no fewer than r.
    basis
        What fixes the axes and the complement of decoded vectors.
    labels
        Class labels for the downstream probe: integers or strings, shape (N,). None where there are none.
    transform
        The map from coordinates to z, as the comparison of rows recovered it; None where it is not needed.
    anchors
        Originals of some rows; None where there are none.
    slices
        What rows are told apart by where versions are compared, such as drop and group: shape (N,) each.
    """

    projected: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    matrix: CosineMatrix
    rows: RowSplit
    output_dims: int
    basis: Basis
    labels: NDArray[Any] | None = None
    transform: AffineTransform | None = None
    anchors: Anchors | None = None
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def left_out(self) -> NDArray[np.int64]:
        """Rows that take no part, because they are wrong or were listed: int64, shape (w,), sorted."""
        taking_part = np.union1d(self.rows.all_rows, self.rows.not_sampled)
        return np.setdiff1d(np.arange(len(self.projected)), taking_part)

    def published_rows(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """z and coordinates of what the published decoder is fitted on: float32, shapes (n, d) and (n, r)."""
        rows = self.rows.published_rows
        if len(rows) == len(self.projected):  # without a copy
            return self.projected, self.coordinates
        return self.projected[rows], self.coordinates[rows]


@dataclass(frozen=True)
class OpenedSample:
    """A sample and what was measured while it was opened.

    Attributes
    ----------
    sample
        The rows.
    profile
        What validation measured.
    recovery_s
        Seconds that the recovery of the coordinates took.
    warnings
        Sentences about the source: noise of the matrix, rows that are left out or cannot be judged, a basis
        that cannot be kept.
    basis_note
        Which basis it has, and why, in a clause.
    """

    sample: Sample
    profile: DataProfile
    recovery_s: float
    warnings: tuple[str, ...]
    basis_note: str = ""


def open_sample(
    files: SourceFiles,
    *,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    split: SplitBy = SplitBy.rows,
    seed: int = 0,
    leave_out_wrong_rows: bool = False,
    without: Iterable[int] | NDArray[np.integer] = (),
    basis: BasisChoice | None = None,
    max_training_rows: int = MAX_TRAINING_ROWS,
    progress: Progress | None = None,
) -> OpenedSample:
    """Validate a source's files, recover the originals up to a rotation, and divide the rows.

    Parameters
    ----------
    files
        On this machine, landmark columns already turned into coordinates.
    output_dims
        Dimensions of the originals, which the files do not state.
    split
        What is held out: single rows or whole groups.
    seed
        Of the division.
    leave_out_wrong_rows
        Whether up to 5 % of rows that do not belong together are left out, instead of an error.
    without
        Rows that are left out in any case, 0-based.
    basis
        The basis to keep, if there is one; None makes a new one.
    max_training_rows
        Most rows that take part, test rows among them; of more, a random sample does.
    progress
        Called with a label, units done and units in all.

    Raises
    ------
    SourceError
        The files cannot be read or are not what they should be, or rows do not belong together; the matrix's
        rank is above `output_dims`.
    InputError
        A split by groups without groups, or a row to leave out that there is not.
    BasisLostError
        The source does not hold the landmark rows of the basis that was asked for.
    TrainingError
        Too few rows.
    """
    projected = load_projected(files.projected)
    n_rows = len(projected)
    groups, labels, drops = (
        None if path is None else load_row_labels(path, n_rows)
        for path in (files.groups, files.labels, files.drops)
    )
    anchors = None if files.anchors is None else load_anchors(files.anchors, n_rows, output_dims=output_dims)
    held_out = None if files.held_out is None else load_held_out(files.held_out, n_rows)
    listed = require_rows(without, n_rows)

    def divided(left_out: NDArray[np.int64]) -> RowSplit:
        return split_right_rows(
            n_rows,
            left_out,
            groups,
            held_out=held_out,
            max_training_rows=max_training_rows,
            split=split,
            seed=seed,
        )

    rows = divided(listed)
    profile = validate_pair(files, progress=progress)
    matrix = CosineMatrix.open(files.cosines)
    if anchors is not None and files.anchors is not None:
        require_agreement(anchors, matrix, files.anchors)
    started_s = time.perf_counter()
    recovered = recover_in(basis or BasisChoice(), matrix, projected, output_dims=output_dims)
    recovery_s = time.perf_counter() - started_s
    record = recorded_recovery(files.cosines)
    noise = recovered.noise if record is None else record.noise
    coordinates = recovered.coordinates
    defects = judge_rows(projected, coordinates, files)
    left_out = (
        listed  # rows of a training set of drops were judged before it was written
        if files.has_coordinates and record is None
        else rows_to_leave_out(defects, files, leave_out=leave_out_wrong_rows, without=listed)
    )
    if len(left_out) > len(listed):
        rows = divided(left_out)
    sample = Sample(
        projected,
        coordinates,
        matrix,
        rows,
        output_dims,
        recovered.basis,
        labels,
        defects.transform,
        anchors,
        {name: values for name, values in (("drop", drops), ("group", groups)) if values is not None},
    )
    left_out_wrong = left_out_note(left_out, n_rows, listed)
    notes = (
        noise.warning(),
        recovered.warning,
        left_out_wrong,
        defects.note,
        rows.sampling_note(),
        None if record is None else record.describe(),
    )
    warnings = tuple(text for text in notes if text)
    if record is not None:
        recovery_s += record.seconds
    return OpenedSample(sample, profile, recovery_s, warnings, recovered.note)
