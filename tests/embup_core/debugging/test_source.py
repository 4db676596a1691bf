"""Training data with planted defects, and decoders that are judged on rows they have not seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.debugging.decoded_rows import FittedFold, fit_folds, score_decoded_rows
from embup_core.debugging.placement import place_rows
from embup_core.debugging.source import analyse_source
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.decoders.mixture_kriging.mixture_kriging import MixtureKriging
from embup_core.errors import InvalidArgumentError
from embup_core.geometry.coordinates import recover_coordinates
from embup_core.sources.cosine_matrix import CosineMatrix
from tests.embup_core.debugging.conftest import blobs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.debugging.analysis import Analysis

    Vectors = NDArray[np.float32]

SWAPPED = (10, 40, 77)


@dataclass(frozen=True)
class Small:
    """800 rows of 96 dimensions, so that wrong rows can be told for certain."""

    projected: Vectors
    coordinates: Vectors
    matrix: CosineMatrix


def unit(rows: NDArray[np.floating]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((80, 96)), 10, axis=0)
    x = unit((topics + rng.standard_normal((800, 96))) * np.arange(1, 97) ** -0.4 + 0.3)
    path = tmp_path_factory.mktemp("small") / "cosines.npy"
    np.save(path, x @ x.T)
    matrix = CosineMatrix.open(path)
    z = unit(x @ rng.standard_normal((96, 16)) + 0.1)
    return Small(z, recover_coordinates(matrix, output_dims=96), matrix)


def make() -> Kriging:
    return Kriging(mean_dims=64)


@pytest.fixture(scope="module")
def analysis(small: Small) -> Analysis:
    """Three rows of z exchanged in a circle; labels and groups by topics."""
    projected = small.projected.copy()
    projected[list(SWAPPED)] = small.projected[list(np.roll(SWAPPED, 1))]
    labels = [f"half {row // 400}" for row in range(800)]
    folds = fit_folds(make, projected, small.coordinates, output_dims=96, folds=3)
    return analyse_source(
        projected, small.coordinates, small.matrix, folds=folds, labels=labels,
        groups=[f"group {row // 100}" for row in range(800)],
    )  # fmt: skip


def test_wrong_rows_are_found_with_their_places(analysis: Analysis) -> None:
    found = {f.evidence["row"]: f.evidence["belongs_to"] for f in analysis.findings if f.kind == "wrong_row"}
    assert found == dict(zip(SWAPPED, np.roll(SWAPPED, 1).tolist(), strict=True))
    assert analysis.summary["rows_verdict"] == "wrong_rows"
    assert set(np.argsort(-analysis.scores["map_angle"])[:3].tolist()) == set(SWAPPED)


def test_every_row_is_judged_by_a_decoder_that_has_not_seen_it(analysis: Analysis) -> None:
    assert np.isfinite(analysis.scores["pair_error"]).all()
    assert set(analysis.neighbours) >= {"originals", "projected", "decoded"}
    assert analysis.summary["decoding"]["rows"] == 800
    assert analysis.summary["classifier"]["features"] in {"originals", "projected"}
    assert analysis.positions is not None
    assert all(one.partition in {"group", "label", "cluster"} for one in analysis.slices)
    json.dumps(dict(analysis.summary), allow_nan=False)
    for finding in analysis.findings:
        json.dumps(dict(finding.evidence), allow_nan=False)


def test_scores_are_those_of_the_whole_matrices(
    sample_projected: Vectors, sample_coordinates: Vectors, sample_matrix: CosineMatrix
) -> None:
    unseen, seen = np.arange(0, 600, 4), np.setdiff1d(np.arange(600), np.arange(0, 600, 4))
    decoder = MixtureKriging().fit(sample_projected[seen], sample_coordinates[seen])
    found = score_decoded_rows([FittedFold(decoder, unseen)], sample_projected, sample_matrix)
    decoded, confidence = decoder.predict_with_confidence(sample_projected)
    predicted, true = decoded @ decoded.T, sample_matrix.rows(np.arange(600))
    row = unseen[3]
    others = np.setdiff1d(unseen, [row])
    assert found.pair_error[row] == pytest.approx(
        np.sqrt(np.mean((predicted[row, others] - true[row, others]) ** 2)), rel=1e-4
    )
    expected = decoder.cosine_standard_error(
        decoded[[row]], confidence[[row]], decoded[others], confidence[others]
    )
    assert expected is not None
    assert found.expected_error[row] == pytest.approx(np.sqrt(np.mean(expected**2)), rel=1e-4)
    nearest = [np.argsort(-np.delete(cosines[row], row))[:10] for cosines in (predicted, true)]
    shared = len(set(nearest[0].tolist()) & set(nearest[1].tolist()))
    assert found.lost_neighbours[row] == 10 - shared
    assert np.isnan(found.pair_error[seen]).all()
    assert (found.true.rows[seen] == -1).all()


def test_clean_data_without_decoder_and_labels(small: Small) -> None:
    analysis = analyse_source(small.projected, small.coordinates, small.matrix)
    assert not [finding for finding in analysis.findings if finding.severity == "error"]
    assert [f.kind for f in analysis.findings if f.kind == "not_analysed"] == ["not_analysed"]
    assert "pair_error" not in analysis.scores
    with pytest.raises(InvalidArgumentError):
        analyse_source(small.projected, small.coordinates, small.matrix, labels=["a"])


def test_shifted_rows_are_one_finding(small: Small) -> None:
    analysis = analyse_source(np.roll(small.projected, 5, axis=0), small.coordinates, small.matrix)
    errors = [finding for finding in analysis.findings if finding.severity == "error"]
    assert [finding.kind for finding in errors] == ["reordered_rows"]
    assert len(errors[0].rows) == 200


def test_few_rows_are_not_judged(
    sample_projected: Vectors, sample_coordinates: Vectors, sample_matrix: CosineMatrix
) -> None:
    """600 rows of 1536 dimensions are too few to tell wrong ones."""
    analysis = analyse_source(sample_projected, sample_coordinates, sample_matrix)
    assert len([finding for finding in analysis.findings if finding.kind == "not_analysed"]) == 2


def test_places_keep_clusters_apart_and_are_the_same_again() -> None:
    vectors, codes = blobs(2, 40, spread=0.1)
    vectors[0] = np.nan
    places = place_rows(vectors)
    assert places is not None
    assert np.isnan(places.positions[0]).all()
    centres = [places.positions[1:][codes[1:] == code].mean(axis=0) for code in (0, 1)]
    spread = max(places.positions[1:][codes[1:] == code].std(axis=0).max() for code in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > 4 * spread
    again = place_rows(vectors)
    assert again is not None
    np.testing.assert_array_equal(places.positions, again.positions)
    assert place_rows(vectors[:2]) is None
