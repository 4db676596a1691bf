"""Rows that no version is trained on, ever: what the version in service and a new decoder are compared on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from embup_core.errors import ArtifactError
from embup_core.training.promotion.gate import compare_on_held_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry
    from embup_core.decoders import Decoder
    from embup_core.evaluation.cosines import Cosines
    from embup_core.training.promotion.decision import PreviousVersion
    from embup_core.training.promotion.result import GateResult
    from embup_core.training.sample import Sample

ROWS_OF_A_CLUSTER: Final = 100
MOST_CLUSTERS: Final = 8
CLUSTERED_DIMS: Final = 32


@dataclass(frozen=True)
class HeldOutRows:
    """Held-out rows of all deliveries.

    Attributes
    ----------
    projected
        z: float32, shape (n, d), unit rows.
    true
        True cosines between them: of shape (n, n), or coordinates, float32, shape (n, r), unit rows.
    slices
        Labels of the rows, shape (n,), by what they say: drop, group, cluster.
    """

    projected: NDArray[np.float32]
    true: Cosines | NDArray[np.float32]
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, sample: Sample) -> Self:
        """The test rows of a source that says which ones these are, by what they are and by cluster."""
        test = sample.rows.test
        true = np.asarray(sample.coordinates[test])
        slices = {name: labels[test] for name, labels in sample.parts.items()}
        return cls(sample.projected[test], true, slices | {"cluster": _clusters(true)})

    def compare(
        self, registry: Registry, previous: PreviousVersion | None, new: Decoder, *, seed: int = 0
    ) -> GateResult | None:
        """Compare a new decoder with the previous version; None where that is not there or cannot be used."""
        if previous is None or not previous.is_readable:
            return None
        try:
            old = registry.load_artifact(previous.version).decoder
            return compare_on_held_out(
                old, new, self.projected, self.true, self.slices, previous=previous.version, seed=seed
            )
        except (ArtifactError, ValueError):  # damaged, or of other dimensions
            return None


def _clusters(coordinates: NDArray[np.float32]) -> NDArray[np.int32]:
    """Number of the cluster of each row, by k-means in the first principal axes: int32, shape (n,)."""
    from sklearn.cluster import KMeans

    count = min(MOST_CLUSTERS, max(1, len(coordinates) // ROWS_OF_A_CLUSTER))
    rows = coordinates[:, :CLUSTERED_DIMS]
    labels: NDArray[np.int32] = KMeans(count, n_init=1, random_state=0).fit_predict(rows)
    return labels
