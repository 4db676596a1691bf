"""The gate on real decoders: equally good ones pass, each way of being worse is held by the check for it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.decoders.kriging.kriging import Kriging
from embup_core.evaluation.cosines import MatrixCosines
from embup_core.geometry.basis import RecoveryInBasis, recover_in_new_basis
from embup_core.training.promotion import GateResult, Margins, compare_on_held_out
from embup_core.training.promotion.gate import (
    CALIBRATION,
    DECODE_TIME,
    ENOUGH_ROWS,
    R2,
    RECALL,
    SIZE,
    STORED,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from embup_core.sources.cosine_matrix import CosineMatrix

HELD = np.arange(0, 600, 3)
FREE = np.setdiff1d(np.arange(600), HELD)
WIDE = Margins(r2=1, slice_r2=0.05, recall=1, calibration=9, decode_time=100, quick_ms=100)


@pytest.fixture(scope="module")
def recovered(sample_matrix: CosineMatrix, sample_projected: NDArray[np.float32]) -> RecoveryInBasis:
    return recover_in_new_basis(sample_matrix, sample_projected, output_dims=1536)


@pytest.fixture(scope="module")
def fit(recovered: RecoveryInBasis, sample_projected: NDArray[np.float32]) -> Callable[..., Kriging]:
    """Fit on nine in ten of the rows that are not held out; those of `wrong` have the z of another."""

    def fitted(seed: int, wrong: NDArray[np.int64] | None = None, kind: type[Kriging] = Kriging) -> Kriging:
        rows = np.random.default_rng(seed).permutation(FREE)[: int(0.9 * len(FREE))]
        z = sample_projected.copy()
        if wrong is not None:
            z[wrong] = z[np.roll(wrong, 1)]
        return kind().fit(z[rows], recovered.coordinates[rows], output_dims=1536, basis=recovered.basis)

    return fitted


@pytest.fixture(scope="module")
def compare(recovered: RecoveryInBasis, sample_projected: NDArray[np.float32]) -> Callable[..., GateResult]:
    def compared(old: Kriging, new: Kriging, rows: NDArray[np.int64] = HELD, **given: Any) -> GateResult:
        return compare_on_held_out(
            old, new, sample_projected[rows], recovered.coordinates[rows], **{"margins": WIDE, **given}
        )

    return compared


def held_by(found: GateResult) -> list[str]:
    return [check.name for check in found.checks if not check.passed]


def test_an_equally_good_decoder_passes(
    fit: Callable[..., Kriging], compare: Callable[..., GateResult]
) -> None:
    found = compare(fit(0), fit(1), margins=Margins(r2=0.05, quick_ms=100), previous="v1")
    assert found.passed, found.reasons
    assert found.reasons == ()
    assert {check.name for check in found.checks} >= {R2, RECALL, STORED, SIZE, DECODE_TIME}
    assert GateResult.from_json(json.loads(json.dumps(found.to_json()))) == found
    again = compare(fit(0), fit(1), margins=Margins(r2=0.05, quick_ms=100), previous="v1")
    for one, other in zip(found.checks, again.checks, strict=True):
        assert one == other or one.name == DECODE_TIME


def test_one_trained_on_shuffled_rows_is_held(
    fit: Callable[..., Kriging], compare: Callable[..., GateResult]
) -> None:
    wrong = np.random.default_rng(5).permutation(FREE)[: int(0.15 * len(FREE))]
    found = compare(fit(0), fit(1, wrong), margins=Margins(quick_ms=100))
    assert not found.passed
    assert R2 in held_by(found)
    difference = found.check(R2).difference
    assert difference is not None
    assert difference < -0.03
    assert any(reason.startswith(R2) for reason in found.reasons)
    assert "HELD" in found.to_markdown()


def test_a_slice_alone_holds_it(
    fit: Callable[..., Kriging],
    compare: Callable[..., GateResult],
    recovered: RecoveryInBasis,
) -> None:
    # Rows of one region of the originals, whose training rows have the z of others.
    near = np.argsort(-(recovered.coordinates @ recovered.coordinates[0]))[:200]
    region = np.isin(np.arange(600), near)
    found = compare(
        fit(0),
        fit(0, np.intersect1d(near, FREE)),
        slices={"cluster": np.where(region, "a", "b")[HELD], "drop": np.full(len(HELD), "2026-01")},
    )
    assert held_by(found) == ["cluster a"]
    assert found.check("cluster a").rows == np.isin(HELD, near).sum()
    with pytest.raises(KeyError):  # a slice of all rows says nothing new
        found.check("drop 2026-01")


def test_small_slices_are_not_looked_at(
    fit: Callable[..., Kriging], compare: Callable[..., GateResult]
) -> None:
    found = compare(fit(0), fit(1), slices={"row": np.arange(len(HELD))})
    assert not any(check.is_slice for check in found.checks)


def test_rows_that_the_old_version_decoded_must_still_be_found(
    fit: Callable[..., Kriging],
    compare: Callable[..., GateResult],
    sample_matrix: CosineMatrix,
    sample_projected: NDArray[np.float32],
) -> None:
    other = recover_in_new_basis(sample_matrix, sample_projected, output_dims=1536, seed=1)
    new = Kriging(seed=1).fit(sample_projected[FREE], -other.coordinates[FREE, ::-1].copy(), output_dims=1536)
    found = compare(fit(0), new, margins=Margins(r2=1, slice_r2=1, calibration=9, quick_ms=100))
    assert held_by(found) == [STORED]


def test_few_rows_decide_nothing(fit: Callable[..., Kriging], compare: Callable[..., GateResult]) -> None:
    found = compare(fit(0), fit(0), HELD[:99])
    assert held_by(found) == [ENOUGH_ROWS]


class Slow(Kriging):
    """As good, and slower than anybody waits."""

    def _predict(self, projected: NDArray[np.float32]) -> Any:
        time.sleep(0.002 * len(projected))
        return super()._predict(projected)


class TooSure(Kriging):
    """As good, and sure of three digits."""

    def cosine_standard_error(self, *arguments: Any) -> Any:
        errors = super().cosine_standard_error(*arguments)
        return (
            np.full((len(arguments[0]), len(arguments[2])), 1e-3, np.float32)
            if errors is None
            else errors / 10
        )


@pytest.mark.parametrize(
    ("kind", "margins", "name"),
    [
        (Slow, {"decode_time": 2, "quick_ms": 1}, DECODE_TIME),
        (TooSure, {"calibration": 1.25}, CALIBRATION),
        (Kriging, {"size": 0.5, "small_bytes": 0}, SIZE),
    ],
)
def test_guards(
    fit: Callable[..., Kriging],
    compare: Callable[..., GateResult],
    kind: type[Kriging],
    margins: dict[str, Any],
    name: str,
) -> None:
    wide: dict[str, Any] = {
        "r2": 1,
        "slice_r2": 1,
        "recall": 1,
        "calibration": 9,
        "decode_time": 100,
        "quick_ms": 100,
    }
    found = compare(fit(0), fit(0, kind=kind), HELD[:120], margins=Margins(**(wide | margins)))
    assert held_by(found) == [name]


def test_a_matrix_is_as_good_as_coordinates(
    fit: Callable[..., Kriging],
    compare: Callable[..., GateResult],
    sample_matrix: CosineMatrix,
    sample_projected: NDArray[np.float32],
) -> None:
    old, new = fit(0), fit(1)
    of_matrix = compare_on_held_out(
        old,
        new,
        sample_projected[HELD],
        MatrixCosines(sample_matrix.memory_map, HELD, HELD),
        margins=WIDE,
    )
    of_coordinates = compare(old, new)
    assert of_matrix.check(R2).new == pytest.approx(of_coordinates.check(R2).new, abs=1e-4)


def test_arrays_of_other_lengths_are_refused(
    fit: Callable[..., Kriging], compare: Callable[..., GateResult]
) -> None:
    with pytest.raises(ValueError, match="drop"):
        compare(fit(0), fit(0), slices={"drop": np.zeros(3)})
