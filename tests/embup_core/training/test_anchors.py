"""Anchors in a training: which rotation is published, and when there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.decoders import Kriging, Linear
from embup_core.training.anchors import anchor_warnings, fit_anchors, score_candidate
from embup_core.training.candidates import evaluate_candidates
from embup_core.training.fitting import fit_candidates
from embup_core.training.sample import open_sample

if TYPE_CHECKING:
    from embup_core.training.sample import Sample
    from embup_core.training.selection import Evaluation
    from tests.conftest import AnchoredSource


@pytest.fixture(scope="module")
def sample(anchored_source: AnchoredSource) -> Sample:
    return open_sample(anchored_source.files, output_dims=100).sample


@pytest.fixture(scope="module")
def evaluation(sample: Sample) -> Evaluation:
    candidates = fit_candidates(sample, choice="kriging", settings={}, not_fitted={})
    return evaluate_candidates(sample, candidates, choice="kriging").evaluation


@pytest.fixture
def decoder(sample: Sample) -> Kriging:
    return Kriging().fit(sample.projected, sample.coordinates, output_dims=100)


def test_the_rotation_takes_unseen_rows_to_their_originals(
    sample: Sample, evaluation: Evaluation, decoder: Kriging, anchored_source: AnchoredSource
) -> None:
    found = fit_anchors(decoder, sample, evaluation)
    assert found is not None
    assert (found.fitted_with, found.scores) == ("coordinates", evaluation.anchors["kriging"])
    turned = found.basis()(decoder.predict(anchored_source.unseen_projected))
    assert np.median(np.vecdot(turned, anchored_source.unseen_originals)) > 0.7


def test_a_decoder_of_other_axes_is_rotated_by_what_it_answers(
    sample: Sample, evaluation: Evaluation, decoder: Kriging, anchored_source: AnchoredSource
) -> None:
    """Decoders use the principal axes; one that does not must not be rotated as if it did."""
    z = anchored_source.unseen_projected
    dims = decoder.mean_dims_
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((dims, dims)))[0].astype(np.float32)
    trend = decoder.trend_
    decoder.trend_ = replace(trend, weights=trend.weights @ turn, intercept=trend.intercept @ turn)
    decoder.residuals_ = decoder.residuals_ @ turn
    other = fit_anchors(decoder, sample, evaluation)
    assert other is not None
    assert other.fitted_with == "decoded"
    assert np.median(np.vecdot(other.basis()(decoder.predict(z)), anchored_source.unseen_originals)) > 0.7


def test_a_decoder_without_a_regression_leaves_the_anchors_out(
    sample: Sample, evaluation: Evaluation, decoder: Kriging
) -> None:
    linear = Linear().fit(sample.projected, sample.coordinates, output_dims=100)
    assert score_candidate(linear, sample, linear.predict(sample.projected[sample.rows.test])) is None
    without = replace(evaluation, anchors={})
    assert fit_anchors(decoder, sample, without) is None
    assert len(list(anchor_warnings(without, has_anchors=True))) == 1
    assert not list(anchor_warnings(without, has_anchors=False))
    assert not list(anchor_warnings(evaluation, has_anchors=True))


def test_a_source_without_anchors_has_no_scores(sample: Sample, decoder: Kriging) -> None:
    without = replace(sample, anchors=None)
    assert score_candidate(decoder, without, decoder.predict(sample.projected[sample.rows.test])) is None
