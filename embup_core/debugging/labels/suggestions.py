"""Which rows to ask labels for next: those a classifier is least sure of, but not all of one kind.

Candidates are the 8 b rows of least margin between the two most probable classes (Scheffer, Decomain &
Wrobel, 2001). K-means divides them into b clusters, and the row nearest to each centre is taken (Zhdanov,
2019). The margin weighs each row in the clustering.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.debugging.features.neighbours import centred_units, principal_components
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

CANDIDATES_PER_ROW: Final = 8

_MOST_DIMS = 64


@extra_required()
def suggest_rows(
    margin: NDArray[np.floating],
    vectors: NDArray[np.float32],
    unlabelled: NDArray[np.bool_],
    *,
    count: int,
    sets: Indices | None = None,
    seed: int = 0,
) -> Indices:
    """Choose rows to label.

    Parameters
    ----------
    margin
        Difference of the two largest probabilities: shape (n,), NaN where there are none; those rows come
        last, in their order.
    vectors
        Features of the rows: float32, shape (n, d).
    unlabelled
        Rows that can be chosen: bool, shape (n,).
    count
        How many to choose.
    sets
        Which rows are copies of each other: int64, shape (n,). Of copies the first is taken alone.
    seed
        Of k-means. The same arguments give the same rows.

    Returns
    -------
    At most `count` rows, least margin first: int64.

    Raises
    ------
    MissingExtraError
        scikit-learn is not installed.
    """
    from sklearn.cluster import KMeans

    candidates = np.flatnonzero(unlabelled)
    if sets is not None:
        _, first = np.unique(sets[candidates], return_index=True)
        candidates = candidates[np.sort(first)]
    uncertain = np.where(np.isfinite(margin), margin, np.inf)[candidates]
    pool = candidates[np.argsort(uncertain, kind="stable")[: CANDIDATES_PER_ROW * count]]
    places = np.isfinite(margin[pool])
    places[places] = np.isfinite(centred_units(vectors[pool[places]])).all(axis=1)
    clustered = pool[places]
    if len(pool) <= count or len(clustered) <= count:
        return np.asarray(np.concatenate([clustered, pool[~places]])[:count])
    points = principal_components(centred_units(vectors[clustered]), _MOST_DIMS, seed=seed)
    weights = 1 - margin[clustered].astype(np.float64) + 1e-3
    model = KMeans(count, n_init=1, random_state=seed % 2**32).fit(points, sample_weight=weights)
    distance = model.transform(points)[np.arange(len(points)), model.labels_]
    # The nearest of each cluster comes first in it.
    order = np.lexsort((distance, model.labels_))
    _, first = np.unique(model.labels_[order], return_index=True)
    chosen = clustered[order[first]]
    return np.asarray(chosen[np.argsort(margin[chosen], kind="stable")])
