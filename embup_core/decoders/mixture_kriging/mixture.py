"""Regression by a mixture of Gaussians: the mean of an original given its short vector.

Component k holds pairs of an original c and its z, jointly Gaussian with means m_k and nu_k and covariances
C_k of c with z and S_k of z. Given z, its probability is that of N(nu_k, S_k), and

    E[c | z, k] = m_k + C_k S_k^-1 (z - nu_k)

(Gaussian mixture regression: Ghahramani & Jordan, 1994; Sung, 2004). Components are the clusters of several
clusterings of the originals, all in one mixture. That averages over where a clustering happens to cut, which
is what makes it good. Covariances are shrunk towards the pooled ones within clusters (Friedman, 1989).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CLUSTER_DIMS = 64
_GATHERED_ROWS = 8
"""Rows whose gains are gathered at a time: as many as stay in a processor's second cache."""
_PADDED = 64
"""Of so many numbers a row of coarse forms is a multiple."""
_LEAST_VARIANCE = 1e-6
"""Of whitened z: equal rows, or z of fewer dimensions than columns, would make it 0."""


@dataclass(frozen=True)
class MixtureSettings:
    """How a mixture is made, and how much of it a row uses.

    Attributes
    ----------
    clusterings
        Of the same rows, each from its own seed.
    rows_a_cluster
        On average, as long as there are at most `most_clusters`.
    most_clusters
        Of a clustering: with more rows clusters grow, so that the time to decode a row does not.
    shrinkage
        Weight of the pooled covariance, in rows.
    spread
        Factor of all covariances: unseen rows lie farther out than the rows that a cluster was made of.
    temperature
        Exponent of the components' probabilities.
    components
        Most probable components that a row uses.
    """

    clusterings: int
    rows_a_cluster: int
    most_clusters: int
    shrinkage: float
    spread: float
    temperature: float
    components: int


