"""The promised figures on real embeddings: training as users start it, judged by what it prints.

The folder of real embeddings is EMBUP_SHARED, or `../shared` beside the repository; without it they skip.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup.cli.service_process import service_process
from embup_core.decoders.baselines.linear_residual import LinearResidual
from embup_core.decoders.neural_kriging.neural_kriging import NeuralKriging
from embup_core.evaluation import Scores, evaluate_decoder
from embup_core.geometry.coordinates import recover_coordinates
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.training.split import split_rows

if TYPE_CHECKING:
    from embup_core.decoders import Decoder

ROOT = Path(__file__).resolve().parents[2]
MAKER = Path(os.environ.get("EMBUP_SHARED", ROOT.parent / "shared")) / "data" / "make_seed_files.py"
PEAK_BYTES = 2.5e9

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not MAKER.is_file(), reason=f"needs the folder of real embeddings (EMBUP_SHARED): no file {MAKER}"
    ),
]


@dataclass(frozen=True)
class Trained:
    """One `embup train` on real rows: its two files, what it printed, the most memory it held."""

    source: Path
    registry: Path
    result: dict[str, Any]
    peak_bytes: int

    @property
    def champion(self) -> dict[str, Any]:
        """Scores of the published decoder on test rows."""
        scores: dict[str, Any] = self.result["evaluation"][self.result["champion"]]
        return scores

    def r2(self, decoder: str) -> float:
        """R2 of one decoder over test x test pairs."""
        return float(self.result["evaluation"][decoder]["test_test"]["r2"])


def make_files(folder: Path, *options: str) -> None:
    """The two input files, made from real embeddings."""
    subprocess.run([sys.executable, MAKER, folder, *options], check=True, capture_output=True)


def _train(work: Path, decoder: str) -> Trained:
    source, registry = work / "source", work / "registry"
    make_files(source)
    embup = Path(sys.executable).parent / "embup"
    printed = work / "printed"
    with printed.open("wb") as output:
        child = subprocess.Popen(
            [
                embup,
                "train",
                "--source",
                source,
                "--registry",
                registry,
                "--data",
                work,
                "--json",
                "--decoder",
                decoder,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
        )
        _, status, usage = os.wait4(child.pid, 0)  # this child's memory alone, unlike RUSAGE_CHILDREN
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return Trained(source, registry, json.loads(printed.read_text()), usage.ru_maxrss * 1024)


@pytest.fixture(scope="module")
def ada(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All rows, and what is fitted in seconds; what takes longer runs on a part of the rows below."""
    return _train(tmp_path_factory.mktemp("ada"), decoder="auto")


def test_the_champion_reaches_the_promised_figures(ada: Trained) -> None:
    pairs = ada.champion["test_test"]
    assert pairs["r2"] >= 0.57
    assert pairs["rmse"] <= 0.0243
    assert abs(pairs["bias"]) <= 0.002
    assert ada.champion["recall_at_10"] >= 0.46
    assert ada.champion["unit_norm_error"] <= 1e-6


def test_the_yardstick_and_the_baselines_stand_beside_the_champion_and_below_it(ada: Trained) -> None:
    for other in ("constant_mean", "projected_cosines", "linear_residual"):
        assert ada.r2(other) < ada.champion["test_test"]["r2"]


def test_the_matrix_is_never_held_whole_and_memory_stays_bounded(ada: Trained) -> None:
    assert ada.peak_bytes <= PEAK_BYTES


def test_recovered_coordinates_reproduce_the_cosines(ada: Trained) -> None:
    matrix = CosineMatrix.open(ada.source / "og_train_cos_theta.npy")
    coordinates = recover_coordinates(matrix)
    i, j = np.random.default_rng(1).integers(matrix.n_rows, size=(2, 10_000))
    recovered = np.einsum("nd,nd->n", coordinates[i].astype(np.float64), coordinates[j].astype(np.float64))
    np.testing.assert_allclose(recovered, matrix.pairs(i, j), rtol=0, atol=1e-5)


def test_batch_and_realtime_answers_are_equal_and_unit(ada: Trained, tmp_path: Path) -> None:
    from embup.cli.batches import follow
    from embup.cli.client import connect

    rows = np.load(ada.source / "projected_train_embs.npy")[:1000:2]
    source, target = tmp_path / "input.txt", tmp_path / "output.txt"
    np.savetxt(source, rows, fmt="%.8f", delimiter=",")
    with (
        service_process(registry=ada.registry, data=tmp_path, log=tmp_path / "service.log") as url,
        connect(url) as service,
    ):
        identity = service.submit_batch(source, target)
        assert follow(service, identity, lambda *_: None).status == "COMPLETED"
        decoded = np.loadtxt(target, delimiter=",")
        assert decoded.shape == (len(rows), 1536)
        np.testing.assert_allclose(np.linalg.norm(decoded, axis=1), 1, rtol=0, atol=1e-6)
        for i in range(0, len(rows), 5):
            answer = service.upsample([round(float(value), 8) for value in rows[i]]).embedding
            np.testing.assert_allclose(decoded[i], answer, rtol=0, atol=1e-6)
            assert abs(np.linalg.norm(answer) - 1) <= 1e-6


@pytest.mark.parametrize(
    "options",
    [("--rows", "2500"), ("--source", "small3", "--rows", "2500"), ("--kind", "pca", "--rows", "2500")],
    ids=["the same model", "another embedding model", "another projection"],
)
def test_the_same_settings_do_well_on_other_data(options: tuple[str, ...], tmp_path: Path) -> None:
    """A part of the rows, for time; docs/explanation/decoder.md has the figures for all of them."""
    make_files(tmp_path, *options)
    matrix = CosineMatrix.open(tmp_path / "og_train_cos_theta.npy")
    projected = np.load(tmp_path / "projected_train_embs.npy")
    rows = split_rows(len(projected), seed=0)
    coordinates = recover_coordinates(matrix)

    def scores(decoder: Decoder) -> Scores:
        decoder.fit(projected[rows.fit_rows], coordinates[rows.fit_rows])
        return evaluate_decoder(
            decoder,
            projected,
            matrix,
            fit_rows=rows.fit_rows,
            eval_rows=rows.test,
            standard_error=decoder.cosine_standard_error,
        )

    found = scores(NeuralKriging())
    assert 1 - found.test_test.r2 < 0.85 * (1 - scores(LinearResidual()).test_test.r2)
    assert abs(found.test_test.bias) < 0.01
    assert found.calibration is not None
    assert all(decile.ratio is not None and 0.6 < decile.ratio < 1.6 for decile in found.calibration)
