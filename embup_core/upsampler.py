"""A loaded decoder ready to serve: NumPy and a neighbour index, no PyTorch, no scikit-learn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS
from embup_core.errors import InputError
from embup_core.training_inputs import TrainingInputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.artifact import Artifact


class Upsampler:
    """Projected embeddings in, unit rows out. Safe to call from several threads at once.

    Parameters
    ----------
    artifact
        Loaded and verified.

    Attributes
    ----------
    version
        Its version.
    training_inputs
        What the rows were like that it learned from; None where the artifact does not say.
    """

    input_dims = INPUT_DIMS
    output_dims = OUTPUT_DIMS

    def __init__(self, artifact: Artifact) -> None:
        self.version = artifact.version
        self.training_inputs = TrainingInputs.from_manifest(artifact.manifest)
        self._decoder = artifact.decoder

    @property
    def low_confidence(self) -> float | None:
        """Confidence that about a tenth of rows like the training rows lie below; None where nobody knows."""
        return None if self.training_inputs is None else self.training_inputs.confidence_low

    def upsample(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode rows.

        Parameters
        ----------
        projected
            z: float32, shape (n, 32). Rows are made unit length first: only their direction counts.

        Returns
        -------
        rows
            float32, shape (n, 1536), unit rows, C-contiguous.
        confidence
            float32, shape (n,): 0 to 1, how much of the vector is known rather than filled in; NaN where the
            decoder does not know.

        Raises
        ------
        InputError
            Another shape, a value that is not finite, or a row of zeros.
        """
        if projected.ndim != 2 or projected.shape[1] != INPUT_DIMS:
            raise InputError(
                f"Expected rows of {INPUT_DIMS} numbers, found an array of shape {projected.shape}.",
                remedy=f"Send {INPUT_DIMS} numbers a row.",
            )
        # float64 because the square of a large float32 is infinite in float32
        lengths = np.sqrt(np.square(projected, dtype=np.float64).sum(axis=1))
        usable = np.isfinite(lengths) & (lengths > 0)
        if not usable.all():
            row = int(np.argmin(usable))
            found = "only zeros" if lengths[row] == 0 else "a value that is not finite"
            raise InputError(
                f"Expected finite numbers with a direction in row {row}, found {found}.",
                remedy="Leave the row out or correct it.",
            )
        return self._decoder.predict_with_confidence((projected / lengths[:, None]).astype(np.float32))

    def cosine_standard_error(
        self,
        rows: NDArray[np.float32],
        confidence: NDArray[np.float32],
        other_rows: NDArray[np.float32],
        other_confidence: NDArray[np.float32],
    ) -> NDArray[np.float32] | None:
        """Standard errors of the cosines between decoded rows; None where the decoder does not know.

        Parameters
        ----------
        rows, other_rows
            From `upsample`: float32, shapes (n, 1536) and (m, 1536).
        confidence, other_confidence
            That came with them: float32, shapes (n,) and (m,).

        Returns
        -------
        standard_error
            float32, shape (n, m): root of the expected squared error of each cosine.
        """
        return self._decoder.cosine_standard_error(rows, confidence, other_rows, other_confidence)
