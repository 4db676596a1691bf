"""The anchors of an artifact: the fitted rotation as a file, and what the manifest says about it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Self, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes

from embup_core.artifacts.recovered_map import RecoveredMap
from embup_core.decoders.parts.complemented_decoder import ComplementedDecoder
from embup_core.errors import InvalidArgumentError, InvalidArtifactError
from embup_core.geometry.anchors import AnchorScores, OriginalBasis, anchors_for_projection
from embup_core.geometry.transform import recover_transform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

MANIFEST_FIELD: Final = "anchors"
_TENSOR: Final = "rotation"
_PROJECTION: Final = "projection"

FittedWith = Literal["coordinates", "decoded"]
"""What stood for the anchors in the fit: their exact coordinates, as training rows have, or decoded rows."""


def fit_projection(projected: NDArray[np.float32], originals: NDArray[np.float32]) -> RecoveredMap | None:
    """The map from originals to z, from enough anchors; None where they are too few, or none fits.

    Parameters
    ----------
    projected
        z of the anchors: float32, shape (m, input_dims).
    originals
        The anchors: float32, shape (m, D), unit rows.
    """
    if len(originals) < anchors_for_projection(originals.shape[1]):
        return None
    found = RecoveredMap.from_fit(recover_transform(projected, originals))
    return found if found.affine else None


def mean_dims(decoder: Decoder) -> int | None:
    """How many leading dimensions of a decoded row are the regression's; None from a decoder without one."""
    return decoder.mean_dims_ if isinstance(decoder, ComplementedDecoder) else None


@dataclass(frozen=True)
class FittedAnchors:
    """The rotation that anchors fixed, and how well it holds.

    Attributes
    ----------
    rotation
        float32, shape (mean dimensions, output dimensions), orthonormal rows.
    scores
        Cross-validated.
    fitted_with
        What it was fitted with.
    projection
        The map from originals to z, in the originals' own axes; None from too few anchors.
    """

    rotation: NDArray[np.float32]
    scores: AnchorScores
    fitted_with: FittedWith
    projection: RecoveredMap | None = None

    def to_bytes(self) -> bytes:
        """The rotation as safetensors, and the arrays of the projection."""
        arrays = {_TENSOR: self.rotation}
        if self.projection is not None:
            arrays |= self.projection.arrays()
        return tensors_to_bytes({name: np.ascontiguousarray(array) for name, array in arrays.items()})

    def to_json(self) -> dict[str, Any]:
        """What the manifest holds."""
        figures = None if self.projection is None else self.projection.to_json()
        return asdict(self.scores) | {"fitted_with": self.fitted_with, _PROJECTION: figures}

    def basis(self) -> OriginalBasis:
        """The map of decoded rows into the originals' basis."""
        return OriginalBasis.from_rotation(self.rotation)

    @classmethod
    def load(cls, data: bytes, described: Mapping[str, Any], decoder: Decoder) -> Self:
        """Rebuild.

        Parameters
        ----------
        data
            From `to_bytes`.
        described
            From `to_json`.
        decoder
            Whose rows it rotates.

        Raises
        ------
        InvalidArtifactError
            It is no rotation of this decoder's rows, or described as none.
        """
        shapes: dict[str, tuple[int | None, ...]] = {_TENSOR: (mean_dims(decoder), decoder.output_dims_)}
        figures = described.get(_PROJECTION)
        if figures is not None:
            shapes |= {
                "matrix": (decoder.output_dims_, decoder.input_dims_),
                "offset": (decoder.input_dims_,),
            }
        expected = {name: ("float32", shape) for name, shape in shapes.items()}
        try:
            tensors = tensors_from_bytes(data)
            found = {name: (array.dtype.name, array.shape) for name, array in tensors.items()}
            if found != expected:
                raise InvalidArgumentError(f"tensors {found}, expected {expected}")
            projection = None if figures is None else RecoveredMap.from_arrays(figures, tensors)
            fitted = cls(tensors[_TENSOR], _scores(described), described["fitted_with"], projection)
            if fitted.fitted_with not in get_args(FittedWith):
                raise InvalidArgumentError("another word for what the anchors were fitted with")
            fitted.basis()
        except (SafetensorError, ValueError, TypeError, LookupError, np.linalg.LinAlgError) as error:
            raise InvalidArtifactError(
                f"Expected the rotation of anchors, found what cannot be one ({str(error)[:300]}).",
                remedy="Publish again.",
            ) from error
        return fitted


def described_anchors(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a manifest says of its anchors, as JSON values; None where it has none that can be read."""
    described = manifest.get(MANIFEST_FIELD)
    try:
        return None if described is None else asdict(_scores(described))
    except (ValueError, TypeError, LookupError):
        return None


def _scores(described: Mapping[str, Any]) -> AnchorScores:
    recall = described["recall_at_10"]
    scores = AnchorScores(
        int(described["anchors"]),
        int(described["documents"]),
        float(described["r2"]),
        None if recall is None else float(recall),
    )
    if not math.isfinite(scores.r2):
        raise ValueError("an R2 that is not finite")
    return scores
