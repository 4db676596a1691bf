"""Rows are split once, disjointly and repeatably."""

import numpy as np
import pytest

from embup_core.errors import InputError, TrainingError
from embup_core.training.split import SplitBy, split_right_rows, split_rows


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


def _groups(sizes: list[int]) -> np.ndarray:
    """Names of groups of these sizes, rows in no order."""
    names = np.repeat([f"g{i}" for i in range(len(sizes))], sizes)
    return np.random.default_rng(0).permutation(names)


def test_whole_groups_stay_together_and_come_near_the_shares() -> None:
    sizes = list(np.random.default_rng(1).integers(3, 40, 60))
    groups = _groups(sizes)
    split = split_rows(len(groups), groups, split=SplitBy.groups)
    parts = [split.train, split.validation, split.test]
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(groups)))
    held = [set(groups[part]) for part in parts]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    for part, share in zip(parts, (0.75, 0.10, 0.15), strict=True):
        assert len(part) / len(groups) == pytest.approx(share, abs=0.005)
    assert (split.by, split_rows(200).by) == (SplitBy.groups, SplitBy.rows)


def test_integers_name_groups_as_well_and_a_seed_decides() -> None:
    groups = np.repeat(np.arange(30), 10)
    first, again, other = (split_rows(300, groups, split=SplitBy.groups, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


@pytest.mark.parametrize("sizes", [[100, 100, 100], [280, 10, 10], [290, 5, 5], [150, 140, 10]])
@pytest.mark.parametrize("seed", range(5))
def test_every_part_gets_a_group_however_large_they_are(sizes: list[int], seed: int) -> None:
    groups = _groups(sizes)
    split = split_rows(300, groups, split=SplitBy.groups, seed=seed)
    parts = [split.train, split.validation, split.test]
    assert sorted(len(part) for part in parts) == sorted(sizes)
    assert all(len(set(groups[part])) == 1 for part in parts)


def test_a_split_by_rows_does_not_look_at_groups() -> None:
    np.testing.assert_array_equal(split_rows(200, np.zeros(200)).test, split_rows(200).test)


def test_groups_asked_for_but_absent_or_too_few_are_refused() -> None:
    with pytest.raises(InputError, match=r"no groups\.npy\. Put groups\.npy beside"):
        split_rows(200, split=SplitBy.groups)
    with pytest.raises(InputError, match="at least 3 groups, found 2"):
        split_rows(200, np.arange(200) % 2, split=SplitBy.groups)
    for small in ([1, 2], [1, 1, 2, 2]):
        with pytest.raises(TrainingError, match="fewer than 3 rows in a part"):
            split_rows(200, np.array([0] * (200 - len(small)) + small), split=SplitBy.groups)


def test_of_many_rows_a_random_sample_takes_part() -> None:
    left_out = np.array([5, 17])
    split, again = (split_right_rows(2000, left_out, max_training_rows=400) for _ in range(2))
    assert [len(part) for part in (split.train, split.validation, split.test)] == [300, 40, 60]
    assert len(split.not_sampled) == 2000 - 2 - 400
    everything = np.concatenate([split.all_rows, split.not_sampled, left_out])
    np.testing.assert_array_equal(np.sort(everything), np.arange(2000))
    np.testing.assert_array_equal(split.all_rows, again.all_rows)
    assert not np.array_equal(
        split.all_rows, split_right_rows(2000, left_out, max_training_rows=400, seed=1).all_rows
    )
    assert split.all_rows.mean() == pytest.approx(1000, rel=0.1)
    assert split.to_json()["not_sampled"] == 1598
    assert "400 of 1,998" in (split.sampling_note() or "")


def test_as_many_rows_as_may_take_part_all_do() -> None:
    split = split_right_rows(400, np.empty(0, np.int64), max_training_rows=400)
    assert len(split.all_rows) == 400
    assert split.sampling_note() is None
    assert "not_sampled" not in split.to_json()


def test_rows_held_out_for_ever_stay_in_the_sample() -> None:
    held_out = np.zeros(2000, bool)
    held_out[::20] = True
    split = split_right_rows(2000, np.empty(0, np.int64), held_out=held_out, max_training_rows=400)
    np.testing.assert_array_equal(split.test, np.flatnonzero(held_out))
    assert len(split.all_rows) == 400
    many = split_right_rows(2000, np.empty(0, np.int64), held_out=~held_out, max_training_rows=200)
    assert (len(many.test), len(many.all_rows)) == (100, 200)
    assert not held_out[many.test].any()


def test_a_sample_has_whole_groups_on_one_side() -> None:
    groups = np.repeat(np.arange(100), 20)
    split = split_right_rows(2000, np.empty(0, np.int64), groups, max_training_rows=600, split=SplitBy.groups)
    assert len(split.all_rows) == 600
    assert not set(groups[split.test]) & set(groups[split.fit_rows])


def test_a_sample_of_too_few_rows_is_refused() -> None:
    with pytest.raises(InputError):
        split_right_rows(2000, np.empty(0, np.int64), max_training_rows=99)
