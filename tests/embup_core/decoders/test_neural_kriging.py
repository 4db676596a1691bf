"""The parts of neural kriging: weights, residuals, the network, out-of-distribution score, error model."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from embup_core.decoders.neural_kriging.network import NetworkTraining, ResidualNetwork
from embup_core.decoders.neural_kriging.neural_kriging import NeuralKriging
from embup_core.decoders.parts.complement import complement_frequencies, complete_to_unit
from embup_core.decoders.parts.error_model import DecodedRows, ErrorModel
from embup_core.decoders.parts.kriged_trend import _calibration_folds
from embup_core.decoders.parts.local_kriging import kriging_weights
from embup_core.decoders.parts.out_of_distribution import HeldOutRows, OutOfDistribution
from embup_core.decoders.parts.quantized_residuals import QuantizedResiduals, Storage
from embup_core.decoders.student import Student
from embup_core.errors import TrainingError

TRAINING = NetworkTraining(
    width=32,
    blocks=2,
    epochs=40,
    batch_rows=64,
    learning_rate=4e-3,
    dropout=0.1,
    augmentation_scale=0.1,
    seed=0,
)


@pytest.fixture(scope="module")
def decoder(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> NeuralKriging:
    made = NeuralKriging(epochs=12, width=128, mean_dims=256)
    return made.fit(sample_projected[:500], sample_coordinates[:500])


def test_each_of_its_fits_is_recorded_by_itself(decoder: NeuralKriging) -> None:
    (fits,) = decoder.history_.values()
    assert {fit: len(errors) for fit, errors in fits.items()} == {
        "calibration 1": 6,
        "calibration 2": 6,
        "all rows": 12,
    }


def test_kriging_weights_solve_the_kriging_equations() -> None:
    rng = np.random.default_rng(0)
    query, rows = rng.standard_normal((3, 8)), rng.standard_normal((3, 5, 8))
    offsets = (rows - query[:, None]).astype(np.float32)
    found = kriging_weights(offsets, np.vecdot(offsets, offsets), length_scale=4.0, nugget=0.01)
    for one, near, weights in zip(query, rows, found, strict=True):
        between = np.exp(-np.linalg.norm(near[:, None] - near[None], axis=2) / 4)
        to_query = np.exp(-np.linalg.norm(near - one, axis=1) / 4)
        np.testing.assert_allclose((between + 0.01 * np.eye(5)) @ weights, to_query, atol=1e-5)


@pytest.mark.parametrize(("storage", "off"), [("float32", 0), ("float16", 5e-4), ("int8", 5e-3)])
def test_quantized_residuals_give_weighted_sums(storage: Storage, off: float) -> None:
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (50, 12)).astype(np.float32)
    rows[:, 3] = 0
    index, weights = rng.integers(0, 50, (7, 4)), rng.uniform(0, 1, (7, 4)).astype(np.float32)
    residuals = QuantizedResiduals.from_rows(rows, storage)
    assert residuals.numbers.dtype == storage
    expected = np.einsum("nk,nkd->nd", weights, rows[index])
    np.testing.assert_allclose(residuals.weighted(index, weights), expected, atol=4 * off + 1e-6)
    again = QuantizedResiduals.restore(residuals.arrays(), 50, 12, storage)
    np.testing.assert_array_equal(again.weighted(index, weights), residuals.weighted(index, weights))
    other: Storage = "int8" if storage != "int8" else "float32"
    with pytest.raises(ValueError, match=f"tensor residuals: expected {other}, found {storage}"):
        QuantizedResiduals.restore(residuals.arrays(), 50, 12, other)


def test_a_network_learns_what_is_not_linear() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((800, 4)).astype(np.float32)
    targets = np.stack([np.abs(points[:, 0]) + 1, points[:, 1] * points[:, 2], points[:, 3]], axis=1)
    reported: list[int] = []
    network = ResidualNetwork.fit(
        points[:600], targets[:600], TRAINING, lambda epoch, _: reported.append(epoch)
    )
    error = np.square(network(points[600:]) - targets[600:]).mean(axis=0) / targets[600:].var(axis=0)
    assert reported == list(range(1, 41))
    assert (error < 0.35).all()  # a line leaves all of the first two


def test_the_network_in_numpy_is_the_one_torch_fitted() -> None:
    import torch

    rng = np.random.default_rng(1)
    points, targets = (rng.standard_normal((200, n)).astype(np.float32) for n in (6, 5))
    network = ResidualNetwork.fit(points, targets, TRAINING, lambda *_: None)
    hidden = torch.relu(torch.from_numpy(points @ network.first + network.first_bias))
    for block, bias in zip(network.blocks, network.block_biases, strict=True):
        normalised = torch.nn.functional.layer_norm(hidden, (32,))
        hidden = hidden + torch.relu(normalised @ torch.from_numpy(block) + torch.from_numpy(bias))
    expected = hidden.numpy() @ network.last + points @ network.skip + network.last_bias
    np.testing.assert_allclose(network(points), expected, atol=1e-4)


def test_fitting_a_network_leaves_torchs_own_random_numbers_alone() -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    points = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    ResidualNetwork.fit(points, points, TRAINING, lambda *_: None)
    np.testing.assert_array_equal(torch.rand(3).numpy(), expected.numpy())


def unseen_rows(
    rng: np.random.Generator, *, length_scale: float, explained: float, nearest: float, rows: int = 600
) -> HeldOutRows:
    """Rows whose complements have a given length scale, around a regression of a given length."""
    points = rng.standard_normal((rows, 32)).astype(np.float32)
    mean = np.zeros((rows, 8), np.float32)
    mean[:, 0] = np.sqrt(explained) + rng.normal(0, 0.01, rows)
    mean[:, 1] = rng.normal(0, 0.02, rows)
    frequencies = complement_frequencies(32, 764, length_scale=length_scale, seed=int(rng.integers(1 << 30)))
    coordinates, _ = complete_to_unit(mean, points, frequencies, 1536)
    distance = np.full(rows, nearest, np.float32) + rng.normal(0, 0.1, rows).astype(np.float32)
    return HeldOutRows(points, mean, np.zeros_like(mean), distance, coordinates)


def test_the_score_finds_the_length_scales_of_complements() -> None:
    rng = np.random.default_rng(0)
    inside = unseen_rows(rng, length_scale=1.0, explained=0.9, nearest=2.0)
    outside = unseen_rows(rng, length_scale=6.0, explained=0.7, nearest=5.0)
    ood = OutOfDistribution.fit([inside], [outside], complement_dims=1528, seed=0)
    of_inside, of_outside = (ood(rows.mean, rows.nearest) for rows in (inside, outside))
    assert np.median(ood.length_scale(of_inside)) < 2.5
    assert 4.5 < np.median(ood.length_scale(of_outside)) < 7.5
    again = OutOfDistribution.restore(ood.arrays())
    np.testing.assert_array_equal(again(outside.mean, outside.nearest), of_outside)


@pytest.mark.parametrize("wrong", [{4: -2.0}, {5: 1.5}, {6: 0.0}])
def test_a_score_out_of_bounds_is_refused(wrong: dict[int, float]) -> None:
    numbers = np.array([0, 1, 1, 1, 2, 0.5, 1])
    numbers[list(wrong)] = list(wrong.values())
    with pytest.raises(ValueError, match="tensor ood: expected length scales"):
        OutOfDistribution.restore({"ood": numbers})


def test_negative_errors_are_refused() -> None:
    with pytest.raises(ValueError, match="row_error and cosine_error: expected numbers of at least 0"):
        ErrorModel.restore({"row_error": np.ones(2), "cosine_error": np.array([1.0, -1, 0])})


def test_the_farthest_row_has_score_one() -> None:
    ood = OutOfDistribution(np.array([0.0, 0.0, 1.0]), np.array([1.0, 3.0]), 0.5)
    found = ood(np.zeros((2, 8), np.float32), np.array([0, 1e30], np.float32))
    np.testing.assert_allclose(found, [0.5, 1])


@pytest.mark.parametrize(
    ("common", "of_complement", "mean_scale"),
    [
        (0.5, 0.0, 1.0),
        (0.5, 0.1, np.sqrt(0.8)),
        (0.0, 0.1, 1.0),  # centred originals: no bias to correct
        (0.5, 0.45, np.sqrt(0.5)),
        (0.5, -0.45, np.sqrt(1.5)),
    ],
)
def test_the_mean_scale_makes_cosines_right_on_average_within_bounds(
    common: float, of_complement: float, mean_scale: float
) -> None:
    rows = 400
    mean = np.full((rows, 1), np.sqrt(common), np.float32)
    complement = np.zeros((rows, rows), np.float32)
    complement[:, 0] = np.sqrt(abs(of_complement))
    if of_complement < 0:
        complement[: rows // 2] *= -1
        complement *= 20  # their mean cosine is about -1 / rows
    decoded = DecodedRows(mean, complement, np.zeros(rows, np.float32), mean)
    found = OutOfDistribution(np.zeros(3), np.ones(2), 0.5).bias_corrected([decoded]).mean_scale
    assert found == pytest.approx(mean_scale, rel=1e-3)


def test_predicted_errors_are_the_observed_ones() -> None:
    rng = np.random.default_rng(0)
    n, explained = 2000, rng.uniform(0.5, 0.95, 2000)
    mean = np.sqrt(explained)[:, None] * rng.standard_normal((n, 20))
    mean = (mean / np.linalg.norm(mean, axis=1, keepdims=True) * np.sqrt(explained)[:, None]).astype(
        np.float32
    )
    missed = rng.standard_normal((n, 60))
    missed *= np.sqrt(1 - explained)[:, None] / np.linalg.norm(missed, axis=1, keepdims=True)
    missed[:, :20] += mean
    coordinates = missed.astype(np.float32)
    residual = np.zeros((n, 4), np.float32)
    rows = DecodedRows(mean, residual, np.zeros(n, np.float32), coordinates)
    fitted = ErrorModel.fit([rows], [1], seed=0)
    confidence = fitted.confidence(explained.astype(np.float32), rows.ood_score)
    assert 1 - confidence.mean() == pytest.approx((1 - explained).mean(), rel=0.1)
    predicted = fitted.cosine_standard_error(residual, confidence, residual, confidence)
    error = mean @ mean.T - coordinates @ coordinates.T
    above = np.triu_indices(n, 1)
    by_predicted = np.array_split(np.argsort(predicted[above]), 10)
    for pairs in by_predicted:
        observed = np.sqrt(np.square(error[above][pairs]).mean())
        assert observed == pytest.approx(np.sqrt(np.square(predicted[above][pairs]).mean()), rel=0.15)


def test_calibration_folds_leave_out_whole_clusters_and_some_rows_of_the_others() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 70)) * 10
    cluster = rng.integers(0, 40, 4000)
    targets = (centres[cluster] + 0.01 * rng.standard_normal((4000, 70))).astype(np.float32)
    first, second = _calibration_folds(targets, 0)
    for one in (first, second):
        assert not (one.in_distribution & one.out_of_distribution).any()
        assert 0.08 < one.out_of_distribution.mean() < 0.2
        assert 0.08 < one.in_distribution.mean() < 0.2
        assert set(cluster[one.out_of_distribution]).isdisjoint(cluster[~one.out_of_distribution])
    assert not (first.out_of_distribution & second.out_of_distribution).any()


def test_unit_length_does_not_depend_on_what_is_stored(
    decoder: NeuralKriging, sample_projected: np.ndarray
) -> None:
    rows = decoder.predict(sample_projected)
    settings, arrays = decoder.settings(), decoder.arrays()
    residuals = arrays["residuals"] * arrays["residual_scale"]
    ones = np.ones(256, np.float32)
    full: dict[str, Any] = {**arrays, "residuals": residuals, "residual_scale": ones}
    for search in ("exact", "fast"):
        other = NeuralKriging.from_arrays({**settings, "storage": "float32", "search": search}, full).predict(
            sample_projected
        )
        np.testing.assert_allclose(np.linalg.norm(other.astype(float), axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(other, rows, atol=1e-5)


def test_standard_errors_are_of_every_pair(
    decoder: NeuralKriging, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    rows, confidence = decoder.predict_with_confidence(sample_projected)
    found = decoder.cosine_standard_error(rows[500:], confidence[500:], rows[:500], confidence[:500])
    assert (found.shape, found.dtype.name) == ((100, 500), "float32")
    assert (found >= 0).all()
    unseen = rows[500:] @ rows[500:].T - sample_coordinates[500:] @ sample_coordinates[500:].T
    se = decoder.cosine_standard_error(rows[500:], confidence[500:], rows[500:], confidence[500:])
    above = np.triu_indices(100, 1)
    ratio = np.sqrt(np.square(unseen[above]).mean() / np.square(se[above]).mean())
    assert 0.6 < ratio < 1.6  # 500 rows teach little about 100 others


def test_far_from_the_training_rows_confidence_falls(
    decoder: NeuralKriging, sample_projected: np.ndarray
) -> None:
    far = np.random.default_rng(0).standard_normal((400, 32)).astype(np.float32)
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    _, confidence = decoder.predict_with_confidence(sample_projected[500:])
    _, far_confidence = decoder.predict_with_confidence(far)
    assert np.median(far_confidence) < np.median(confidence)
    assert far_confidence.max() < 1


def test_too_few_rows_are_refused(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> None:
    with pytest.raises(TrainingError, match="18 rows are too few"):
        NeuralKriging(epochs=2).fit(sample_projected[:18], sample_coordinates[:18])


def linear_rows(rng: np.random.Generator, *, rows: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    points = rng.standard_normal((rows, dims)).astype(np.float32)
    return points, (points @ rng.standard_normal((dims, 6))).astype(np.float32)


def test_augmentation_reduces_the_error_on_unseen_rows() -> None:
    """Shifted rows of a linear map are true examples, so few rows are enough to fit it."""
    points, targets = linear_rows(np.random.default_rng(0), rows=400, dims=8)

    def unexplained(augmentation_scale: float) -> float:
        training = replace(
            TRAINING, width=64, batch_rows=20, dropout=0.0, augmentation_scale=augmentation_scale
        )
        network = ResidualNetwork.fit(points[:60], targets[:60], training, lambda *_: None)
        return float(np.square(network(points[60:]) - targets[60:]).mean() / targets[60:].var())

    assert unexplained(0.4) < 0.6 * unexplained(0.0)


@pytest.mark.parametrize(
    ("kind", "settings", "setting"),
    [
        (NeuralKriging, {"epochs": 2, "width": 16}, "augmentation_scale"),
        (NeuralKriging, {"epochs": 2, "width": 16}, "dropout"),
        (Student, {"teacher_epochs": 2, "examples": 500, "epochs": 1}, "example_augmentation_scale"),
    ],
)
def test_regularisation_reaches_the_network(
    kind: Any,
    settings: dict[str, Any],
    setting: str,
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
) -> None:
    with_it, without = (
        kind(**settings, **changed).fit(sample_projected[:300], sample_coordinates[:300])
        for changed in ({}, {setting: 0.0})
    )
    assert not np.array_equal(with_it.network_.blocks, without.network_.blocks)
