"""A student answers as its teacher does, and ships none of the rows that the teacher looks up."""

import numpy as np
import pytest

from embup_core.artifact import decoder_bytes
from embup_core.decoders.base import Decoder
from embup_core.decoders.linear_residual import LinearResidualDecoder
from embup_core.decoders.neural_kriging import NeuralKrigingDecoder
from embup_core.decoders.student import StudentDecoder
from embup_core.selection import AUTO, wanted_candidates


@pytest.fixture(scope="module")
def student(sample_projected: np.ndarray, sample_coordinates: np.ndarray) -> StudentDecoder:
    made = StudentDecoder(teacher_epochs=4, examples=10_000, epochs=6, width=128, batch_rows=256)
    return made.fit(sample_projected[:500], sample_coordinates[:500])


def unseen_cosines(decoder: Decoder, projected: np.ndarray) -> np.ndarray:
    rows = decoder.predict(projected[500:])
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


def test_it_answers_as_its_teacher_does(
    student: StudentDecoder, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    known = sample_projected[:500], sample_coordinates[:500]
    taught, expected, of_a_line = (
        unseen_cosines(decoder, sample_projected)
        for decoder in (
            student,
            NeuralKrigingDecoder(epochs=4).fit(*known),
            LinearResidualDecoder().fit(*known),
        )
    )
    alike = np.corrcoef(taught, expected)[0, 1]
    assert alike > 0.8
    assert alike > np.corrcoef(of_a_line, expected)[0, 1] + 0.1
    assert abs((taught - expected).mean()) < 0.01


def test_it_knows_no_training_row(
    student: StudentDecoder, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> None:
    assert not any(500 in array.shape for array in student.arrays().values())
    fewer = StudentDecoder(**student.settings() | {"examples": 100, "epochs": 1, "teacher_epochs": 2})
    fewer.fit(sample_projected[:300], sample_coordinates[:300])
    assert len(decoder_bytes(fewer)) == len(decoder_bytes(student))


def test_what_it_cannot_explain_is_new_to_it(student: StudentDecoder, sample_projected: np.ndarray) -> None:
    far = np.random.default_rng(0).standard_normal((500, 32)).astype(np.float32)
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    _, known = student.predict_with_confidence(sample_projected[500:])
    _, unknown = student.predict_with_confidence(far)
    assert np.median(unknown) < np.median(known)
    _, unexplained, distance = student.novelty_.weights
    assert unexplained > 0
    assert distance == 0


def test_beyond_the_training_rows_it_is_asked_within(student: StudentDecoder) -> None:
    direction = np.eye(1, 32, dtype=np.float32)
    reach = student.reach_.distance
    for distance, asked_at in ((reach / 2, reach / 2), (reach * 2, reach / 2), (reach * 10, reach / 10)):
        asked = student.reach_(np.float32(distance) * direction)
        np.testing.assert_allclose(asked, asked_at * direction, rtol=1e-5)


def test_it_is_fitted_only_where_it_is_asked_for() -> None:
    assert "student" not in wanted_candidates(AUTO)
    assert "neural_kriging" in wanted_candidates(AUTO)
    assert "student" in wanted_candidates("student")
