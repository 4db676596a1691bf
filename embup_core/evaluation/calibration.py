"""Whether the errors are as large as the decoder says they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECILES = 10


@dataclass(frozen=True)
class CalibrationDecile:
    """Pairs with about the same predicted error.

    Attributes
    ----------
    predicted_rmse
        Root of the mean squared standard error that was predicted, in cosine.
    observed_rmse
        Root mean square error that was found.
    ratio
        observed / predicted: above 1 the decoder is too sure of itself; None where it predicted no error.
    pairs
        How many pairs.
    """

    predicted_rmse: float
    observed_rmse: float
    ratio: float | None
    pairs: int


def calibration_by_decile(
    predicted_se: NDArray[np.floating],
    error: NDArray[np.floating],
) -> tuple[CalibrationDecile, ...]:
    """Predicted against observed error in ten groups of equally many pairs, the surest first.

    Parameters
    ----------
    predicted_se
        Predicted standard error of each pair's cosine: shape (pairs,), at least 10 of them.
    error
        Predicted - true cosine: shape (pairs,).
    """
    surest_first = np.argsort(predicted_se, kind="stable")
    return tuple(_decile(predicted_se[part], error[part]) for part in np.array_split(surest_first, DECILES))


@dataclass(frozen=True)
class ConfidenceDecile:
    """Unseen rows with about the same confidence.

    Attributes
    ----------
    confidence
        Mean of theirs.
    observed_rmse
        Root mean square error of their cosines with fitted rows.
    predicted_rmse
        What the decoder predicted of the same cosines; None where it predicts no errors.
    rows
        How many rows.
    """

    confidence: float
    observed_rmse: float
    predicted_rmse: float | None
    rows: int


def confidence_by_decile(
    confidence: NDArray[np.floating],
    squared_error: NDArray[np.floating],
    predicted_squared: NDArray[np.floating] | None = None,
) -> tuple[ConfidenceDecile, ...]:
    """Errors of rows in ten groups of equally many, the least confident first.

    Parameters
    ----------
    confidence
        Of each row: shape (n,), at least 10 of them.
    squared_error
        Mean squared error of each row's cosines: shape (n,).
    predicted_squared
        The same as the decoder predicted it: shape (n,).
    """
    least_first = np.array_split(np.argsort(confidence, kind="stable"), DECILES)
    return tuple(
        ConfidenceDecile(
            confidence=float(confidence[part].mean()),
            observed_rmse=float(np.sqrt(squared_error[part].mean())),
            predicted_rmse=None
            if predicted_squared is None
            else float(np.sqrt(predicted_squared[part].mean())),
            rows=len(part),
        )
        for part in least_first
    )


def _decile(predicted_se: NDArray[np.floating], error: NDArray[np.floating]) -> CalibrationDecile:
    predicted, observed = (
        float(np.sqrt(np.square(values, dtype=np.float64).mean())) for values in (predicted_se, error)
    )
    return CalibrationDecile(predicted, observed, observed / predicted if predicted else None, len(error))
