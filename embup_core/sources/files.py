"""The files of training data, two of them optional. Where they come from is for the sibling modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROJECTED_FILE = "projected_train_embs.npy"
COSINES_FILE = "og_train_cos_theta.npy"
GROUPS_FILE = "groups.npy"
LABELS_FILE = "labels.npy"

INPUT_DIMS = 32
"""Dimensions of a projected embedding."""


@dataclass(frozen=True)
class SourceFiles:
    """Training data on this machine.

    Parameters
    ----------
    projected
        ``.npy`` of the projected embeddings, shape (N, 32).
    cosines
        ``.npy`` of the cosines between the originals, shape (N, N).
    name
        What a person calls this data: ``sample``, a folder, an address. Free of secrets.
    groups, labels
        ``.npy`` of one integer or string a row, shape (N,); None where there is none.
    """

    projected: Path
    cosines: Path
    name: str
    groups: Path | None = None
    labels: Path | None = None
