"""What the checks of a source measure."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Self


@dataclass(frozen=True)
class DataProfile:
    """Properties of a validated pair of files.

    Parameters
    ----------
    rows
        N.
    fingerprint
        SHA-256 over the bytes of both files, projected embeddings first, in hexadecimal.
    mean_cosine, cosine_deviation
        Mean and standard deviation of the cosines off the diagonal.
    lowest_cosine, highest_cosine
        Their range, off the diagonal.
    cosine_bytes
        Size of the file of the matrix, or of the coordinates.
    """

    rows: int
    fingerprint: str
    mean_cosine: float
    cosine_deviation: float
    lowest_cosine: float
    highest_cosine: float
    cosine_bytes: int

    @classmethod
    def of_sums(
        cls,
        *,
        rows: int,
        pairs: int,
        fingerprint: str,
        total: float,
        squares: float,
        range_: tuple[float, float],
        cosine_bytes: int,
    ) -> Self:
        """From sums over cosines off the diagonal, and over their squares, and how many they are."""
        mean = total / pairs
        deviation = sqrt(max(0.0, squares / pairs - mean**2))
        return cls(rows, fingerprint, mean, deviation, *range_, cosine_bytes)
