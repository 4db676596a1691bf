"""The package `embup`: light to import, its names fixed, its errors its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

import embup

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.artifacts.registry import Registry

HEAVY = {
    "torch",
    "sklearn",
    "scipy",
    "matplotlib",
    "dagster",
    "litestar",
    "pydantic",
    "numpy",
    "faiss",
    "pyarrow",
}


def test_the_exported_names_are_these() -> None:
    assert embup.__all__ == [
        "EmbupError",
        "Scores",
        "TrainingResult",
        "Upsampler",
        "__version__",
        "decoders",
        "evaluate",
        "load",
        "train",
    ]
    assert dir(embup) == sorted(embup.__all__)
    assert all(getattr(embup, name) is not None for name in embup.__all__)
    with pytest.raises(AttributeError, match="upsampel"):
        embup.upsampel  # noqa: B018


def test_importing_it_imports_nothing_heavy() -> None:
    script = "import sys, embup; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert {name.partition(".")[0] for name in modules.stdout.split()} & HEAVY == set()


def test_decoding_imports_nothing_of_training_and_serving(registry: Registry) -> None:
    script = (
        f"import sys, embup; model = embup.load({str(registry.root)!r})\n"
        "model.upsample([[0.1] * model.input_dims]); print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    unwanted = HEAVY - {"numpy", "faiss", "pydantic"}
    assert {name.partition(".")[0] for name in modules.stdout.split()} & unwanted == set()


def test_lists_and_any_number_type_are_decoded_alike(registry: Registry) -> None:
    model = embup.load(registry.root)
    z = np.random.default_rng(0).standard_normal((3, model.input_dims)).astype(np.float32)
    expected, confidence = model.upsample(z)
    for rows in (z.tolist(), z.astype(np.float64), np.asfortranarray(z)):
        found, sure = model.upsample(rows)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(sure, confidence, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "rows",
    [
        [[0.1] * 31],
        [0.1] * 32,
        [[np.nan] * 32],
        [[0.0] * 32],
        [[0.1] * 32, [0.1]],
        [["a"] * 32],
        [[None] * 32],
    ],
    ids=["width", "one vector", "nan", "zeros", "ragged", "text", "none"],
)
def test_rows_that_cannot_be_decoded_are_refused(registry: Registry, rows: list[object]) -> None:
    with pytest.raises(embup.EmbupError) as refused:
        embup.load(registry.root).upsample(rows)  # type: ignore[arg-type]
    assert refused.value.remedy


def test_a_file_is_decoded_as_its_rows_are(registry: Registry, tmp_path: Path) -> None:
    model = embup.load(registry.root)
    z = np.random.default_rng(0).standard_normal((300, model.input_dims)).astype(np.float32)
    np.save(tmp_path / "short.npy", z)
    seen: list[float] = []
    done = model.upsample_file(
        tmp_path / "short.npy", tmp_path / "long.npy", progress=lambda _, at, __: seen.append(at)
    )
    assert (done.rows, done.failed_rows, done.output) == (300, 0, tmp_path / "long.npy")
    assert seen == sorted(seen) != []
    np.testing.assert_allclose(np.load(done.output), model.upsample(z)[0], rtol=0, atol=1e-6)
    with pytest.raises(embup.EmbupError):
        model.upsample_file(tmp_path / "short.npy", tmp_path / "long.npy")


class TestEvaluate:
    """Arrays in, the scores of the files' evaluation out."""

    @pytest.fixture
    def z(self) -> np.ndarray:
        return np.random.default_rng(2).standard_normal((40, 32))

    @pytest.fixture
    def x(self) -> np.ndarray:
        return np.random.default_rng(3).standard_normal((40, 1536))

    def test_originals_and_their_cosines_give_the_same_scores(
        self, registry: Registry, z: np.ndarray, x: np.ndarray
    ) -> None:
        model = embup.load(registry.root)
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        by_originals = embup.evaluate(
            model, z, originals=x, reference_projected=z[:30], reference_originals=x[:30]
        )
        cosines = unit @ unit.T
        by_cosines = embup.evaluate(
            model, z, cosines=cosines, reference_projected=z[:30], reference_cosines=cosines[:, :30]
        )
        assert by_originals.test_test.r2 == pytest.approx(by_cosines.test_test.r2, abs=1e-4)
        assert by_originals.recall_at_10 == by_cosines.recall_at_10
        assert by_cosines.test_test.pairs == 40 * 39 / 2

    def test_arrays_that_do_not_fit_are_refused(
        self, registry: Registry, z: np.ndarray, x: np.ndarray
    ) -> None:
        model = embup.load(registry.root)
        nan = np.full((40, 40), np.nan)
        for arguments in (
            {},
            {"cosines": x @ x.T, "originals": x},
            {"cosines": x @ x.T},
            {"cosines": nan},
            {"originals": x[:39]},
            {"originals": x, "reference_originals": x},
            {"originals": x, "reference_projected": z},
        ):
            with pytest.raises(embup.EmbupError):
                embup.evaluate(model, z, **arguments)
        with pytest.raises(embup.EmbupError):
            embup.evaluate(model, z[:5], originals=x[:5])
