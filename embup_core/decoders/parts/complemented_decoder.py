"""Base class of all decoders with a complement: principal axes, standard units of z, random frequencies."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

import numpy as np
from annotated_types import Ge, Gt, MultipleOf

from embup_core.decoders.base import Decoder, padded, require_shape, unit_rows
from embup_core.decoders.parts.complement import complement_frequencies, read_complement
from embup_core.decoders.parts.standard_units import Standardisation, principal_axes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.decoders.parts.neighbours import NearestRows

_PHASES_A_NUMBER = 4
"""As many phases as numbers of z would do, were there no whole turns to find out."""

MeanDims: TypeAlias = Annotated[int, Ge(2), MultipleOf(2)]
LengthScale: TypeAlias = Annotated[float, Gt(0)]


class ComplementedDecoder(Decoder):
    """A regression of ``mean_dims_`` dimensions; its complement fills the others of ``output_dims_``.

    Attributes
    ----------
    mean_dims
        Dimensions of the regression, where the output has enough of them; even.
    seed
        Of the complement's random frequencies, where no basis has them.
    """

    mean_dims: int
    seed: int

    standardisation_: Standardisation
    frequencies_: NDArray[np.float32]

    @property
    def mean_dims_(self) -> int:
        """Dimensions of the regression: ``mean_dims``, but at most three quarters of the output's; even.

        A complement of few dimensions has large chance dot products, of variance 1 / dimensions.
        """
        return min(self.mean_dims, 2 * (3 * self.output_dims_ // 8))

    @property
    def training_rows(self) -> NearestRows | None:
        """The training rows' z in standard units, in their order; None where it does not hold them."""
        return None

    @property
    def _n_frequencies(self) -> int:
        return (self.output_dims_ - self.mean_dims_) // 2

    def _fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> None:
        """Bring coordinates to principal axes; those in a basis are there already."""
        if self._basis is None:
            coordinates = coordinates @ principal_axes(coordinates, coordinates.shape[1])
        self._fit_principal(projected, coordinates)

    @abstractmethod
    def _fit_principal(self, projected: NDArray[np.float32], principal: NDArray[np.float32]) -> None:
        """Learn from z, float32 (n, input_dims_), and principal coordinates, float32 (n, r)."""

    def _fit_units(self, projected: NDArray[np.float32], *, length_scale: float) -> NDArray[np.float32]:
        """Learn standard units, draw frequencies; return z in standard units: float32 (n, input_dims)."""
        if self._basis is not None:
            self.standardisation_ = self._basis.standardisation
            self.frequencies_ = self._basis.complement_frequencies(
                self._n_frequencies, length_scale=length_scale
            )
        else:
            self.standardisation_ = Standardisation.fit(projected)
            self.frequencies_ = complement_frequencies(
                self.input_dims_, self._n_frequencies, length_scale=length_scale, seed=self.seed
            )
        return self.standardisation_(projected)

    def _targets(self, principal: NDArray[np.float32]) -> NDArray[np.float32]:
        """Leading principal coordinates, what the regression learns: float32, shape (n, mean_dims_)."""
        return padded(np.ascontiguousarray(principal[:, : self.mean_dims_]), self.mean_dims_)

    def _complement_points(self, projected: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the complement's phases are made of: float32, shape (n, input_dims), a multiple of z there."""
        return self.standardisation_(projected)

    def read_projected(
        self, rows: NDArray[np.float32], near: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The z that decoded rows were made of, as their complements tell.

        Parameters
        ----------
        rows
            Decoded, by this decoder or another one of the same basis: float32, shape (n, output_dims).
        near
            About the z that is asked for: float32, shape (n, input_dims), unit rows.

        Returns
        -------
        projected
            float32, shape (n, input_dims), unit rows.
        error
            Of the phases, in radians: float64, shape (n,). Small for decoded rows, mostly above 0.3 for
            others, and infinite where the complement has too few phases to tell.
        """
        if self._n_frequencies < _PHASES_A_NUMBER * self.input_dims_:
            return near, np.full(len(rows), np.inf)
        points, error = read_complement(
            rows[:, self.mean_dims_ :], self._complement_points(near), self.frequencies_
        )
        # z = centre + t points, with t > 0 so that z is a unit vector: the length scale need not be known.
        centre = self.standardisation_.centre.astype(np.float64)
        a = np.maximum(np.vecdot(points, points), np.finfo(np.float64).tiny)  # (n,)
        b = points @ centre
        t = (np.sqrt(np.maximum(b * b + a * (1 - centre @ centre), 0)) - b) / a
        return unit_rows((centre + t[:, None] * points).astype(np.float32)), error

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays."""
        return {**super().arrays(), **self.standardisation_.arrays(), "frequencies": self.frequencies_}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays; see `Decoder.restore`."""
        super().restore(arrays)
        self.standardisation_ = Standardisation.restore(arrays, self.input_dims_)
        self.frequencies_ = require_shape(arrays, "frequencies", self.input_dims_, self._n_frequencies)
        return self
