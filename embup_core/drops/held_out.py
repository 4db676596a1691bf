"""Which rows no version is ever trained on, so that all versions can be compared on them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARE: Final = 0.10
_DIGEST_BYTES: Final = 8


def held_out_mask(projected: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Rows that are held out for ever: one in ten, by a hash of the row itself.

    A row has the same answer in every drop and every order, and no list of rows has to be kept.

    Parameters
    ----------
    projected
        z: float32, shape (n, d).

    Returns
    -------
    bool, shape (n,)
    """
    rows = np.ascontiguousarray(projected, dtype="<f4")
    mask = np.empty(len(rows), dtype=np.bool_)
    limit = int(SHARE * 2 ** (8 * _DIGEST_BYTES))
    for number, row in enumerate(rows):
        digest = hashlib.blake2b(row.tobytes(), digest_size=_DIGEST_BYTES).digest()
        mask[number] = int.from_bytes(digest, "little") < limit
    return mask
