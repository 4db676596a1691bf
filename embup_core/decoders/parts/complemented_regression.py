"""Base class of regressions with a complement of one length scale: only the regression itself differs.

z is brought to standard units, the regression predicts the leading principal coordinates mu(z), and the
complement fills the remaining length (see `embup_core.decoders.parts.complement`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

from embup_core.decoders.parts.complement import complete_to_unit
from embup_core.decoders.parts.complemented_decoder import ComplementedDecoder, LengthScale, MeanDims
from embup_core.decoders.parts.standard_units import RadialClamp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ComplementedRegression(ComplementedDecoder):
    """A regression and the complement that fills it up; a decoder implements `fit_mean` and `mean`.

    `mean` is never evaluated beyond the training rows (see `RadialClamp`).

    Parameters
    ----------
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    complement_length_scale
        Distance, in standard units of z, over which two complements stay alike.
    seed
        Of the complement's random frequencies.
    """

    def __init__(self, *, mean_dims: MeanDims, complement_length_scale: LengthScale, seed: int) -> None:
        self.mean_dims = mean_dims
        self.complement_length_scale = complement_length_scale
        self.seed = seed

    @abstractmethod
    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Learn the regression.

        Parameters
        ----------
        points
            z in standard units: float32, shape (n, input_dims).
        targets
            Leading principal coordinates: float32, shape (n, mean_dims).
        """

    @abstractmethod
    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """mu(z), what the regression predicts: float32 (n, input_dims) -> float32 (n, mean_dims)."""

    def _fit_principal(self, projected: NDArray[np.float32], principal: NDArray[np.float32]) -> None:
        """Learn standard units and the regression."""
        points = self._fit_units(projected, length_scale=self.complement_length_scale)
        self.radial_clamp_ = RadialClamp.fit(points)
        self.fit_mean(points, self._targets(principal))

    def _predict(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Regress within the radius, complete."""
        points = self.standardisation_(projected)
        mean = self.mean(self.radial_clamp_(points))
        return complete_to_unit(mean, points, self.frequencies_, self.output_dims_)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), **self.radial_clamp_.arrays()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        self.radial_clamp_ = RadialClamp.restore(arrays)
        return self
