"""Rows that no version is trained on, ever: what the version in service and a new decoder are compared on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.evaluation.cosines import Cosines
    from embup_core.training.sample import Sample

MOST_CLUSTERS: Final = 16
ROWS_A_CLUSTER: Final = 40


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
    def of_test_rows(cls, sample: Sample, labels: Mapping[str, NDArray[Any]] | None = None) -> Self:
        """The test rows of a sample, where these are held out of every version.

        Parameters
        ----------
        sample
            Its test rows must be those that no version was trained on.
        labels
            Of all rows of the sample, shape (N,), by what they say. Clusters of the originals are added.
        """
        rows = sample.rows.test
        coordinates = np.ascontiguousarray(sample.coordinates[rows])
        slices = {name: np.asarray(of)[rows] for name, of in (labels or {}).items()}
        return cls(sample.projected[rows], coordinates, {**slices, "cluster": cluster_labels(coordinates)})


def cluster_labels(coordinates: NDArray[np.float32]) -> NDArray[np.int32]:
    """Clusters of originals, 40 rows or more on average: int32, shape (n,).

    Parameters
    ----------
    coordinates
        float32, shape (n, r), unit rows.
    """
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    clusters = max(1, min(MOST_CLUSTERS, len(coordinates) // ROWS_A_CLUSTER))
    if clusters == 1:
        return np.zeros(len(coordinates), np.int32)
    model = MiniBatchKMeans(clusters, n_init=1, random_state=0)
    with threadpool_limits(1):  # several threads would add up centres in any order
        found: NDArray[np.int32] = model.fit_predict(coordinates)
    return found
