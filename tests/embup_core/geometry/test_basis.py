"""A kept basis gives the same coordinates in a later source, and is refused where it would not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import load, save

from embup_core.decoders import Kriging, LinearResidual
from embup_core.errors import BasisLostError, InvalidArgumentError
from embup_core.geometry.basis import Basis, RecoveryInBasis, recover_in_kept_basis, recover_in_new_basis
from embup_core.sources.cosine_matrix import CosineMatrix

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

DIMS, SHORT = 48, 12


class Rows(NamedTuple):
    """Originals (n, DIMS) and z (n, SHORT)."""

    originals: Floats
    projected: Floats


def unit(rows: NDArray[np.float64]) -> Floats:
    made: Floats = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made


@pytest.fixture(scope="module")
def rows() -> Rows:
    rng = np.random.default_rng(0)
    topics = np.repeat(rng.standard_normal((40, DIMS)), 15, axis=0)
    originals = unit((topics + rng.standard_normal((600, DIMS))) * np.arange(1, DIMS + 1) ** -0.7 + 0.2)
    return Rows(originals, unit(originals @ rng.standard_normal((DIMS, SHORT)) + 0.1))


@pytest.fixture
def matrix(tmp_path: Path) -> Callable[[Floats], CosineMatrix]:
    def make(originals: Floats) -> CosineMatrix:
        path = tmp_path / f"cosines-{len(list(tmp_path.iterdir()))}.npy"
        np.save(path, originals @ originals.T)
        return CosineMatrix.open(path)

    return make


@pytest.fixture
def first(rows: Rows, matrix: Callable[[Floats], CosineMatrix]) -> RecoveryInBasis:
    """The first 400 rows in a basis of their own."""
    return recover_in_new_basis(matrix(rows.originals[:400]), rows.projected[:400], output_dims=DIMS)


def test_a_new_basis_has_the_coordinates_in_principal_axes(rows: Rows, first: RecoveryInBasis) -> None:
    c = first.coordinates
    np.testing.assert_allclose(c @ c.T, rows.originals[:400] @ rows.originals[:400].T, atol=1e-5)
    products = c.T.astype(np.float64) @ c
    off_diagonal = products - np.diag(np.diag(products))
    assert np.abs(off_diagonal).max() < 1e-3
    assert (np.diff(np.diag(products)) < 1e-3).all(), "largest first"
    assert first.basis.cosine_error < 1e-6
    np.testing.assert_array_equal(first.basis.landmarks, rows.projected[first.landmarks])


def test_the_same_source_gives_the_same_bits(
    rows: Rows, first: RecoveryInBasis, matrix: Callable[[Floats], CosineMatrix]
) -> None:
    again = recover_in_kept_basis(
        first.basis, matrix(rows.originals[:400]), rows.projected[:400], output_dims=DIMS
    )
    np.testing.assert_array_equal(again.coordinates, first.coordinates)
    assert again.basis.id == first.basis.id


def test_old_rows_keep_their_coordinates_among_new_ones_and_at_other_numbers(
    rows: Rows, first: RecoveryInBasis, matrix: Callable[[Floats], CosineMatrix]
) -> None:
    order = np.random.default_rng(1).permutation(600)
    originals, projected = rows.originals[order], rows.projected[order]
    kept = recover_in_kept_basis(first.basis, matrix(originals), projected, output_dims=DIMS)
    place = np.argsort(order)[:400]
    np.testing.assert_allclose(kept.coordinates[place], first.coordinates, atol=2e-5)
    np.testing.assert_allclose(kept.coordinates @ kept.coordinates.T, originals @ originals.T, atol=3e-5)
    fresh = recover_in_new_basis(matrix(originals), projected, output_dims=DIMS)
    assert np.abs(fresh.coordinates[place] - first.coordinates).max() > 0.01
    assert fresh.basis.id != first.basis.id


def test_landmarks_are_found_after_another_normalisation_and_no_farther(
    rows: Rows, first: RecoveryInBasis
) -> None:
    basis = first.basis
    np.testing.assert_array_equal(basis.find_landmarks(rows.projected[:400]), first.landmarks)
    nearly = rows.projected[:400] * np.float32(1 + 5e-7)
    np.testing.assert_array_equal(basis.find_landmarks(nearly), first.landmarks)
    assert (basis.find_landmarks(rows.projected[:400] * np.float32(1 + 1e-5)) == -1).all()
    assert (basis.find_landmarks(rows.projected[400:]) == -1).all()


def test_changed_and_missing_landmarks_are_left_out_as_long_as_enough_are_left(
    rows: Rows, first: RecoveryInBasis, matrix: Callable[[Floats], CosineMatrix]
) -> None:
    assert (len(first.landmarks), first.basis.landmarks_needed) == (64, 53)
    originals = rows.originals.copy()
    changed, missing = first.landmarks[:4], first.landmarks[4:9]
    originals[changed] = originals[500:504]
    there = np.setdiff1d(np.arange(600), missing)
    kept = recover_in_kept_basis(
        first.basis, matrix(originals[there]), rows.projected[there], output_dims=DIMS
    )
    assert len(kept.landmarks) == 64 - 9
    np.testing.assert_allclose(
        kept.coordinates @ kept.coordinates.T, originals[there] @ originals[there].T, atol=3e-5
    )
    old = np.flatnonzero((there < 400) & ~np.isin(there, changed))
    np.testing.assert_allclose(kept.coordinates[old], first.coordinates[there[old]], atol=1e-4)
    assert kept.basis.id == first.basis.id


@pytest.mark.parametrize("loss", ["missing", "changed"])
def test_too_few_landmarks_lose_the_basis(
    rows: Rows, first: RecoveryInBasis, matrix: Callable[[Floats], CosineMatrix], loss: str
) -> None:
    lost, originals, there = first.landmarks[:12], rows.originals.copy(), np.arange(600)
    if loss == "missing":
        there = np.setdiff1d(there, lost)
    else:
        originals[lost] = originals[np.roll(lost, 1)]
    with pytest.raises(BasisLostError) as caught:
        recover_in_kept_basis(first.basis, matrix(originals[there]), rows.projected[there], output_dims=DIMS)
    assert "53 of its 64" in caught.value.message
    assert "--basis new" in caught.value.remedy


def test_originals_of_another_model_lose_the_basis(
    rows: Rows, first: RecoveryInBasis, matrix: Callable[[Floats], CosineMatrix]
) -> None:
    others = unit(rows.originals + 0.3 * np.random.default_rng(2).standard_normal((600, DIMS)))
    with pytest.raises(BasisLostError):
        recover_in_kept_basis(first.basis, matrix(others), rows.projected, output_dims=DIMS)


def test_landmarks_that_do_not_span_new_rows_lose_the_basis(
    rows: Rows, matrix: Callable[[Floats], CosineMatrix]
) -> None:
    narrow = rows.originals.copy()
    narrow[:400, 20:] = 0
    narrow = unit(narrow.astype(np.float64))
    found = recover_in_new_basis(matrix(narrow[:400]), rows.projected[:400], output_dims=DIMS)
    assert found.basis.dims == 20
    with pytest.raises(BasisLostError):
        recover_in_kept_basis(found.basis, matrix(narrow), rows.projected, output_dims=DIMS)


def test_other_dimensions_lose_the_basis(
    rows: Rows, first: RecoveryInBasis, matrix: Callable[[Floats], CosineMatrix]
) -> None:
    with pytest.raises(BasisLostError):
        recover_in_kept_basis(first.basis, matrix(rows.originals), rows.projected, output_dims=DIMS + 2)


@pytest.mark.parametrize("decoder", [Kriging, LinearResidual])
def test_decoders_of_one_basis_are_comparable_and_others_are_not(
    rows: Rows,
    first: RecoveryInBasis,
    matrix: Callable[[Floats], CosineMatrix],
    decoder: type[Kriging | LinearResidual],
) -> None:
    train = slice(0, 550)
    projected, originals = rows.projected[train], matrix(rows.originals[train])
    kept = recover_in_kept_basis(first.basis, originals, projected, output_dims=DIMS)
    fresh = recover_in_new_basis(originals, projected, output_dims=DIMS, seed=1)
    old, new, other = (
        decoder().fit(z, found.coordinates, output_dims=DIMS, basis=found.basis).predict(rows.projected[550:])
        for z, found in ((rows.projected[:400], first), (projected, kept), (projected, fresh))
    )
    assert np.median(np.vecdot(old, new)) > 0.95
    assert np.median(np.vecdot(old, other)) < 0.7


def test_the_seed_draws_nothing_that_a_basis_has(rows: Rows, first: RecoveryInBasis) -> None:
    one, other = (
        Kriging(seed=seed)
        .fit(rows.projected[:400], first.coordinates, output_dims=DIMS, basis=first.basis)
        .predict(rows.projected[400:])
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(one, other)


def test_a_decoder_refuses_a_basis_of_other_dimensions(rows: Rows, first: RecoveryInBasis) -> None:
    with pytest.raises(InvalidArgumentError):
        Kriging().fit(rows.projected[:400], first.coordinates, output_dims=DIMS + 2, basis=first.basis)


def test_bytes_come_back_and_the_id_is_their_hash(first: RecoveryInBasis) -> None:
    data = first.basis.to_bytes()
    again = Basis.from_bytes(data)
    assert again.to_bytes() == data
    assert again.id == first.basis.id
    moved = load(data)
    moved["landmarks"] = np.ascontiguousarray(moved["landmarks"][::-1])
    assert Basis.from_bytes(save(moved)).id != first.basis.id


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda a: {**a, "coordinates": a["coordinates"][:-1]}, id="fewer coordinates"),
        pytest.param(lambda a: {**a, "frequencies": a["frequencies"][:, :-1]}, id="fewer frequencies"),
        pytest.param(lambda a: {**a, "landmarks": a["landmarks"] * np.float32(np.nan)}, id="not finite"),
        pytest.param(lambda a: {**a, "scale": -a["scale"]}, id="a negative scale"),
        pytest.param(lambda a: {**a, "centre": a["centre"].astype(np.float64)}, id="float64"),
        pytest.param(lambda a: {**a, "extra": a["scale"]}, id="foreign tensor"),
        pytest.param(lambda a: {**a, "output_dims": a["output_dims"] * 0}, id="no dimensions"),
        pytest.param(lambda a: {n: v for n, v in a.items() if n != "landmarks"}, id="no landmarks"),
    ],
)
def test_what_is_no_basis_is_refused(
    first: RecoveryInBasis, spoil: Callable[[dict[str, Floats]], dict[str, Floats]]
) -> None:
    with pytest.raises(ValueError, match="expected"):
        Basis.from_bytes(save(spoil(load(first.basis.to_bytes()))))
    with pytest.raises(ValueError, match="safetensors"):
        Basis.from_bytes(b"x" * 50)
