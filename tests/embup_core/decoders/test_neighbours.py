"""Neighbours are the nearest and do not depend on the block they are queried in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embup_core.decoders.parts.neighbours import NearestRows


def test_they_are_the_nearest_in_order() -> None:
    rng = np.random.default_rng(0)
    points, queries = (rng.standard_normal((n, 32)).astype(np.float32) for n in (300, 40))
    index, offsets, squared = NearestRows(points).query(queries, 16)
    distances = np.linalg.norm(points[None] - queries[:, None], axis=2)
    np.testing.assert_array_equal(index, np.argsort(distances, axis=1)[:, :16])
    np.testing.assert_array_equal(offsets, points[index] - queries[:, None])
    np.testing.assert_allclose(np.sqrt(squared), np.take_along_axis(distances, index, axis=1), rtol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 60))
def test_a_query_has_the_same_neighbours_in_any_block(seed: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    # a coarse grid has many exact ties
    points = rng.integers(0, 3, (200, 32)).astype(np.float32)
    queries = rng.integers(0, 3, (rows, 32)).astype(np.float32)
    nearest = NearestRows(points)
    together, _, _ = nearest.query(queries, 16)
    last, _, _ = nearest.query(queries[-1:], 16)
    np.testing.assert_array_equal(
        np.vecdot(points[together[-1]] - queries[-1], points[together[-1]] - queries[-1]),
        np.vecdot(points[last[0]] - queries[-1], points[last[0]] - queries[-1]),
    )


def test_a_fast_search_finds_nearly_all_and_the_same_alone() -> None:
    rng = np.random.default_rng(0)
    points, queries = (rng.standard_normal((n, 32)).astype(np.float32) for n in (5000, 300))
    exact, _, _ = NearestRows(points).query(queries, 16)
    fast = NearestRows(points, "fast")
    found, offsets, squared = fast.query(queries, 16)
    assert np.mean([np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]) > 0.99
    np.testing.assert_array_equal(offsets, points[found] - queries[:, None])
    assert (np.diff(squared, axis=1) >= 0).all()
    alone = np.concatenate([fast.query(query[None], 16)[0] for query in queries])
    np.testing.assert_array_equal(alone, found)


def test_all_points_can_be_neighbours() -> None:
    points = np.eye(16, 32, dtype=np.float32)
    index, _, _ = NearestRows(points).query(points[:2], 16)
    np.testing.assert_array_equal(np.sort(index, axis=1), [range(16), range(16)])


def test_near_ties_are_settled_by_the_distances_that_are_returned() -> None:
    """Permutations of one vector have equal distances but for rounding, which differs between libraries."""
    rng = np.random.default_rng(0)
    vector = rng.standard_normal(32).astype(np.float32)
    points = np.stack([rng.permutation(vector) for _ in range(24)])
    queries = np.ones((50, 32), np.float32) * rng.standard_normal((50, 1)).astype(np.float32)
    offsets = points[None] - queries[:, None]
    expected = np.einsum("nkd,nkd->nk", offsets, offsets)
    index, _, squared = NearestRows(points).query(queries, 16)
    np.testing.assert_array_equal(index, np.argsort(expected, axis=1, kind="stable")[:, :16])
    np.testing.assert_array_equal(squared, np.sort(expected, axis=1)[:, :16])
