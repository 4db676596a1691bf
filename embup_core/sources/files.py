"""The two files of training data, by name and by path. Where they come from is for the sibling modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROJECTED_FILE = "projected_train_embs.npy"
COSINES_FILE = "og_train_cos_theta.npy"

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
    """

    projected: Path
    cosines: Path
    name: str
