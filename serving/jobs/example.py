"""The input file of the API page's batch example: a few rows below the data folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE_FILE: Final = "example/input.txt"
ROWS: Final = 10


def write_example(data: Path, dims: int) -> None:
    """Write unit rows of `dims` numbers to the example file, unless it is there.

    Raises
    ------
    OSError
        It cannot be written.
    """
    path = data / EXAMPLE_FILE
    if path.exists():
        return
    rows = np.random.default_rng(0).standard_normal((ROWS, dims))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    path.parent.mkdir(exist_ok=True)
    with path.open("x", encoding="ascii") as file:
        np.savetxt(file, rows, fmt="%.8f", delimiter=",")
