"""Every decoder has the manners of a scikit-learn estimator, and refuses what it cannot use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.artifacts.artifact import decoder_bytes
from embup_core.decoders import DECODERS, Decoder, Kriging, Linear, LinearResidual, NeuralKriging
from embup_core.errors import InputError, InvalidArgumentError, NotFittedError, TrainingError
from tests.embup_core.decoders.quick import quick

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 120

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture(params=sorted(DECODERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def rows() -> Arrays:
    """z of shape (120, 8) and originals of 24 dimensions, which few settings of a decoder have to suit."""
    rng = np.random.default_rng(0)
    originals = rng.standard_normal((ROWS, 24)).astype(np.float32) * np.linspace(2, 0.1, 24, dtype=np.float32)
    originals /= np.linalg.norm(originals, axis=1, keepdims=True)
    projected = originals @ rng.standard_normal((24, 8)).astype(np.float32)
    return projected / np.linalg.norm(projected, axis=1, keepdims=True), originals


def test_a_clone_of_scikit_learn_has_the_settings(name: str) -> None:
    from sklearn.base import clone

    decoder = quick(name)
    twin = clone(decoder)
    assert type(twin) is type(decoder)
    assert twin is not decoder
    assert twin.get_params() == decoder.get_params() == decoder.get_params(deep=False)


def test_a_clone_of_a_fitted_decoder_is_unfitted(rows: Arrays) -> None:
    from sklearn.base import clone
    from sklearn.utils.validation import check_is_fitted

    fitted = Linear(alpha=0.5).fit(*rows)
    check_is_fitted(fitted)
    twin = clone(fitted)
    assert twin.alpha == 0.5
    with pytest.raises(NotFittedError):
        twin.predict(rows[0])


def test_settings_are_set_by_name(name: str) -> None:
    decoder = DECODERS[name]()
    changed = quick(name).get_params()
    assert decoder.set_params(**changed) is decoder
    assert decoder.get_params() == changed
    with pytest.raises(InvalidArgumentError):
        decoder.set_params(colour="blue")


def test_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(Kriging()) == "Kriging()"
    assert repr(Kriging(neighbours=8, alpha=1.0, seed=3)) == "Kriging(neighbours=8, seed=3)"
    assert repr(NeuralKriging(storage="float16")) == "NeuralKriging(storage='float16')"


def test_a_grid_search_of_scikit_learn_tunes_a_decoder(rows: Arrays) -> None:
    from sklearn.model_selection import GridSearchCV

    def cosines_right(decoder: Decoder, projected: np.ndarray, originals: np.ndarray) -> float:
        decoded = decoder.predict(projected)
        return -float(np.square(decoded @ decoded.T - originals @ originals.T).mean())

    search = GridSearchCV(Kriging(), {"neighbours": np.array([1, 12])}, scoring=cosines_right, cv=3)
    search.fit(*rows)
    assert search.best_params_["neighbours"] in (1, 12)
    best = search.best_estimator_
    assert type(best.settings()["neighbours"]) is int  # an artifact's settings are JSON
    assert best.predict(rows[0]).shape == (ROWS, 1536)


def test_lists_and_float64_are_converted(name: str, rows: Arrays) -> None:
    projected, originals = rows
    of_float32 = quick(name).fit(projected, originals)
    of_lists = quick(name).fit(projected.tolist(), originals.astype(np.float64))
    assert decoder_bytes(of_lists) == decoder_bytes(of_float32)
    decoded = of_lists.predict(projected[:5].astype(np.float64))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, of_float32.predict(projected[:5].tolist()))


def test_an_unfitted_decoder_cannot_predict(name: str, rows: Arrays) -> None:
    for base in (InputError, ValueError, AttributeError):
        with pytest.raises(base):
            DECODERS[name]().predict(rows[0])
    with pytest.raises(NotFittedError):
        DECODERS[name]().predict_with_confidence(rows[0])


Misuse = dict[str, "Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]"]


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    spoilt = array.copy()
    spoilt[3, 2] = value
    return spoilt


MISUSE: Misuse = {
    "one vector": lambda z, c: (z[0], c),
    "coordinates of one dimension": lambda z, c: (z, c[:, 0]),
    "a stack of matrices": lambda z, c: (z[None], c),
    "no columns": lambda z, c: (z[:, :0], c),
    "NaN": lambda z, c: (with_value(z, np.nan), c),
    "infinity": lambda z, c: (z, with_value(c, np.inf)),
    "beyond float32": lambda z, c: (with_value(z.astype(np.float64), 1e300), c),
    "lengths that differ": lambda z, c: (z[:-1], c),
    "one row": lambda z, c: (z[:1], c[:1]),
    "no rows": lambda z, c: (z[:0], c[:0]),
    "rows of other lengths than 1": lambda z, c: (z * 3, c),
    "coordinates of other lengths than 1": lambda z, c: (z, c * 3),
    "a row of zeros": lambda z, c: (np.concatenate([z[:-1], z[-1:] * 0]), c),
    "ragged rows": lambda _, c: ([[1.0, 0.0], [1.0]], c[:2]),
    "strings": lambda z, c: (z.astype(str), c),
    "complex numbers": lambda z, c: (z.astype(complex), c),
    "nothing": lambda _, c: (None, c),
}


@pytest.mark.parametrize("misuse", MISUSE)
def test_fit_refuses_rows_that_it_cannot_use(name: str, misuse: str, rows: Arrays) -> None:
    decoder = DECODERS[name]()
    projected, originals = MISUSE[misuse](*rows)
    with pytest.raises(InvalidArgumentError) as refused:
        decoder.fit(projected, originals)
    assert refused.value.remedy
    assert "output_dims_" not in vars(decoder)


@pytest.mark.parametrize("output_dims", [23, 0, -1536, 1536.0, "1536", None])
def test_fit_refuses_output_dims_that_do_not_hold_the_coordinates(
    name: str, output_dims: Any, rows: Arrays
) -> None:
    with pytest.raises(InvalidArgumentError):
        DECODERS[name]().fit(*rows, output_dims=output_dims)


WRONG_ROWS: dict[str, Any] = {
    "one vector": lambda z: z[0],
    "too narrow": lambda z: z[:, :-1],
    "too wide": lambda z: np.hstack([z, z[:, :1] * 0]),
    "NaN": lambda z: with_value(z, np.nan),
    "not unit": lambda z: z * 2,
    "strings": lambda z: z.astype(str),
}


@pytest.fixture(scope="module")
def all_fitted(rows: Arrays) -> dict[str, Decoder]:
    return {name: quick(name).fit(*rows) for name in DECODERS}


@pytest.mark.parametrize("misuse", WRONG_ROWS)
def test_predict_refuses_rows_that_it_cannot_use(
    name: str, misuse: str, rows: Arrays, all_fitted: dict[str, Decoder]
) -> None:
    with pytest.raises(InvalidArgumentError):
        all_fitted[name].predict(WRONG_ROWS[misuse](rows[0]))


def out_of_bounds() -> list[tuple[str, str, Any]]:
    """Each setting of each decoder: below its bounds, of another type, and not a number."""
    cases = []
    for name, kind in DECODERS.items():
        for setting, value in kind().get_params().items():
            wrong: list[Any] = ["x", None] if isinstance(value, str) else [-1, "8", None]
            wrong += [float("nan"), float("inf")] if isinstance(value, float) else [0.5]
            cases += [(name, setting, one) for one in wrong]
    return cases


@pytest.mark.parametrize(("name", "setting", "value"), out_of_bounds())
def test_fit_refuses_settings_out_of_bounds(name: str, setting: str, value: Any, rows: Arrays) -> None:
    decoder = DECODERS[name](**{setting: value})  # __init__ only stores
    with pytest.raises(InvalidArgumentError, match=setting):
        decoder.fit(*rows)


def test_a_fit_that_fails_leaves_an_unfitted_decoder(rows: Arrays) -> None:
    decoder = Kriging(neighbours=50).fit(*rows)
    with pytest.raises(TrainingError):
        decoder.fit(rows[0][:10], rows[1][:10])
    with pytest.raises(NotFittedError):
        decoder.predict(rows[0])
    assert vars(decoder) == decoder.get_params()


def test_a_second_fit_forgets_the_first(rows: Arrays) -> None:
    projected, originals = rows
    twice = LinearResidual().fit(projected, originals).fit(originals, projected)
    assert (twice.input_dims_, twice.predict(originals).shape) == (24, (ROWS, 1536))
    assert decoder_bytes(twice) == decoder_bytes(LinearResidual().fit(originals, projected))
