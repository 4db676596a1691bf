"""Row numbers in an error message: runs as ranges, and no more than a reader can use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_RANGES = 20


def describe_rows(rows: NDArray[np.integer]) -> str:
    """Format row numbers as ``3, 17, 500-519 (22 rows)``; only the first 20 numbers and ranges are listed.

    Parameters
    ----------
    rows
        Integers, shape (n,), ascending and distinct, n at least 1.
    """
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    runs = [(int(run[0]), int(run[-1])) for run in np.split(rows, starts[1:])]
    listed = [str(first) if first == last else f"{first}-{last}" for first, last in runs[:MAX_RANGES]]
    if len(runs) > MAX_RANGES:
        listed.append("...")
    return f"{', '.join(listed)} ({len(rows)} row{'s' * (len(rows) > 1)})"
