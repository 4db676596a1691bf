"""The recovered map from originals to projected embeddings, as an artifact keeps it.

It is kept in the principal axes of the version's basis (`embup_core.geometry.basis`), which are the leading
dimensions of decoded vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.geometry.transform import AffineTransform

MANIFEST_FIELD: Final = "transform"
_NUMBERS = ("median_angle", "p99_angle", "explained", "curvature", "penalty")


@dataclass(frozen=True, eq=False)
class RecoveredMap:
    """z = (c A + b) / |c A + b|, or the finding that no affine map fits.

    Attributes
    ----------
    affine
        Whether an affine map fits.
    median_angle, p99_angle
        Radians between a row of z and its prediction by a fit without this row.
    explained
        R2 of z.
    curvature
        Share of the errors that squares and cubes of the prediction explain.
    penalty
        The fit's ridge penalty.
    rows_used
        Rows that A and b were fitted on.
    matrix
        A: float32, shape (r, d), for c in principal axes. None where no affine map fits.
    offset
        b: float32, shape (d,). A and b have one arbitrary, positive scale.
    """

    affine: bool
    median_angle: float
    p99_angle: float
    explained: float
    curvature: float
    penalty: float
    rows_used: int
    matrix: NDArray[np.float32] | None = None
    offset: NDArray[np.float32] | None = None

    @classmethod
    def from_fit(cls, transform: AffineTransform) -> Self:
        """Keep a map that was fitted to coordinates in principal axes."""
        found = cls.from_figures(transform.to_json())
        if not found.affine:
            return found
        return replace(
            found,
            matrix=transform.matrix.astype(np.float32),
            offset=transform.offset.astype(np.float32),
        )

    @classmethod
    def from_figures(cls, figures: Mapping[str, Any]) -> Self:
        """Read figures, without A and b; raises `ValueError` for one that is missing or none."""
        try:
            affine, rows_used = figures["affine"], figures["rows_used"]
            numbers = {name: float(figures[name]) for name in _NUMBERS}
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{MANIFEST_FIELD}: a figure is missing or no number") from error
        known = type(affine) is bool and type(rows_used) is int
        if not known or not np.isfinite([*numbers.values()]).all():
            raise ValueError(f"{MANIFEST_FIELD}: a figure is of another type or not finite")
        return cls(
            affine=affine,
            median_angle=numbers["median_angle"],
            p99_angle=numbers["p99_angle"],
            explained=numbers["explained"],
            curvature=numbers["curvature"],
            penalty=numbers["penalty"],
            rows_used=rows_used,
        )

    def project(self, coordinates: NDArray[np.floating]) -> NDArray[np.float32]:
        """Apply the map.

        Parameters
        ----------
        coordinates
            In principal axes: shape (m, k). Those beyond r are not looked at, and missing ones count as 0.

        Returns
        -------
        float32, shape (m, d), unit rows.

        Raises
        ------
        ValueError
            No affine map fits.
        """
        if self.matrix is None or self.offset is None:
            raise ValueError("Expected an affine map, found that none fits.")
        known = min(coordinates.shape[1], len(self.matrix))
        projected = coordinates[:, :known] @ self.matrix[:known] + self.offset
        unit: NDArray[np.floating] = projected / np.linalg.norm(projected, axis=1, keepdims=True)
        return unit.astype(np.float32)

    def describe(self) -> str:
        """Sentences for people."""
        angles = f"median angle {self.median_angle:.1e}, 99 % below {self.p99_angle:.1e} radians"
        if not self.affine:
            return f"No affine map fits ({angles}, R2 {self.explained:.3f}), and none is kept."
        return (
            f"An affine map predicts rows of z that it was not fitted on ({angles}). "
            f"It was fitted on {self.rows_used:,} rows with a ridge penalty of {self.penalty:g}."
        )

    def to_json(self) -> dict[str, Any]:
        """The figures, for the manifest."""
        return {"affine": self.affine, "rows_used": self.rows_used} | {
            name: getattr(self, name) for name in _NUMBERS
        }

    def tensors(self) -> bytes | None:
        """A and b as safetensors, ``matrix`` and ``offset``; None where no affine map fits."""
        arrays = self.arrays()
        return (
            tensors_to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()})
            if arrays
            else None
        )

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """A and b by name; none where no affine map fits."""
        if self.matrix is None or self.offset is None:
            return {}
        return {"matrix": self.matrix, "offset": self.offset}

    @classmethod
    def from_arrays(cls, figures: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float32]]) -> Self:
        """Rebuild an affine map; raises `ValueError` for figures or numbers that are none."""
        found = cls.from_figures(figures)
        if not found.affine:
            raise ValueError("expected the figures of an affine map")
        for name in ("matrix", "offset"):
            if arrays[name].dtype != np.float32 or not np.isfinite(arrays[name]).all():
                raise ValueError(f"tensor {name}: expected finite float32")
        return replace(found, matrix=arrays["matrix"], offset=arrays["offset"])

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], data: bytes | None = None) -> Self | None:
        """Read the figures of a manifest, and A and b.

        Parameters
        ----------
        manifest
            Of an artifact.
        data
            What `tensors` made; None leaves the arrays out.

        Returns
        -------
        None where the manifest has none, as those of earlier artifacts.

        Raises
        ------
        ValueError
            The figures or the arrays are not those of a map between the manifest's dimensions.
        """
        content = manifest.get(MANIFEST_FIELD)
        if content is None:
            return None
        found = cls.from_figures(content)
        if data is None:
            return found
        try:
            arrays = tensors_from_bytes(data)
        except SafetensorError as error:
            raise ValueError(f"expected safetensors ({error})") from error
        rank = arrays["matrix"].shape[0] if "matrix" in arrays and arrays["matrix"].ndim else 0
        expected = {"matrix": (rank, manifest["input_dims"]), "offset": (manifest["input_dims"],)}
        shapes = {name: array.shape for name, array in arrays.items()}
        if shapes != expected or not 0 < rank <= manifest["output_dims"]:
            raise ValueError(f"expected tensors of shapes {expected}, found {str(shapes)[:200]}")
        return cls.from_arrays(content, arrays)
