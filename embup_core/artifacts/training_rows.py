"""The training rows that a decoder holds: which are near to a row, and their numbers in the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.decoders.base import unit_rows
from embup_core.decoders.parts.complemented_decoder import ComplementedDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

HELD_OUT_FIELD: Final = "held_out"
"""Of a manifest's ``split``: whether the source said which rows are not to be fitted on."""

_RANKED: Final = 50  # a fast search misses some neighbours, the farthest of those asked for


@dataclass(frozen=True, eq=False)
class NearTrainingRows:
    """Training rows near to a row, the nearest first.

    Attributes
    ----------
    numbers
        0-based, in the source: int64, shape (k,). None where the manifest does not tell, because rows were
        held out of the decoder and it does not say which.
    distances
        Between unit z: float32, shape (k,), 0 to 2.
    cosines
        Of the decoded vectors: float32, shape (k,).
    """

    numbers: NDArray[np.int64] | None
    distances: NDArray[np.float32]
    cosines: NDArray[np.float32]


def near_training_rows(
    decoder: Decoder, manifest: Mapping[str, Any], projected: NDArray[np.float32], count: int
) -> NearTrainingRows | None:
    """Find the training rows of nearest z.

    Parameters
    ----------
    decoder, manifest
        Of one version; of the manifest ``data`` and ``split``.
    projected
        z: float32, shape (1, input_dims), a unit row.
    count
        How many, at most.

    Returns
    -------
    None where the decoder does not hold the z of its training rows.
    """
    if not isinstance(decoder, ComplementedDecoder) or (held := decoder.training_rows) is None:
        return None
    units = decoder.standardisation_
    n_rows = len(held.points)
    index, _, squared = held.query(units(projected), min(max(count, _RANKED), n_rows))
    places = index[0, :count]
    z = unit_rows(held.points[places] * np.float32(units.scale) + units.centre)
    decoded, _ = decoder.predict_with_confidence(np.concatenate([projected, z]))
    numbers = row_numbers(manifest, n_rows)
    return NearTrainingRows(
        None if numbers is None else numbers[places],
        np.sqrt(squared[0, :count]) * np.float32(units.scale),
        decoded[1:] @ decoded[0],
    )


def row_numbers(manifest: Mapping[str, Any], n_rows: int) -> NDArray[np.int64] | None:
    """Number in the source of each row that a decoder was fitted on: int64, shape (n_rows,), sorted.

    None where the manifest does not tell: rows were held out, or the numbers do not add up.
    """
    data, split = manifest.get("data"), manifest.get("split")
    if not isinstance(data, dict) or not isinstance(split, dict) or split.get(HELD_OUT_FIELD):
        return None
    rows, left_out = data.get("rows"), data.get("left_out", [])
    if not isinstance(rows, int) or not isinstance(left_out, list) or rows != n_rows + len(left_out):
        return None
    numbers = np.setdiff1d(np.arange(rows, dtype=np.int64), left_out)
    return numbers if len(numbers) == n_rows else None
