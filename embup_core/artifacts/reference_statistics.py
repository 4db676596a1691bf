"""What the short vectors were like that a decoder learned from, so that a service notices others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from embup_core.evaluation import ConfidenceDecile

MANIFEST_FIELD: Final = "reference_statistics"


@dataclass(frozen=True)
class ReferenceStatistics:
    """Statistics of training rows.

    Attributes
    ----------
    z_mean
        Mean of the unit rows: float64, shape (input dimensions,).
    confidence_mean
        Mean confidence of test rows, by a decoder that had not seen them: it is surer of rows that it knows.
        None where the decoder does not know its confidence.
    confidence_low
        What about a tenth of them lay below. An absolute limit would not do: where the originals have a
        common mean, even a vector from nowhere has a good part of its answer known.
    """

    z_mean: NDArray[np.float64]
    confidence_mean: float | None
    confidence_low: float | None

    @classmethod
    def of(cls, projected: NDArray[np.float32], deciles: Sequence[ConfidenceDecile]) -> Self:
        """Sum rows up.

        Parameters
        ----------
        projected
            float32, shape (n, input dimensions), unit rows.
        deciles
            By confidence, of an evaluation, the least first; empty where the decoder does not know its own.
        """
        z_mean = projected.mean(axis=0, dtype=np.float64)
        if not deciles:
            return cls(z_mean, None, None)
        mean = sum(one.confidence * one.rows for one in deciles) / sum(one.rows for one in deciles)
        least, next_to_it = deciles[:2]
        return cls(z_mean, mean, (least.confidence + next_to_it.confidence) / 2)

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        return {
            "z_mean": self.z_mean.tolist(),
            "confidence_mean": self.confidence_mean,
            "confidence_low": self.confidence_low,
        }

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> Self | None:
        """Read them; None from a manifest that has none, or what cannot be them: nothing rests on them."""
        try:
            content = manifest[MANIFEST_FIELD]
            z_mean = np.array(content["z_mean"], np.float64)
            mean, low = (
                None if content[name] is None else float(content[name])
                for name in ("confidence_mean", "confidence_low")
            )
            found = cls(z_mean, mean, low)
        except (LookupError, TypeError, ValueError):
            return None
        return found if z_mean.shape == (manifest["input_dims"],) and np.isfinite(z_mean).all() else None
