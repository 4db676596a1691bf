"""Training rows near to a row have the numbers of the source, also where rows were left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.artifacts.training_rows import near_training_rows, row_numbers
from embup_core.decoders import DECODERS
from embup_core.decoders.baselines.linear import Linear
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.decoders.kriging.metric_kriging import MetricKriging

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

LEFT_OUT = [0, 7, 8, 399]


@pytest.mark.parametrize("name", ["kriging", "nearest_neighbours", "mixture_kriging"])
def test_they_are_the_nearest_and_numbered_as_in_the_source(
    name: str, sample_projected: Vectors, sample_coordinates: Vectors
) -> None:
    z, c = sample_projected[:400], sample_coordinates[:400]
    kept = np.setdiff1d(np.arange(400), LEFT_OUT)
    decoder = DECODERS[name]().fit(z[kept], c[kept])
    manifest = {"data": {"rows": 400, "left_out": LEFT_OUT}, "split": {}}
    decoded, _ = decoder.predict_with_confidence(z)
    for row in (1, 9, 398, 399, 7):
        found = near_training_rows(decoder, manifest, z[row : row + 1], 5)
        assert found is not None
        assert found.numbers is not None
        distances = np.linalg.norm(z - z[row], axis=1)
        distances[LEFT_OUT] = np.inf
        nearest = np.argsort(distances, kind="stable")[:5]
        assert found.numbers.tolist() == nearest.tolist()
        np.testing.assert_allclose(found.distances, distances[nearest], atol=1e-5)
        np.testing.assert_allclose(found.cosines, decoded[nearest] @ decoded[row], atol=1e-4)


@pytest.mark.parametrize(
    ("manifest", "numbers"),
    [
        ({"data": {"rows": 3, "left_out": []}, "split": {}}, [0, 1, 2]),
        ({"data": {"rows": 3}, "split": {}}, [0, 1, 2]),
        ({"data": {"rows": 5, "left_out": [3, 0]}, "split": {}}, [1, 2, 4]),
        ({"data": {"rows": 3, "left_out": []}, "split": {"held_out": True}}, None),
        ({"data": {"rows": 4, "left_out": []}, "split": {}}, None),
        ({"data": {"rows": 4, "left_out": [9]}, "split": {}}, None),
        ({"data": {"rows": None}, "split": {}}, None),
        ({}, None),
    ],
)
def test_numbers_are_told_only_where_the_manifest_tells(
    manifest: dict[str, Any], numbers: list[int] | None
) -> None:
    found = row_numbers(manifest, 3)
    assert (None if found is None else found.tolist()) == numbers


def test_decoders_without_them_have_none_and_numbers_can_be_unknown(
    sample_projected: Vectors, sample_coordinates: Vectors
) -> None:
    z, c = sample_projected[:200], sample_coordinates[:200]
    for decoder in (Linear(), MetricKriging()):  # the latter holds them in its metric
        assert near_training_rows(decoder, {}, z[:1], 5) is None
    found = near_training_rows(Kriging().fit(z, c), {}, z[:1], 5)
    assert found is not None
    assert found.numbers is None
