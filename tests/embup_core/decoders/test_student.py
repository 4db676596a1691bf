"""A student predicts what its teacher does, and stores none of the rows that the teacher looks up."""

import numpy as np
import pytest

from embup_core.artifacts.artifact import decoder_bytes
from embup_core.decoders.base import Decoder
from embup_core.decoders.baselines.linear_residual import LinearResidual
from embup_core.decoders.neural_kriging.neural_kriging import NeuralKriging
from embup_core.decoders.student import Student
from embup_core.training.selection import AUTO, wanted_candidates


@pytest.fixture(scope="module")
def student(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> Student:
    made = Student(teacher_epochs=4, examples=10_000, epochs=6, width=128, batch_rows=256)
    return made.fit(sample_projected[:500], sample_coordinates[:500])


def unseen_cosines(decoder: Decoder, projected: np.ndarray) -> np.ndarray:
    rows = decoder.predict(projected[500:])
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


def test_it_predicts_what_its_teacher_does(
    student: Student, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    rows = sample_projected[:500], sample_coordinates[:500]
    predicted, expected, of_a_line = (
        unseen_cosines(decoder, sample_projected)
        for decoder in (
            student,
            NeuralKriging(epochs=4).fit(*rows),
            LinearResidual().fit(*rows),
        )
    )
    correlation = np.corrcoef(predicted, expected)[0, 1]
    assert correlation > 0.8
    assert correlation > np.corrcoef(of_a_line, expected)[0, 1] + 0.1
    assert abs((predicted - expected).mean()) < 0.01


def test_it_stores_no_training_row(
    student: Student, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    assert not any(500 in array.shape for array in student.arrays().values())
    fewer = Student(**student.settings() | {"examples": 100, "epochs": 1, "teacher_epochs": 2})
    fewer.fit(sample_projected[:300], sample_coordinates[:300])
    assert len(decoder_bytes(fewer)) == len(decoder_bytes(student))


def test_rows_that_it_cannot_explain_are_out_of_distribution(
    student: Student, sample_projected: np.ndarray
) -> None:
    far = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    _, near_confidence = student.predict_with_confidence(sample_projected[500:])
    _, far_confidence = student.predict_with_confidence(far)
    assert np.median(far_confidence) < np.median(near_confidence)
    _, unexplained, distance = student.ood_.weights
    assert unexplained > 0
    assert distance == 0


def test_it_is_not_evaluated_beyond_the_training_rows(student: Student) -> None:
    direction = np.eye(1, 32, dtype=np.float32)
    radius = student.radial_clamp_.radius
    for distance, expected in (
        (radius / 2, radius / 2),
        (radius * 2, radius / 2),
        (radius * 10, radius / 10),
    ):
        clamped = student.radial_clamp_(np.float32(distance) * direction)
        np.testing.assert_allclose(clamped, expected * direction, rtol=1e-5)


def test_it_is_fitted_only_on_request() -> None:
    assert "student" not in wanted_candidates(AUTO)
    assert "mixture_kriging" in wanted_candidates(AUTO)
    assert "student" in wanted_candidates("student")
