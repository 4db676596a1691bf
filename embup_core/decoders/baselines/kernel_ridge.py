"""Ridge regression in the space of a Gaussian kernel, completed to unit length by the complement.

The kernel's features are approximated by its values at landmarks, a random subset of the training rows
(Nystroem; Williams & Seeger, 2000; scikit-learn's `Nystroem` and `Ridge`). So fitting costs n * landmarks^2
instead of n^3, and an artifact grows with the landmarks instead of the rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt

from embup_core.decoders.base import Seed
from embup_core.decoders.parts.complemented_decoder import LengthScale, MeanDims
from embup_core.decoders.parts.complemented_regression import ComplementedRegression

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.base import Shape


class KernelRidge(ComplementedRegression):
    """Kernel ridge regression on landmarks plus complement.

    Parameters
    ----------
    landmarks
        Training rows that the kernel is evaluated at; all of them where there are fewer.
    length_scale
        Of the Gaussian kernel exp(-distance^2 / (2 length_scale^2)), in standard units of z.
    alpha
        Ridge penalty on the squared weights of the kernel's features.
    mean_dims
        Dimensions of the regression, at most three quarters of the output's; the complement has the others.
        Even.
    complement_length_scale
        Distance, in standard units of z, over which two complements stay alike.
    seed
        Of the landmarks and of the complement's random frequencies.
    """

    name: ClassVar[str] = "kernel_ridge"
    summary: ClassVar[str] = "kernel ridge regression on landmarks + orthogonal complement"
    fitted_with: ClassVar[tuple[str, ...]] = ("scikitlearn",)
    stores: ClassVar[str] = "the projected embeddings of training rows"

    def __init__(
        self,
        *,
        landmarks: Annotated[int, Ge(1)] = 1024,
        length_scale: Annotated[float, Gt(0)] = 4.0,
        alpha: Annotated[float, Ge(0)] = 0.1,
        mean_dims: MeanDims = 384,
        complement_length_scale: LengthScale = 1.5,
        seed: Seed = 0,
    ) -> None:
        super().__init__(mean_dims=mean_dims, complement_length_scale=complement_length_scale, seed=seed)
        self.landmarks = landmarks
        self.length_scale = length_scale
        self.alpha = alpha

    def fit_mean(self, points: NDArray[np.float32], targets: NDArray[np.float32]) -> None:
        """Choose landmarks and learn weights."""
        from sklearn.kernel_approximation import Nystroem
        from sklearn.linear_model import Ridge

        features = Nystroem(
            gamma=self._gamma, n_components=min(self.landmarks, len(points)), random_state=self.seed
        ).fit(points.astype(np.float64))
        ridge = Ridge(alpha=self.alpha).fit(features.transform(points.astype(np.float64)), targets)
        self.landmarks_ = features.components_.astype(np.float32)
        # Features are kernel values times the normalisation, predictions features times the coefficients.
        self.weights_ = (features.normalization_.T @ ridge.coef_.T).astype(np.float32)
        self.intercept_ = ridge.intercept_.astype(np.float32)

    def mean(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weighted sum of the kernel's values at the landmarks."""
        squared = (
            np.vecdot(points, points)[:, None]
            + np.vecdot(self.landmarks_, self.landmarks_)
            - 2 * (points @ self.landmarks_.T)
        )  # (n, landmarks)
        kernel = np.exp(np.float32(-self._gamma) * squared)
        predicted: NDArray[np.float32] = kernel @ self.weights_ + self.intercept_
        return predicted

    @property
    def _gamma(self) -> float:
        return 1 / (2 * self.length_scale**2)

    def array_shapes(self) -> dict[str, Shape]:
        """Shapes of the learned arrays."""
        return super().array_shapes() | {
            "landmarks": ("landmarks", self.input_dims_),
            "weights": ("landmarks", self.mean_dims_),
            "intercept": (self.mean_dims_,),
        }
