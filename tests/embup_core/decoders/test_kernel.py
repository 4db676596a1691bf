"""The compiled decoder answers as NumPy does, alone and in blocks, and refuses what it cannot read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.decoders.mixture_kriging import kernel
from embup_core.decoders.mixture_kriging.mixture_kriging import MixtureKriging

if TYPE_CHECKING:
    from embup_core.decoders.parts.quantized_residuals import Storage

needs_extension = pytest.mark.skipif(not kernel.COMPILED, reason="the extension is not built")


@pytest.fixture(scope="module")
def decoder(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> MixtureKriging:
    return MixtureKriging(mean_dims=256).fit(sample_projected, sample_coordinates)


def unit_rows(rng: np.random.Generator, rows: np.ndarray, count: int, jitter: float) -> np.ndarray:
    """Rows near some of these, and as many rows that are near none."""
    near = rows[rng.integers(len(rows), size=count)]
    near = near + jitter * rng.standard_normal(near.shape)
    all_rows = np.concatenate([near, rng.standard_normal(near.shape)]).astype(np.float32)
    return np.asarray(all_rows / np.linalg.norm(all_rows, axis=1, keepdims=True))


def by_numpy(
    decoder: MixtureKriging, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> tuple[np.ndarray, np.ndarray]:
    twin = type(decoder).from_arrays(decoder.settings(), decoder.arrays())
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "COMPILED", False)
        twin.kernel_ = None
        return twin.predict_with_confidence(rows)


@needs_extension
def test_it_answers_as_numpy_does(
    decoder: MixtureKriging, sample_projected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.concatenate(
        [sample_projected, unit_rows(np.random.default_rng(0), sample_projected, 500, 0.02)]
    )
    expected, sure = by_numpy(decoder, rows, monkeypatch)
    found, as_sure = decoder.predict_with_confidence(rows)
    # float32 sums in another order: rows that are near no training row are most sensitive
    assert np.abs(found - expected).max() < 2e-6
    assert np.abs(as_sure - sure).max() < 3e-6


@pytest.mark.parametrize(
    "changed",
    [
        {"mean_dims": 64, "trend_dims": 64},
        {"components": 1, "neighbours": 3},
        {"search": "exact", "feature_dims": 7},
    ],
)
@needs_extension
def test_it_has_settings_of_its_own(
    changed: dict[str, object],
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = MixtureKriging(**({"mean_dims": 128} | changed))  # type: ignore[arg-type]
    decoder.fit(sample_projected[:300], sample_coordinates[:300], output_dims=701)
    rows = unit_rows(np.random.default_rng(1), sample_projected, 30, 0.1)
    expected, _ = by_numpy(decoder, rows, monkeypatch)
    found = decoder.predict(rows)
    assert np.abs(found - expected).max() < 2e-6
    assert decoder.kernel_ is not None


@needs_extension
@pytest.mark.parametrize("storage", ["float16", "float32"])
def test_numpy_decodes_what_it_does_not_store(
    storage: Storage, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    decoder = MixtureKriging(mean_dims=64, storage=storage)
    decoder.fit(sample_projected[:300], sample_coordinates[:300])
    assert np.isfinite(decoder.predict(sample_projected[300:])).all()
    assert decoder.kernel_ is None


@needs_extension
def test_settings_changed_after_a_fit_count(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All rows: a fit of half of them has a complement of short length scale, with phases of hundreds.
    decoder = MixtureKriging(mean_dims=64).fit(sample_projected, sample_coordinates)
    rows = unit_rows(np.random.default_rng(3), sample_projected, 30, 0.02)
    before = decoder.predict(rows)
    decoder.set_params(neighbours=3, length_scale=2.0)
    found = decoder.predict(rows)
    expected, _ = by_numpy(decoder, rows, monkeypatch)
    assert np.abs(found - expected).max() < 2e-6
    assert np.abs(found - before).max() > 1e-4


@needs_extension
def test_copies_and_hardly_a_nugget_give_numbers(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    twice = np.repeat(np.arange(300), 2)
    decoder = MixtureKriging(mean_dims=64).fit(sample_projected[twice], sample_coordinates[twice])
    decoder.set_params(nugget=1e-9)
    assert np.isfinite(decoder.predict(sample_projected[:60])).all()


@pytest.mark.parametrize("rows", [60, pytest.param(10_000, marks=pytest.mark.slow)])
def test_rows_alone_are_decoded_as_in_a_block(
    rows: int, decoder: MixtureKriging, sample_projected: np.ndarray
) -> None:
    z = unit_rows(np.random.default_rng(2), sample_projected, rows // 2, 0.02)
    block, sure = decoder.predict_with_confidence(z)
    for i in range(rows):
        alone, as_sure = decoder.predict_with_confidence(z[i : i + 1])
        assert np.abs(alone[0] - block[i]).max() < 1e-6
        assert abs(as_sure[0] - sure[i]) < 1e-6


@needs_extension
def test_what_does_not_fit_is_refused(decoder: MixtureKriging) -> None:
    compiled = kernel.Kernel(decoder)
    points = np.zeros((2, 32), np.float32)
    candidates = np.zeros((2, decoder.nearest_.n_candidates(decoder.neighbours)), np.int64)
    for wrong in (-1, len(decoder.nearest_.points)):
        candidates[1, 3] = wrong
        with pytest.raises(ValueError, match=f"found {wrong}"):
            compiled(points, candidates)
    candidates[1, 3] = 0
    with pytest.raises(ValueError, match="a table of"):
        compiled(points[:1], candidates)
    sizes, *rest = compiled._decoder
    for place in range(len(sizes)):
        other = sizes.copy()
        other[place] = 300
        compiled._decoder = (other, *rest)
        with pytest.raises(ValueError, match="expected"):
            compiled(points, candidates)
