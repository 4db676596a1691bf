"""What every decoder guarantees, and what each of them is for.

The guarantees are tested on all of `DECODERS`; a new one needs no line here.
"""

import contextlib
import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embup_core.artifacts.artifact import decoder_bytes
from embup_core.decoders import DECODERS, Decoder, register
from embup_core.decoders.base import Shape
from embup_core.decoders.baselines.kernel_ridge import KernelRidge
from embup_core.decoders.baselines.mlp import Mlp
from embup_core.decoders.baselines.mlp_coordinates import MlpCoordinates
from embup_core.decoders.baselines.nearest_neighbours import NearestNeighbours
from embup_core.decoders.baselines.quadratic_residual import quadratic_features
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.decoders.parts.complemented_regression import ComplementedRegression
from embup_core.errors import InputError, TrainingError
from tests.embup_core.decoders.quick import quick

COMPLETED = sorted(name for name, decoder in DECODERS.items() if issubclass(decoder, ComplementedRegression))


@pytest.fixture(scope="module")
def all_fitted(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> dict[str, Decoder]:
    return {name: quick(name).fit(sample_projected[:500], sample_coordinates[:500]) for name in DECODERS}


@pytest.fixture(params=sorted(DECODERS))
def fitted(request: pytest.FixtureRequest, all_fitted: dict[str, Decoder]) -> Decoder:
    return all_fitted[request.param]


def test_rows_are_unit_float32_and_contiguous(fitted: Decoder, sample_projected: np.ndarray) -> None:
    rows, confidence = fitted.predict_with_confidence(sample_projected)
    assert (rows.dtype.name, rows.shape) == ("float32", (600, 1536))
    assert (confidence.dtype.name, confidence.shape) == ("float32", (600,))
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
    assert decoder_bytes(again) == decoder_bytes(fitted)


def test_settings_are_stored_as_given(fitted: Decoder) -> None:
    defaults = {name: one.default for name, one in inspect.signature(type(fitted)).parameters.items()}
    others = {name: value * 2 or 7 for name, value in defaults.items()}
    assert type(fitted)().settings() == defaults
    assert type(fitted)(**others).settings() == others
    assert vars(type(fitted)(**others)) == others
    assert json.loads(json.dumps(others)) == others


def test_arrays_and_settings_rebuild_it(fitted: Decoder, sample_projected: np.ndarray) -> None:
    rebuilt = type(fitted).from_arrays(fitted.settings(), fitted.arrays())
    np.testing.assert_array_equal(rebuilt.predict(sample_projected), fitted.predict(sample_projected))
    assert decoder_bytes(rebuilt) == decoder_bytes(fitted)


def test_misshapen_or_missing_arrays_are_refused(fitted: Decoder) -> None:
    for name, array in fitted.arrays().items():
        with pytest.raises(ValueError, match=name):
            type(fitted).from_arrays(fitted.settings(), {**fitted.arrays(), name: array[..., None]})
        with pytest.raises(ValueError, match=name):
            type(fitted).from_arrays(
                fitted.settings(), {other: kept for other, kept in fitted.arrays().items() if other != name}
            )


def test_a_fit_of_many_steps_reports_and_records_each(
    fitted: Decoder, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    reported: list[tuple[int, int]] = []
    decoder = type(fitted)(**fitted.settings())
    decoder.on_progress = lambda done, total: reported.append((done, total))
    decoder.fit(sample_projected[:500], sample_coordinates[:500])
    assert reported == [(step, len(reported)) for step in range(1, len(reported) + 1)]
    assert decoder.history_ == fitted.history_  # a second fit starts anew
    counted = {sum(map(len, fits.values())) for fits in decoder.history_.values()}
    assert counted <= {len(reported)}


def test_decoding_needs_neither_torch_nor_scikit_learn(
    all_fitted: dict[str, Decoder], sample_projected: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "z.npy", sample_projected[:4])
    for name, decoder in all_fitted.items():
        (tmp_path / f"{name}.safetensors").write_bytes(decoder_bytes(decoder))
        (tmp_path / f"{name}.json").write_text(json.dumps(decoder.settings()))
    script = """
import json, pathlib, sys
import numpy as np
from embup_core.artifacts.artifact import decoder_from_bytes
for path in pathlib.Path().glob("*.json"):
    data = path.with_suffix(".safetensors").read_bytes()
    decoder_from_bytes(path.stem, json.loads(path.read_text()), data).predict(np.load("z.npy"))
    print(path.stem, sorted({"torch", "sklearn"} & set(sys.modules)))
"""
    printed = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert sorted(printed.splitlines()) == sorted(f"{name} []" for name in DECODERS)


def errors_between(
    decoder: Decoder, projected: np.ndarray, coordinates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Error of each cosine between unseen rows, and the cosine itself."""
    rows = decoder.predict(projected[500:])
    above = np.triu_indices(len(rows), 1)
    true = (coordinates[500:] @ coordinates[500:].T)[above]
    return (rows @ rows.T)[above] - true, true


@pytest.mark.parametrize("name", [*COMPLETED, "kriging", "metric_kriging"])
def test_the_complement_leaves_cosines_without_bias(
    name: str, all_fitted: dict[str, Decoder], sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    error, _ = errors_between(all_fitted[name], sample_projected, sample_coordinates)
    assert abs(error.mean()) < 0.02  # of a perceptron after two epochs; of the others 0.005


def test_normalising_a_regression_raises_cosines(
    all_fitted: dict[str, Decoder], sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    error, _ = errors_between(all_fitted["linear"], sample_projected, sample_coordinates)
    assert error.mean() > 0.1


@pytest.mark.parametrize(
    "name", ["quadratic_residual", "nearest_neighbours", "kernel_ridge", "kriging", "metric_kriging"]
)
def test_non_linear_decoders_beat_the_linear_one(
    name: str, all_fitted: dict[str, Decoder], sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    error, true = errors_between(all_fitted[name], sample_projected, sample_coordinates)
    of_linear, _ = errors_between(all_fitted["linear_residual"], sample_projected, sample_coordinates)
    assert np.square(error).mean() < np.square(of_linear).mean() < true.var()


@pytest.mark.parametrize("name", [*COMPLETED, "kriging", "metric_kriging"])
def test_far_from_the_training_rows_confidence_falls(
    name: str, all_fitted: dict[str, Decoder], sample_projected: np.ndarray
) -> None:
    decoder = all_fitted[name]
    far = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    _, near_confidence = decoder.predict_with_confidence(sample_projected[500:])
    _, far_confidence = decoder.predict_with_confidence(far)
    assert np.median(far_confidence) < np.median(near_confidence)
    assert far_confidence.max() < 1


def test_kriging_goes_through_its_training_rows(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    decoder = Kriging(nugget=1e-4, mean_dims=600).fit(sample_projected, sample_coordinates)
    rows, confidence = decoder.predict_with_confidence(sample_projected)
    assert confidence.min() > 0.98
    cosines = sample_coordinates @ sample_coordinates.T
    assert np.abs(rows @ rows.T - cosines).max() < 0.02


@pytest.mark.parametrize("kind", [Kriging, NearestNeighbours])
def test_as_many_rows_are_needed_as_neighbours(
    kind: Any, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    with pytest.raises(TrainingError, match="needs 16 neighbours, found 15"):
        kind(neighbours=16).fit(sample_projected[:15], sample_coordinates[:15])
    fitted = kind(neighbours=15).fit(sample_projected[:15], sample_coordinates[:15])
    with pytest.raises(ValueError, match="at least 16 rows, found 15"):
        kind.from_arrays({**fitted.settings(), "neighbours": 16}, fitted.arrays())


class Recorder(ComplementedRegression):
    """Records what a regression is fitted on and evaluated at."""

    def __init__(self) -> None:
        super().__init__(mean_dims=64, complement_length_scale=1.0, seed=0)

    def fit_mean(self, points: np.ndarray, targets: np.ndarray) -> None:
        self.points, self.targets = points, targets

    def mean(self, points: np.ndarray) -> np.ndarray:
        self.evaluated_at = points
        return np.zeros((len(points), 64), np.float32)


@pytest.fixture(scope="module")
def recorder(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> Recorder:
    return Recorder().fit(sample_projected[:500], sample_coordinates[:500])


def test_no_regression_is_evaluated_beyond_the_training_rows(recorder: Recorder) -> None:
    scale, centre = recorder.standardisation_.scale, recorder.standardisation_.centre
    radius = np.linalg.norm(recorder.points, axis=1).max()
    direction = np.eye(1, 32, dtype=np.float32)
    for distance, expected in (
        (radius / 2, radius / 2),
        (radius * 2, radius / 2),
        (radius * 10, radius / 10),
    ):
        recorder._predict(centre + np.float32(distance * scale) * direction)
        np.testing.assert_allclose(recorder.evaluated_at, expected * direction, rtol=1e-4, atol=1e-4)


def test_nearest_neighbours_are_those_of_scikit_learn(
    recorder: Recorder, sample_projected: np.ndarray
) -> None:
    from sklearn.neighbors import KNeighborsRegressor

    decoder = NearestNeighbours(neighbours=6, mean_dims=64)
    decoder.fit_mean(recorder.points, recorder.targets)
    expected = KNeighborsRegressor(6, weights="distance").fit(recorder.points, recorder.targets)
    queries = recorder.standardisation_(sample_projected[480:])  # training rows among them
    np.testing.assert_allclose(decoder.mean(queries), expected.predict(queries), atol=1e-5)


def test_kernel_ridge_is_that_of_scikit_learn(recorder: Recorder, sample_projected: np.ndarray) -> None:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    decoder = KernelRidge(landmarks=100, length_scale=3.0, alpha=0.5, mean_dims=64, seed=4)
    decoder.fit_mean(recorder.points, recorder.targets)
    expected = make_pipeline(Nystroem(gamma=1 / 18, n_components=100, random_state=4), Ridge(alpha=0.5)).fit(
        recorder.points.astype(np.float64), recorder.targets
    )
    queries = recorder.standardisation_(sample_projected[500:])
    np.testing.assert_allclose(decoder.mean(queries), expected.predict(queries.astype(np.float64)), atol=1e-5)


def test_kernel_ridge_takes_all_rows_as_landmarks_where_there_are_few(
    sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    decoder = KernelRidge(landmarks=1024).fit(sample_projected[:150], sample_coordinates[:150])
    assert decoder.landmarks_.shape == (150, 32)


def test_quadratic_features_are_those_of_scikit_learn(recorder: Recorder) -> None:
    from sklearn.preprocessing import PolynomialFeatures

    expected = PolynomialFeatures(2, include_bias=False).fit_transform(recorder.points)
    np.testing.assert_allclose(quadratic_features(recorder.points), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", [Mlp, MlpCoordinates])
def test_a_perceptron_learns(kind: Any, sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> None:
    decoder = kind(epochs=15, batch_rows=100).fit(sample_projected, sample_coordinates)
    ((fits,),) = [decoder.history_.values()]
    (loss,) = fits.values()
    assert len(loss) == 15
    assert loss[-1] < loss[0] / 2


@pytest.mark.parametrize("name", sorted(DECODERS))
@pytest.mark.parametrize("rows", [2, 7])
def test_few_rows_are_refused_or_enough(
    name: str, rows: int, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    with contextlib.suppress(TrainingError):  # no other error, or an answer
        fitted = quick(name).fit(sample_projected[:rows], sample_coordinates[:rows])
        assert np.isfinite(fitted.predict(sample_projected[:20])).all()


def test_stores_says_whether_training_rows_are_stored(fitted: Decoder) -> None:
    """500 rows were fitted on; landmarks are a part of them."""
    holds = any(500 in array.shape or name == "landmarks" for name, array in fitted.arrays().items())
    assert holds == bool(fitted.stores)


def test_a_decoder_is_registered_once_and_under_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Bound):
        name = "other"

    class Impostor(Bound):
        name = "kriging"

    monkeypatch.setitem(DECODERS, "other", Other)
    assert register(Other) is Other
    for refused in (Impostor, int, Decoder):
        with pytest.raises(InputError):
            register(refused)  # type: ignore[arg-type]


class Bound(Decoder):
    """Two arrays that share a length."""

    def _fit(self, projected: np.ndarray, coordinates: np.ndarray) -> None:
        self.points_, self.weights_ = projected, coordinates[:, :3]

    def _predict(self, projected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError

    def array_shapes(self) -> dict[str, Shape]:
        return {"points": ("rows", None), "weights": ("rows", 3)}


def test_a_word_in_shapes_stands_for_one_length() -> None:
    arrays = Bound().fit(np.eye(5, 32), np.eye(5, 8)).arrays()
    Bound.from_arrays({}, arrays)
    Bound.from_arrays({}, arrays | {name: arrays[name][:4] for name in ("points", "weights")})
    with pytest.raises(ValueError, match=r"tensor weights: expected shape \(5, 3\), found \(4, 3\)"):
        Bound.from_arrays({}, {**arrays, "weights": arrays["weights"][:4]})
