"""What accepted drops have fixed: landmarks and their basis, and the map from originals to z."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from safetensors.numpy import load as tensors_from_bytes

from embup_core.artifacts.recovered_map import RecoveredMap
from embup_core.errors import InvalidDataError
from embup_core.geometry.basis import Basis
from embup_core.geometry.transform import EXACT_ANGLE

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BASIS_FILE: Final = "basis.safetensors"
LANDMARKS_FILE: Final = "landmarks.json"
MAP_FILE: Final = "map.safetensors"
FIGURES_FILE: Final = "map.json"
LEAST_DIRECTION: Final = 1e-5
"""Smallest eigenvalue of a new direction, for each new landmark: below lies rounding."""


@dataclass(frozen=True, eq=False)
class Known:
    """What later drops are judged by.

    Attributes
    ----------
    basis
        Landmarks, and the axes of coordinates.
    landmark_months
        The drop that each landmark is from, as text: shape (L,).
    landmark_rows
        Its row there: int64, shape (L,).
    map
        From coordinates to z, or the finding that no affine one fits.
    """

    basis: Basis
    landmark_months: NDArray[np.str_]
    landmark_rows: NDArray[np.int64]
    map: RecoveredMap

    @property
    def map_is_exact(self) -> bool:
        """Whether more rows would not make the map better."""
        return self.map.affine and self.map.median_angle <= EXACT_ANGLE

    def for_basis(self, basis_id: str) -> Known | None:
        """The part of it that a drop was made with, before the basis grew; None where that is another."""
        if basis_id == self.basis.id:
            return self
        months = self.landmark_months
        for start in np.flatnonzero(months[1:] != months[:-1])[::-1] + 1:
            rows = self.basis.coordinates[:start]
            dims = int(np.flatnonzero(rows.any(axis=0))[-1]) + 1
            part = replace(
                self.basis,
                landmarks=np.ascontiguousarray(self.basis.landmarks[:start]),
                coordinates=np.ascontiguousarray(rows[:, :dims]),
            )
            if part.id == basis_id:
                return Known(part, months[:start], self.landmark_rows[:start], self.map)
        return None

    def grown(
        self,
        month: str,
        rows: NDArray[np.int64],
        projected: NDArray[np.float32],
        coordinates: NDArray[np.float64],
        kernel: NDArray[np.float64],
    ) -> Known | None:
        """More landmarks, and the directions that they add; vectors in the old basis stay valid.

        The new landmarks' cosines beyond the old directions, G - C C^T, are those of vectors in the new
        ones. Old landmarks have zeros there.

        Parameters
        ----------
        month
            The drop that the new landmarks are from.
        rows
            Their rows there: int64, shape (k,).
        projected
            Their z: float32, shape (k, d).
        coordinates
            C, in the old directions, not made unit length: float64, shape (k, r).
        kernel
            G, their mutual cosines: float64, shape (k, k).

        Returns
        -------
        None where they add no direction, or all originals' dimensions are there already.
        """
        beyond = kernel - coordinates @ coordinates.T
        values, vectors = np.linalg.eigh((beyond + beyond.T) / 2)
        room = self.basis.output_dims - self.basis.dims
        added = np.flatnonzero(values > LEAST_DIRECTION * len(rows))[::-1][:room]
        if not len(added):
            return None
        new = vectors[:, added] * np.sqrt(values[added])  # (k, a)
        old = self.basis.coordinates
        grown = np.zeros((len(old) + len(rows), old.shape[1] + len(added)), np.float32)
        grown[: len(old), : old.shape[1]] = old
        grown[len(old) :, : old.shape[1]] = coordinates
        grown[len(old) :, old.shape[1] :] = new
        return Known(
            replace(
                self.basis, landmarks=np.concatenate([self.basis.landmarks, projected]), coordinates=grown
            ),
            np.concatenate([self.landmark_months, np.full(len(rows), month)]),
            np.concatenate([self.landmark_rows, rows]),
            self.map,
        )

    def files(self, earlier: Known | None) -> dict[str, bytes]:
        """What has changed since the earlier drops, as files."""
        found: dict[str, bytes] = {}
        if earlier is None or earlier.basis.id != self.basis.id:
            found[BASIS_FILE] = self.basis.to_bytes()
            found[LANDMARKS_FILE] = _json(
                {"months": self.landmark_months.tolist(), "rows": self.landmark_rows.tolist()}
            )
        if earlier is None or earlier.map is not self.map:
            found[FIGURES_FILE] = _json(self.map.to_json())
            tensors = self.map.tensors()
            if tensors is not None:
                found[MAP_FILE] = tensors
        return found

    def landmark_files(self) -> dict[str, bytes]:
        """For whoever makes a drop: each landmark's month, row there and z, in the order of the columns."""
        return {
            "months.npy": _npy(self.landmark_months),
            "rows.npy": _npy(self.landmark_rows),
            "projected.npy": _npy(self.basis.landmarks),
            "basis.json": _json({"basis": self.basis.id, "landmarks": len(self.landmark_rows)}),
        }

    @classmethod
    def load(cls, states: list[Path]) -> Self | None:
        """Read what the last states say; None where none says anything.

        Raises
        ------
        InvalidDataError
            A file is damaged.
        """
        with_basis = [state for state in states if (state / BASIS_FILE).is_file()]
        with_map = [state for state in states if (state / FIGURES_FILE).is_file()]
        if not with_basis or not with_map:
            return None
        try:
            basis = Basis.from_bytes((with_basis[-1] / BASIS_FILE).read_bytes())
            landmarks = json.loads((with_basis[-1] / LANDMARKS_FILE).read_bytes())
            figures = json.loads((with_map[-1] / FIGURES_FILE).read_bytes())
            tensors = with_map[-1] / MAP_FILE
            found = (
                RecoveredMap.from_arrays(figures, tensors_from_bytes(tensors.read_bytes()))
                if tensors.is_file()
                else RecoveredMap.from_figures(figures)
            )
            return cls(
                basis, np.array(landmarks["months"]), np.array(landmarks["rows"], dtype=np.int64), found
            )
        except (OSError, ValueError, LookupError) as error:
            raise InvalidDataError(
                f"{with_basis[-1]}: expected the basis of the drops, found what cannot be it ({error}).",
                remedy="Check the first drop again: embup drops check.",
            ) from error


def _json(content: Any) -> bytes:
    return json.dumps(content, indent=2).encode() + b"\n"


def _npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
