"""What a batch's work was made of: processor time by stage, and what its rows were like, summed up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class BatchStatistics(msgspec.Struct):
    """Sums over some rows.

    Attributes
    ----------
    parse_s, decode_s, format_s, write_s
        Seconds of processor time, of all processes together; none of it is a pause.
    sync_s
        Seconds waited for the disk, beside the work or not.
    rows, z_sum
        Good rows, and the sum of their unit vectors: a number a dimension, empty without a row.
    reference_rows, low_rows, confidence_sum
        Rows whose confidence is known, those of them below the limit, and the sum of theirs.
    """

    parse_s: float = 0.0
    decode_s: float = 0.0
    format_s: float = 0.0
    write_s: float = 0.0
    sync_s: float = 0.0
    rows: int = 0
    z_sum: list[float] = []
    reference_rows: int = 0
    low_rows: int = 0
    confidence_sum: float = 0.0

    def add(self, other: BatchStatistics) -> None:
        """Add another one's sums."""
        self.parse_s += other.parse_s
        self.decode_s += other.decode_s
        self.format_s += other.format_s
        self.write_s += other.write_s
        self.sync_s += other.sync_s
        self.rows += other.rows
        if other.rows:
            before = self.z_sum or [0.0] * len(other.z_sum)
            self.z_sum = [one + more for one, more in zip(before, other.z_sum, strict=True)]
        self.reference_rows += other.reference_rows
        self.low_rows += other.low_rows
        self.confidence_sum += other.confidence_sum

    def add_rows(
        self,
        z: npt.NDArray[np.float32],
        confidence: npt.NDArray[np.float32],
        low_confidence: float | npt.NDArray[np.float64],
    ) -> None:
        """Add good rows.

        Parameters
        ----------
        z
            float32, shape (n, dims), of any length but 0.
        confidence
            float32, shape (n,), NaN where not known.
        low_confidence
            Below it rows are counted apart; one number, or one a row.
        """
        unit = z.astype(np.float64)
        unit /= np.sqrt(np.square(unit).sum(axis=1))[:, None]
        known = confidence[np.isfinite(confidence)]
        self.add(
            BatchStatistics(
                rows=len(z),
                z_sum=unit.sum(axis=0).tolist(),
                reference_rows=len(known),
                low_rows=int((confidence < low_confidence).sum()),  # NaN is below nothing
                confidence_sum=float(known.sum()),
            )
        )
