"""Rows are split once, disjointly and repeatably."""

import numpy as np
import pytest

from embup_core.errors import TrainingError
from embup_core.row_split import split_rows


def test_parts_are_disjoint_and_cover_all_rows() -> None:
    split = split_rows(1000)
    everything = np.concatenate([split.train, split.validation, split.test])
    np.testing.assert_array_equal(np.sort(everything), np.arange(1000))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [750, 100, 150]


def test_fit_rows_are_train_and_validation() -> None:
    split = split_rows(1000)
    np.testing.assert_array_equal(split.fit_rows, np.setdiff1d(np.arange(1000), split.test))


def test_a_seed_decides_everything() -> None:
    np.testing.assert_array_equal(split_rows(500, seed=3).test, split_rows(500, seed=3).test)
    assert not np.array_equal(split_rows(500, seed=3).test, split_rows(500, seed=4).test)


@pytest.mark.parametrize(("rows", "shares"), [(99, (0.15, 0.1)), (1000, (0.9, 0.1)), (1000, (0.0, 0.1))])
def test_parts_that_would_be_empty_are_refused(rows: int, shares: tuple[float, float]) -> None:
    with pytest.raises(TrainingError):
        split_rows(rows, test_share=shares[0], validation_share=shares[1])
