"""Which rows a decoder is fitted on, chosen by, and reported on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from embup_core.errors import TrainingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FEWEST_ROWS = 100


@dataclass(frozen=True)
class RowSplit:
    """Disjoint sorted row numbers: int64, shape (n,) each.

    Settings and the champion are chosen on `validation`; `test` is looked at once, for the report.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]

    @property
    def fit_rows(self) -> NDArray[np.int64]:
        """Train and validation together: what the reported decoders are fitted on."""
        return np.sort(np.concatenate([self.train, self.validation]))


def split_rows(
    n_rows: int, *, seed: int = 0, test_share: float = 0.15, validation_share: float = 0.10
) -> RowSplit:
    """Split rows at random: test_share and validation_share of all rows, the rest for training.

    Raises
    ------
    TrainingError
        Fewer than 100 rows, or shares that leave no row to train on.
    """
    if n_rows < _FEWEST_ROWS:
        raise TrainingError(
            f"Expected at least {_FEWEST_ROWS} sample rows, found {n_rows}.", remedy="Provide more rows."
        )
    n_test, n_validation = int(n_rows * test_share), int(n_rows * validation_share)
    if n_test < 2 or n_validation < 2 or n_rows - n_test - n_validation < 2:
        raise TrainingError(
            f"A test share of {test_share} and a validation share of {validation_share} of {n_rows} rows "
            "leave fewer than two rows in a part.",
            remedy="Choose shares above 0 that add up to less than 1.",
        )
    order = np.random.default_rng(seed).permutation(n_rows)
    return RowSplit(
        train=np.sort(order[n_test + n_validation :]),
        validation=np.sort(order[n_test : n_test + n_validation]),
        test=np.sort(order[:n_test]),
    )
