"""The batch that is written first: read 256 rows with np.loadtxt, decode them, write them with np.savetxt."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.upsampler import Upsampler

BLOCK_ROWS = 256


def usual_loop(upsampler: Upsampler, source: Path, target: Path) -> Iterator[int]:
    """Decode a file to a file; give the rows done after each block, the last time when all is on disk."""
    done = 0
    with source.open() as lines, target.open("wb") as file:
        while block := list(itertools.islice(lines, BLOCK_ROWS)):
            rows = np.loadtxt(block, delimiter=",", dtype=np.float32, ndmin=2)
            decoded, _ = upsampler.upsample(rows)
            np.savetxt(file, decoded, fmt="%.8f", delimiter=",")
            if done:
                yield done
            done += len(rows)
        file.flush()
        os.fdatasync(file.fileno())
    yield done
