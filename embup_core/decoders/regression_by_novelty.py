"""A regression completed by a residual that reaches as far as a row is new, and that knows its errors.

What neural kriging and the student learned from it share: only the regression itself differs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

from embup_core.decoders.base import Decoder, require_shape
from embup_core.decoders.novelty import Novelty
from embup_core.decoders.residual import completed
from embup_core.decoders.residual_network import ResidualNetwork
from embup_core.decoders.standard_units import Standardisation
from embup_core.decoders.uncertainty import Uncertainty
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RegressionByNovelty(Decoder):
    """A network's regression, the residual by novelty, calibrated errors; a decoder gives `regression`.

    Attributes
    ----------
    width, blocks
        Of the network.
    mean_dims
        Dimensions of the regression; the other 1536 - mean_dims hold the residual.
    """

    width: int
    blocks: int
    mean_dims: int

    standardisation_: Standardisation
    network_: ResidualNetwork
    novelty_: Novelty
    uncertainty_: Uncertainty
    frequencies_: NDArray[np.float32]

    @abstractmethod
    def regression(
        self, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """What is completed to unit rows.

        Parameters
        ----------
        points
            z in standard units: float32, shape (n, 32).

        Returns
        -------
        mean
            mu: float32, shape (n, mean_dims).
        novelty
            From 0 to 1: float32, shape (n,).
        residual_points
            z in units of the residual's reach: float32, shape (n, 32).
        """

    def predict_with_confidence(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode; see `Decoder.predict_with_confidence`."""
        mean, novelty, residual_points = self.regression(self.standardisation_(projected))
        rows, explained = completed(mean, residual_points, self.frequencies_)
        return rows, self.uncertainty_.confidence(explained, novelty)

    def cosine_standard_error(
        self,
        rows: NDArray[np.float32],
        confidence: NDArray[np.float32],
        other_rows: NDArray[np.float32],
        other_confidence: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Standard errors of decoded cosines; see `Decoder.cosine_standard_error`."""
        d = self.mean_dims
        return self.uncertainty_.cosine_standard_error(
            rows[:, d:], confidence, other_rows[:, d:], other_confidence
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {
            **self.standardisation_.arrays(),
            **self.network_.arrays(),
            **self.novelty_.arrays(),
            **self.uncertainty_.arrays(),
            "frequencies": self.frequencies_,
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up learned arrays."""
        self.standardisation_ = Standardisation.restore(arrays)
        self.network_ = ResidualNetwork.restore(arrays, INPUT_DIMS, self.width, self.blocks, self.mean_dims)
        self.novelty_ = Novelty.restore(arrays)
        self.uncertainty_ = Uncertainty.restore(arrays)
        self.frequencies_ = require_shape(
            arrays, "frequencies", INPUT_DIMS, (OUTPUT_DIMS - self.mean_dims) // 2
        )
        return self
