"""What every decoder promises, and what each of them is for."""

import numpy as np
import pytest

from embup_core.decoders import DECODERS, Decoder
from embup_core.decoders.kriging import KrigingDecoder
from embup_core.decoders.mlp import MlpDecoder
from embup_core.errors import TrainingError

QUICK = {"mlp": {"epochs": 2}}


@pytest.fixture(scope="module", params=sorted(DECODERS))
def fitted(
    request: pytest.FixtureRequest, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> Decoder:
    decoder = DECODERS[request.param](**QUICK.get(request.param, {}))
    return decoder.fit(sample_projected[:500], sample_coordinates[:500])


def test_rows_are_unit_float32_and_contiguous(fitted: Decoder, sample_projected: np.ndarray) -> None:
    rows, confidence = fitted.predict_with_confidence(sample_projected)
    assert (rows.dtype.name, rows.shape, confidence.shape) == ("float32", (600, 1536), (600,))
    assert rows.flags.c_contiguous
    np.testing.assert_allclose(np.linalg.norm(rows.astype(np.float64), axis=1), 1, atol=1e-6)


def test_confidence_is_a_share_or_unknown(fitted: Decoder, sample_projected: np.ndarray) -> None:
    _, confidence = fitted.predict_with_confidence(sample_projected)
    assert np.isnan(confidence).all() or ((confidence > 0) & (confidence <= 1)).all()


def test_a_row_decodes_the_same_alone_and_among_others(fitted: Decoder, sample_projected: np.ndarray) -> None:
    together = fitted.predict(sample_projected[450:550])
    alone = np.concatenate([fitted.predict(row[None]) for row in sample_projected[450:550]])
    np.testing.assert_allclose(alone, together, atol=1e-6)


def test_the_same_fit_twice_gives_the_same_arrays(
    fitted: Decoder, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    again = type(fitted)(**fitted.settings()).fit(sample_projected[:500], sample_coordinates[:500])
    for name, array in fitted.arrays().items():
        np.testing.assert_array_equal(array, again.arrays()[name], err_msg=name)


def test_arrays_and_settings_rebuild_it(fitted: Decoder, sample_projected: np.ndarray) -> None:
    rebuilt = type(fitted).from_arrays(fitted.settings(), fitted.arrays())
    np.testing.assert_array_equal(rebuilt.predict(sample_projected), fitted.predict(sample_projected))
    assert fitted.array_names(fitted.settings()) == set(fitted.arrays())


def test_misshapen_arrays_are_refused(fitted: Decoder) -> None:
    for name, array in fitted.arrays().items():
        with pytest.raises(ValueError, match=name):
            type(fitted).from_arrays(fitted.settings(), {**fitted.arrays(), name: array[..., None]})


def off_diagonal_error(decoder: Decoder, projected: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    rows = decoder.predict(projected[500:])
    above = np.triu_indices(len(rows), 1)
    error: np.ndarray = rows @ rows.T - coordinates[500:] @ coordinates[500:].T
    return error[above]


def test_normalising_a_regression_raises_cosines_and_the_residual_does_not(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    bias = {}
    for name in ("linear", "linear_residual", "kriging"):
        decoder = DECODERS[name]().fit(sample_projected[:500], sample_coordinates[:500])
        bias[name] = off_diagonal_error(decoder, sample_projected, sample_coordinates).mean()
    assert bias["linear"] > 0.1
    assert abs(bias["linear_residual"]) < 0.01
    assert abs(bias["kriging"]) < 0.01


def test_kriging_goes_through_its_training_rows(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    decoder = KrigingDecoder(nugget=1e-4, mean_dims=600).fit(sample_projected, sample_coordinates)
    rows, confidence = decoder.predict_with_confidence(sample_projected)
    assert confidence.min() > 0.98
    cosines = sample_coordinates @ sample_coordinates.T
    assert np.abs(rows @ rows.T - cosines).max() < 0.02


@pytest.mark.parametrize("name", ["linear_residual", "kriging"])
def test_far_from_the_training_rows_confidence_falls(
    name: str, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    decoder = DECODERS[name]().fit(sample_projected[:500], sample_coordinates[:500])
    far = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    _, near_confidence = decoder.predict_with_confidence(sample_projected[500:])
    _, far_confidence = decoder.predict_with_confidence(far)
    assert np.median(far_confidence) < np.median(near_confidence)
    assert far_confidence.max() < 1


def test_kriging_needs_as_many_rows_as_neighbours(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    with pytest.raises(TrainingError, match="16 neighbours, found 15 rows"):
        KrigingDecoder().fit(sample_projected[:15], sample_coordinates[:15])


def test_the_perceptron_learns(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> None:
    epochs: list[int] = []
    decoder = MlpDecoder(epochs=15, batch_rows=100, on_epoch=epochs.append).fit(
        sample_projected, sample_coordinates
    )
    assert decoder.losses_[-1] < decoder.losses_[0] / 2
    assert epochs == list(range(1, 16))
