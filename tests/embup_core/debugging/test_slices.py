"""Slices that are worse are found; noise is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from embup_core.debugging.slices import Partition, cluster_rows, compare_slices
from embup_core.debugging.versions import ALL_ROWS, compare_versions
from embup_core.errors import InvalidArgumentError
from tests.embup_core.debugging.conftest import blobs


def test_clusters_are_those_of_the_vectors() -> None:
    vectors, codes = blobs(4, 50, spread=0.1)
    vectors[3] = np.nan
    clusters = cluster_rows(vectors)
    assert clusters.codes[3] == -1
    for part in range(len(clusters.parts)):
        assert len(set(codes[clusters.codes == part])) == 1
    assert cluster_rows(vectors[:50]).parts == ()


def test_a_degraded_slice_is_found_and_no_other() -> None:
    vectors, codes = blobs(10, 80, spread=0.2)
    errors = np.random.default_rng(0).gamma(20, 0.002, 800)
    errors[codes == 4] *= 1.3
    group = Partition.from_values("group", [f"g{code}" if code < 9 else None for code in codes])
    slices = compare_slices({"pair_error": errors}, [group, cluster_rows(vectors)])
    worse = [one for one in slices if one.worse]
    assert ("group", "g4") in {(one.partition, one.name) for one in worse}
    assert all((codes[one.rows] == 4).mean() > 0.9 for one in worse)
    found = next(one for one in worse if one.partition == "group")
    assert found.low < found.value < found.high
    assert found.rest < found.low
    assert {one.name for one in slices if one.partition == "group"} == {f"g{code}" for code in range(9)}


def test_noise_is_rarely_a_slice() -> None:
    vectors, _ = blobs(20, 60)
    clusters = cluster_rows(vectors)
    runs = [
        any(
            one.worse
            for one in compare_slices(
                {"error": np.random.default_rng(run).gamma(20, 0.002, 1200)}, [clusters]
            )
        )
        for run in range(40)
    ]
    assert sum(runs) <= 4


def test_probabilities_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 300)
    part = Partition("cluster", ("a", "b", "c"), codes)
    errors = np.round(rng.random(300) + 0.1 * (codes == 1), 1)
    wrong = (rng.random(300) < 0.2 + 0.2 * (codes == 1)).astype(np.float64)
    for one in compare_slices({"error": errors, "wrong_predictions": wrong}, [part]):
        inside = codes == part.parts.index(one.name)
        if one.metric == "error":
            expected = stats.mannwhitneyu(errors[inside], errors[~inside], alternative="greater").pvalue
        else:
            table = [[wrong[side].sum(), (1 - wrong[side]).sum()] for side in (inside, ~inside)]
            expected = stats.fisher_exact(table, alternative="greater").pvalue
        assert one.p == pytest.approx(expected, rel=1e-6)


def test_small_parts_and_rows_without_error_are_left_out() -> None:
    codes = np.repeat([0, 1, 2], [100, 29, 100])
    errors = np.random.default_rng(0).random(229)
    errors[:80] = np.nan
    assert [
        one.name for one in compare_slices({"error": errors}, [Partition("label", ("a", "b", "c"), codes)])
    ] == ["c"]
    assert compare_slices({}, []) == ()


def test_a_version_that_forgot_a_group_is_named() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 12, 1200)
    before = rng.gamma(20, 0.002, 1200)
    after = before * np.exp(0.05 * rng.standard_normal(1200))
    after[codes == 7] *= 1.4
    after[:5] = np.nan
    group = Partition.from_values("group", [f"corpus {code}" for code in codes])
    found = compare_versions(before, after, [group])
    assert [one.name for one in found.slices if one.worse] == ["corpus 7"]
    assert found.slices[0].partition == ALL_ROWS
    assert (codes[found.worst_rows[:40]] == 7).all()
    assert np.isnan(found.changes[:5]).all()
    shifted = compare_versions(before, 1.2 * after, [group])
    assert [one.name for one in shifted.slices if one.worse] == [ALL_ROWS, "corpus 7"]
    assert shifted.shift == pytest.approx(0.2, abs=0.05)
    same = compare_versions(before, before, [group])
    assert not any(one.worse for one in same.slices)
    assert len(same.worst_rows) == 0
    with pytest.raises(InvalidArgumentError):
        compare_versions(before, after[:-1], [group])


def test_figures_that_fall_where_rows_get_worse_are_compared_too() -> None:
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 100)
    group = Partition("group", ("same", "little", "better", "worse"), codes)
    before = rng.uniform(0.6, 0.8, 400)  # probabilities
    factor = np.array([1, 0.999, 1.2, 0.7])
    after = before * factor[codes] + rng.normal(0, 1e-5, 400)
    found = compare_versions(-before, -after, [group])
    assert {one.name for one in found.slices if one.worse and one.partition != ALL_ROWS} == {"worse"}
    alike = compare_versions(before, before * (2 - factor[codes]), [group])
    assert {one.name for one in alike.slices if one.worse and one.partition != ALL_ROWS} == {"worse"}
    everywhere = compare_versions(-before, -0.8 * before, [group])
    assert everywhere.shift == pytest.approx(0.2)
    assert {one.name for one in everywhere.slices if one.worse} == {ALL_ROWS}
