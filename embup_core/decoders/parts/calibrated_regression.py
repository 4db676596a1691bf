"""Base class of decoders with calibrated errors.

A regression, a complement whose length scale depends on the out-of-distribution score, calibrated errors:
only the regression itself differs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, Self

from embup_core.decoders.parts.complement import complete_to_unit
from embup_core.decoders.parts.complemented_decoder import ComplementedDecoder
from embup_core.decoders.parts.error_model import ErrorModel
from embup_core.decoders.parts.out_of_distribution import OutOfDistribution

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class CalibratedRegression(ComplementedDecoder):
    """A regression, its complement, calibrated errors; a decoder implements `regression`."""

    ood_: OutOfDistribution
    error_model_: ErrorModel

    @abstractmethod
    def regression(
        self, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """What is completed to unit rows.

        Parameters
        ----------
        points
            z in standard units: float32, shape (n, input_dims).

        Returns
        -------
        mean
            mu: float32, shape (n, mean_dims).
        ood_score
            From 0 to 1: float32, shape (n,).
        complement_points
            z in units of the complement's length scale: float32, shape (n, input_dims).
        """

    def _predict(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Regress, complete, and predict the error."""
        mean, ood_score, complement_points = self.regression(self.standardisation_(projected))
        rows, explained = complete_to_unit(mean, complement_points, self.frequencies_, self.output_dims_)
        return rows, self.error_model_.confidence(explained, ood_score)

    def _complement_points(self, projected: NDArray[np.float32]) -> NDArray[np.float32]:
        """In units of each row's length scale; see `ComplementedDecoder`."""
        return self.regression(self.standardisation_(projected))[2]

    def cosine_standard_error(
        self,
        rows: NDArray[np.float32],
        confidence: NDArray[np.float32],
        other_rows: NDArray[np.float32],
        other_confidence: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Standard errors of decoded cosines; see `Decoder.cosine_standard_error`."""
        d = self.mean_dims_
        return self.error_model_.cosine_standard_error(
            rows[:, d:], confidence, other_rows[:, d:], other_confidence
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {
            **super().arrays(),
            **self.ood_.arrays(),
            **self.error_model_.arrays(),
        }

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        self.ood_ = OutOfDistribution.restore(arrays)
        self.error_model_ = ErrorModel.restore(arrays)
        return self
