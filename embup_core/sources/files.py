"""The files of training data, four of them optional. Sibling modules find or fetch them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.sources.anchors import AnchorFiles

PROJECTED_FILE = "projected_train_embs.npy"
COSINES_FILE = "og_train_cos_theta.npy"
COORDINATES_FILE = "coordinates.npy"
LANDMARK_COSINES_FILE = "landmark_cosines.npy"
LANDMARK_ROWS_FILE = "landmark_rows.npy"
RECOVERY_FILE = "recovery.json"
GROUPS_FILE = "groups.npy"
LABELS_FILE = "labels.npy"
ANCHORS_FILE = "anchors.npy"
ANCHOR_ROWS_FILE = "anchor_rows.npy"
HELD_OUT_FILE = "held_out.npy"
DROP_OF_ROW_FILE = "drops.npy"


@dataclass(frozen=True)
class SourceFiles:
    """Training data on local disk.

    Parameters
    ----------
    projected
        ``.npy`` of the projected embeddings, shape (N, d).
    cosines
        ``.npy`` of the cosines between the originals, shape (N, N). Or, where its name is
        ``coordinates.npy``, coordinates whose dot products are these cosines, shape (N, r), with their basis
        beside them in ``basis.safetensors``. Or, where it is ``landmark_cosines.npy``, the cosines of all
        rows with some of them, shape (N, L).
    name
        The source as it is displayed: ``sample``, a folder, an address. Free of secrets.
    groups, labels
        ``.npy`` of one integer or string per row, shape (N,), or None.
    anchors
        Originals of some rows, and which rows they are; or None.
    held_out
        ``.npy`` of bools, shape (N,): rows that are only ever reported on, and never fitted on. Or None.
    drops
        ``.npy`` of the drop that each row is from, shape (N,), or None.
    landmark_rows
        ``.npy`` of the rows that the columns of ``landmark_cosines.npy`` belong to, shape (L,), or None.
    """

    projected: Path
    cosines: Path
    name: str
    groups: Path | None = None
    labels: Path | None = None
    anchors: AnchorFiles | None = None
    held_out: Path | None = None
    drops: Path | None = None
    landmark_rows: Path | None = None

    @property
    def has_coordinates(self) -> bool:
        """Whether `cosines` holds coordinates instead of the matrix."""
        return self.cosines.name == COORDINATES_FILE

    @property
    def has_landmark_columns(self) -> bool:
        """Whether `cosines` holds landmark columns, from which coordinates have to be recovered first."""
        return self.cosines.name == LANDMARK_COSINES_FILE

    @property
    def recovery(self) -> Path | None:
        """Record of how coordinates were recovered from landmark columns; None for any other source."""
        return recovery_beside(self.cosines)

    @property
    def given_cosines(self) -> str:
        """Names the file of cosines in messages: of recovered coordinates the one that they are from."""
        return LANDMARK_COSINES_FILE if self.recovery else str(self.cosines)


def recovery_beside(cosines: Path) -> Path | None:
    """The record of coordinates that were recovered from landmark columns; None beside any other file."""
    path = cosines.with_name(RECOVERY_FILE)
    return path if cosines.name == COORDINATES_FILE and path.is_file() else None
