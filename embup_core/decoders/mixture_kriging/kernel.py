"""Rows through a fitted `MixtureKriging` in one call of a C extension, and the tables it wants.

The extension is optional: an installation without a compiler has none, and NumPy decodes, with the same
answers within 2e-6. So does one whose extension was built from earlier sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.decoders.parts.kriged_trend import LEAST_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embup_core.decoders.mixture_kriging.mixture_kriging import MixtureKriging

_decode: Callable[..., None] | None
try:
    from embup_core.decoders.mixture_kriging import _kernel

    _decode = _kernel.decode if _kernel.LAYOUT == 1 else None
except (ImportError, AttributeError):
    _decode = None

COMPILED: Final = _decode is not None
"""Whether the extension was built."""

_MOST_DIMS: Final = 256
"""Of z, of features and of neighbours: the extension keeps so many on its stack."""


class Kernel:
    """Decodes rows as a fitted decoder does; see `fits`.

    Parameters
    ----------
    decoder
        Fitted. Its larger tables are shared, but for the components' forms.
    """

    def __init__(self, decoder: MixtureKriging) -> None:
        residuals, ood, nearest = decoder.residuals_, decoder.ood_, decoder.nearest_
        sizes = (
            decoder.input_dims_, decoder.trend_dims_, decoder.mean_dims_, decoder.output_dims_,
            decoder.frequencies_.shape[1], len(nearest.points), decoder.features_.shape[1],
            decoder.neighbours, nearest.n_candidates(decoder.neighbours),
        )  # fmt: skip
        numbers = (
            decoder.radial_clamp_.radius**2, decoder.feature_scale_[0], decoder.length_scale, decoder.nugget,
            *ood.weights, *np.log(ood.length_scales), ood.broad_share, LEAST_SHARE, ood.mean_scale,
            *decoder.error_model_.row,
        )  # fmt: skip
        tables = (
            decoder.weights_, decoder.intercept_, nearest.points, decoder.features_, residuals.numbers,
            residuals.scale, decoder.frequencies_,
        )  # fmt: skip
        mixture, broad = decoder.mixtures
        self._decoder: tuple[Any, ...] = (
            np.array(sizes, np.int32),
            np.array(numbers, np.float32),
            tuple(_table(table) for table in tables),
            mixture.tables(),
            broad.tables(),
        )
        self._output_dims = decoder.output_dims_

    def __call__(
        self, points: NDArray[np.float32], candidates: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode rows.

        Parameters
        ----------
        points
            z in standard units: float32, shape (n, input_dims), C-contiguous.
        candidates
            Of `NearestRows.candidates`: int64, shape (n, c), C-contiguous.

        Returns
        -------
        rows, confidence
            As `Decoder.predict_with_confidence`.
        """
        assert _decode is not None  # noqa: S101 - `fits` said so
        n = len(points)
        rows, confidence = np.empty((n, self._output_dims), np.float32), np.empty(n, np.float32)
        _decode(self._decoder, n, points, candidates, rows, confidence)
        return rows, confidence


def fits(decoder: MixtureKriging) -> bool:
    """Whether the extension is there, and has this decoder's storage and size."""
    dims = (decoder.input_dims_, decoder.features_.shape[1], decoder.neighbours)
    return COMPILED and decoder.storage == "int8" and max(dims) <= _MOST_DIMS


def _table(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, None if array.dtype == np.int8 else np.float32)
