"""Inputs and what a decoder answered to them when it was published: its self-test wherever it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

_ROWS = 4
_MAX_ROWS = 64


def golden_inputs(projected: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """Unit rows between pairs of training rows, none of which is one: float32, shape (4, d)."""
    left, right = np.random.default_rng(seed).integers(0, len(projected), (2, _ROWS))
    between = 0.7 * projected[left].astype(np.float64) + 0.3 * projected[right]
    unit: NDArray[np.float64] = between / np.linalg.norm(between, axis=1, keepdims=True)
    return unit.astype(np.float32)


@dataclass(frozen=True)
class Golden:
    """Inputs and what the decoder answered to them.

    Attributes
    ----------
    inputs, outputs
        float32, shapes (k, input dimensions) and (k, output dimensions).
    confidences
        float32, shape (k,); NaN where the decoder does not know, null in JSON.
    """

    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    confidences: NDArray[np.float32]

    @classmethod
    def of(cls, decoder: Decoder, inputs: NDArray[np.float32]) -> Self:
        """Ask a decoder.

        Raises
        ------
        ValueError
            Its answers are not float32 rows of its `output_dims_` numbers, one for each input.
        """
        with np.errstate(all="ignore"):  # what comes of damaged numbers is judged, not told on stderr
            outputs, confidences = decoder.predict_with_confidence(inputs)
        shapes = outputs.shape, confidences.shape
        kinds = outputs.dtype.name, confidences.dtype.name
        expected = (len(inputs), decoder.output_dims_), inputs.shape[:1]
        if shapes != expected or kinds != ("float32", "float32"):
            raise ValueError(f"answers of shapes {shapes} and types {kinds}")
        return cls(inputs, outputs, confidences)

    def to_json(self) -> dict[str, Any]:
        """Plain lists."""
        confidences = [None if np.isnan(one) else one for one in self.confidences.tolist()]
        return {
            "inputs": self.inputs.tolist(),
            "outputs": self.outputs.tolist(),
            "confidences": confidences,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any], *, input_dims: int, output_dims: int) -> Self:
        """Rebuild; LookupError, TypeError, ValueError or ArithmeticError where it cannot be one."""
        inputs, outputs = _numbers(content["inputs"]), _numbers(content["outputs"])
        confidences = _numbers([np.nan if one is None else one for one in content["confidences"]])
        rows = len(inputs)
        expected = {"inputs": (rows, input_dims), "outputs": (rows, output_dims), "confidences": (rows,)}
        found = {"inputs": inputs.shape, "outputs": outputs.shape, "confidences": confidences.shape}
        if found != expected or not 1 <= rows <= _MAX_ROWS:
            raise ValueError(f"golden shapes {found}, expected {expected} and 1 to {_MAX_ROWS} rows")
        if not (np.isfinite(inputs).all() and np.isfinite(outputs).all()):
            raise ValueError("golden numbers that are not finite")
        return cls(inputs, outputs, confidences)

    def differences(self, other: Self) -> dict[str, float]:
        """Largest difference of outputs and of confidences; NaN where only one knows its confidence."""
        known = ~(np.isnan(self.confidences) & np.isnan(other.confidences))
        with np.errstate(all="ignore"):
            return {
                "outputs": float(np.abs(self.outputs - other.outputs).max(initial=0)),
                "confidences": float(np.abs(self.confidences - other.confidences)[known].max(initial=0)),
            }


def _numbers(content: object) -> NDArray[np.float32]:
    found = np.array(content)
    if found.dtype.kind not in "fiu":
        raise TypeError(f"expected numbers, found {found.dtype}")
    with np.errstate(over="ignore"):
        return found.astype(np.float32)