def cluster_rows(targets: NDArray[np.float32], settings: MixtureSettings, seed: int) -> NDArray[np.int32]:
    """Cluster of each row in each clustering: int32, shape (clusterings, n), numbered without gaps.

    Parameters
    ----------
    targets
        Leading principal coordinates: float32, shape (n, d).
    settings
        Of the mixture.
    seed
        Of the first clustering; each other has the next.
    """
    from sklearn.cluster import MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    n_clusters = min(max(len(targets) // settings.rows_a_cluster, 2), settings.most_clusters)
    labels = np.empty((settings.clusterings, len(targets)), np.int32)
    with threadpool_limits(1):  # several threads would add up centres in any order
        for i in range(settings.clusterings):
            model = MiniBatchKMeans(n_clusters, n_init=1, batch_size=2048, random_state=(seed + i) % 2**32)
            found = model.fit_predict(targets[:, :_CLUSTER_DIMS])
            labels[i] = np.unique(found, return_inverse=True)[1]  # a cluster may have no row
    return labels


class Mixture:
    """The mixture, ready to be conditioned.

    Parameters
    ----------
    targets
        Leading principal coordinates of the fitted rows: float32, shape (n, d).
    points
        z of the fitted rows, in any units: float32, shape (n, r).
    labels
        Of `cluster_rows`: int32, shape (clusterings, n).
    settings
        How it is made.

    Notes
    -----
    Everything that conditioning needs is derived from these, so they are all that is stored.
    """

    def __init__(
        self,
        targets: NDArray[np.float32],
        points: NDArray[np.float32],
        labels: NDArray[np.int32],
        settings: MixtureSettings,
    ) -> None:
        self.settings = settings
        r = points.shape[1]
        clusterings = [_Clustering.of(targets, points, one, settings) for one in labels]
        covariance = np.concatenate([one.covariance for one in clusterings])  # (K, r, r)
        means = np.concatenate([one.means for one in clusterings])  # (K, d)
        centres = np.concatenate([one.centres for one in clusterings])  # (K, r)
        log_weights = np.log(np.concatenate([one.weights for one in clusterings]) / len(labels))  # (K,)
        # In units in which the average component is round, no sum of a quadratic form cancels in float32.
        variances, axes = np.linalg.eigh(covariance.mean(axis=0))
        whitening = axes / np.sqrt(np.maximum(variances, _LEAST_VARIANCE))  # (r, r)
        covariance = whitening.T @ covariance @ whitening + _LEAST_VARIANCE * np.eye(r)
        precision = np.linalg.inv(covariance)  # (K, r, r)
        centres = centres @ whitening
        linear = np.einsum("kij,kj->ki", precision, centres)  # (K, r)
        log_determinant = np.linalg.slogdet(covariance)[1]
        self._whitening = whitening.astype(np.float32)
        # log p(z, k) is a sum of products z_i z_j, of z_i and a constant, with one factor each.
        self._pairs = np.triu_indices(r)
        i, j = self._pairs
        factors = np.where(i == j, -0.5, -1.0)  # of a symmetric matrix only one half is multiplied
        self._forms = np.concatenate([precision[:, i, j] * factors, linear], axis=1).T.astype(np.float32)
        self._forms = np.ascontiguousarray(self._forms)  # (pairs + r, K)
        self._constant = (
            log_weights - (log_determinant + np.einsum("ki,ki->k", centres, linear)) / 2
        ).astype(np.float32)
        # Gains, and below them the component's mean for z = 0: (K, r + 1, d).
        self._gains = np.empty((len(means), r + 1, targets.shape[1]), np.float32)
        start = 0
        for one in clusterings:
            block = slice(start, start + len(one.means))
            across = np.swapaxes(one.cross @ self._whitening, 1, 2)  # (k, r, d)
            np.matmul(precision[block].astype(np.float32), across, out=self._gains[block, :r])
            start = block.stop
        self._gains[:, r] = means - np.einsum("ki,kid->kd", centres.astype(np.float32), self._gains[:, :r])

    def tables(self) -> tuple[tuple[NDArray[Any], ...], int, int, float, float, float]:
        """What `_rows.h` needs, in its order.

        The forms are there a second time, less what all components share and in one byte a number: they tell
        which components may be among the most probable, and only the forms of these are read in full.
        """
        pairs = len(self._pairs[0])
        full = np.ascontiguousarray(self._forms.T)
        components, width = full.shape
        forms = full - full.mean(axis=0)  # (K, pairs + r)
        smallest = np.finfo(np.float32).tiny
        linear_unit = np.abs(forms[:, pairs:]).max() / max(np.abs(forms[:, :pairs]).max(), smallest)
        forms[:, pairs:] /= max(linear_unit, smallest)  # z is multiplied by it instead
        unit = np.maximum(np.abs(forms).max(axis=1) / 127, smallest)  # (K,)
        coarse = np.zeros((components, -(-width // _PADDED) * _PADDED), np.int8)
        coarse[:, :width] = np.rint(forms / unit[:, None])
        # Half a unit of what is multiplied, rounded, puts a coarse logarithm off by at most so many times it.
        form_sum = float((np.abs(forms).sum(axis=1) + width * unit / 2).max())
        return (
            (self._whitening, coarse, unit, full, self._constant, self._gains),
            components,
            min(self.settings.components, components),
            self.settings.temperature,
            form_sum,
            float(linear_unit),
        )

    def __call__(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """E[c | z]: z, float32 (n, r) -> float32 (n, d)."""
        z = points @ self._whitening  # (n, r)
        n, r = z.shape
        i, j = self._pairs
        logs = np.concatenate([z[:, i] * z[:, j], z], axis=1) @ self._forms  # (n, K)
        logs += self._constant
        m = min(self.settings.components, logs.shape[1])
        chosen = np.argpartition(logs, logs.shape[1] - m, axis=1)[:, logs.shape[1] - m :]  # (n, m)
        shares = logs[np.arange(n)[:, None], chosen]  # (n, m)
        shares -= shares.max(axis=1, keepdims=True)
        shares *= np.float32(self.settings.temperature)
        np.exp(shares, out=shares)
        shares /= shares.sum(axis=1, keepdims=True)
        factors = np.empty((n, m, r + 1), np.float32)
        np.multiply(shares[:, :, None], z[:, None, :], out=factors[:, :, :r])
        factors[:, :, r] = shares
        mean = np.empty((n, self._gains.shape[2]), np.float32)
        for start in range(0, n, _GATHERED_ROWS):
            rows = slice(start, start + _GATHERED_ROWS)
            gains = self._gains[chosen[rows]]  # (b, m, r + 1, d)
            b = len(gains)
            # (b, m, r + 1) -> (b, 1, m (r + 1)) @ (b, m (r + 1), d) -> (b, 1, d)
            mean[rows] = (factors[rows].reshape(b, 1, -1) @ gains.reshape(b, m * (r + 1), -1))[:, 0]
        return mean


@dataclass(frozen=True)
class _Clustering:
    """Moments of the clusters of one clustering.

    Attributes
    ----------
    weights
        Share of the rows: float64, shape (k,).
    means, centres
        m and nu: float32, shape (k, d), and float64, shape (k, r).
    covariance
        S, shrunk: float64, shape (k, r, r).
    cross
        C, shrunk: float32, shape (k, d, r).
    """

    weights: NDArray[np.float64]
    means: NDArray[np.float32]
    centres: NDArray[np.float64]
    covariance: NDArray[np.float64]
    cross: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        targets: NDArray[np.float32],
        points: NDArray[np.float32],
        labels: NDArray[np.int32],
        settings: MixtureSettings,
    ) -> Self:
        n, (d, r) = len(targets), (targets.shape[1], points.shape[1])
        order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels)
        k = len(counts)
        starts = np.cumsum(counts) - counts
        means = np.add.reduceat(targets[order], starts, axis=0)
        means /= counts[:, None]
        z = points[order].astype(np.float64)
        centres = np.add.reduceat(z, starts, axis=0) / counts[:, None]
        x = targets[order] - means[labels[order]]  # deviations within clusters: (n, d)
        z -= centres[labels[order]]  # (n, r)
        z32 = z.astype(np.float32)
        left = n / max(n - k, 1)  # degrees of freedom that the means take
        pooled = z.T @ z * (left / n)  # (r, r)
        pooled_cross = x.T @ z32 * np.float32(left / n)  # (d, r)
        covariance, cross = np.empty((k, r, r)), np.empty((k, d, r), np.float32)
        for i, (start, count) in enumerate(zip(starts, counts, strict=True)):
            rows = slice(start, start + count)
            factor = settings.spread * (1 + 1 / count) / (count + settings.shrinkage)
            covariance[i] = factor * (z[rows].T @ z[rows] + settings.shrinkage * pooled)
            cross[i] = x[rows].T @ z32[rows]
            cross[i] += np.float32(settings.shrinkage) * pooled_cross
            cross[i] *= np.float32(factor)
        return cls(counts / n, means, centres, covariance, cross)
