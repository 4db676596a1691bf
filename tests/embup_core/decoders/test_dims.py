"""Dimensions come from the data: any decoder takes z of any width and predicts rows of any width."""

from __future__ import annotations

import json

import numpy as np
import pytest

from embup_core.artifacts.artifact import decoder_bytes, decoder_from_bytes
from embup_core.decoders import DECODERS, Decoder, Kriging, LinearResidual
from embup_core.decoders.parts.complemented_decoder import ComplementedDecoder
from tests.embup_core.decoders.quick import quick


def unit(rows: np.ndarray) -> np.ndarray:
    normalised: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return normalised.astype(np.float32)


def projected_rows(*, input_dims: int, rank: int = 60, rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """z, and coordinates of fewer dimensions than the originals, as a matrix of few rows has them."""
    rng = np.random.default_rng(0)
    c = unit(rng.standard_normal((rows, rank)) * np.linspace(2, 0.1, rank) + 0.5)
    return unit(c @ rng.standard_normal((rank, input_dims))), c


@pytest.fixture(scope="module", params=sorted(DECODERS))
def wide(request: pytest.FixtureRequest) -> Decoder:
    z, c = projected_rows(input_dims=64)
    return quick(request.param).fit(z[:150], c[:150], output_dims=3072)


def test_64_dimensions_become_3072(wide: Decoder) -> None:
    z, _ = projected_rows(input_dims=64)
    assert (wide.input_dims_, wide.output_dims_) == (64, 3072)
    rows, confidence = wide.predict_with_confidence(z)
    assert (rows.shape, confidence.shape) == ((200, 3072), (200,))
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)


def test_a_loaded_decoder_knows_its_dimensions(wide: Decoder) -> None:
    z, _ = projected_rows(input_dims=64)
    settings = json.loads(json.dumps(wide.settings()))
    loaded = decoder_from_bytes(wide.name, settings, decoder_bytes(wide))
    assert (loaded.input_dims_, loaded.output_dims_) == (64, 3072)
    np.testing.assert_array_equal(loaded.predict(z[150:]), wide.predict(z[150:]))


def test_other_dimensions_than_the_arrays_have_are_refused(wide: Decoder) -> None:
    for dims in ([63, 3072], [64, 3070], [0, 3072], [64, 0], [64, 2**62]):
        with pytest.raises(ValueError, match="tensor"):
            type(wide).from_arrays(wide.settings(), wide.arrays() | {"dims": np.array(dims)})


@pytest.mark.parametrize(("output_dims", "mean_dims"), [(4, 2), (25, 18), (100, 74), (384, 288), (1536, 384)])
def test_a_quarter_of_the_output_at_least_is_left_to_the_complement(output_dims: int, mean_dims: int) -> None:
    z, c = projected_rows(input_dims=3, rank=4)
    decoder = Kriging().fit(z, c, output_dims=output_dims)
    assert decoder.mean_dims_ == mean_dims
    rows = decoder.predict(z)
    assert rows.shape == (200, output_dims)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)


COMPLEMENTED = sorted(name for name, kind in DECODERS.items() if issubclass(kind, ComplementedDecoder))


@pytest.mark.parametrize("name", COMPLEMENTED)
def test_an_odd_number_of_dimensions_leaves_one_unused(name: str) -> None:
    z, c = projected_rows(input_dims=5, rank=12)
    rows = quick(name).fit(z, c, output_dims=385).predict(z)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert not rows[:, -1].any()


def test_the_output_width_does_not_change_what_is_regressed() -> None:
    z, c = projected_rows(input_dims=32)
    narrow, wide = (
        LinearResidual().fit(z, c, output_dims=output_dims).predict_with_confidence(z)
        for output_dims in (256, 3072)
    )
    np.testing.assert_array_equal(narrow[1], wide[1])
    np.testing.assert_allclose(narrow[0][:, :64], wide[0][:, :64], atol=1e-6)
