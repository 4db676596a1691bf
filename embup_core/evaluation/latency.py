"""How long a decoder takes for a row."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from embup_core.blocks import BLOCK_ROWS, row_blocks

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.decoders.base import Decoder

TIMED_ROWS = 2 * BLOCK_ROWS
ROUNDS = 3


def decode_ms_per_row(decoder: Decoder, projected: NDArray[np.float32]) -> float:
    """Milliseconds a row, in blocks of 256 rows, on one core: the quickest of three rounds.

    Parameters
    ----------
    decoder
        Fitted.
    projected
        z: float32, shape (n, 32), unit rows; the first 512 of them are decoded.
    """
    from threadpoolctl import threadpool_limits

    rows = projected[:TIMED_ROWS]
    with threadpool_limits(1):
        decoder.predict(rows[:BLOCK_ROWS])  # what is made at the first call is made now
        return min(_seconds(decoder, rows) for _ in range(ROUNDS)) / len(rows) * 1000


def _seconds(decoder: Decoder, rows: NDArray[np.float32]) -> float:
    started_s = time.perf_counter()
    for block in row_blocks(len(rows)):
        decoder.predict(rows[block])
    return time.perf_counter() - started_s
