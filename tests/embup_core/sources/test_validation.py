"""Bad training data is refused with the file, the row, the value and what to do."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.errors import InvalidDataError, SourceError, SourceUnavailableError
from embup_core.sources import SampleParameters, generate_sample, load_projected, validate_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.sources import SourceFiles


def refusal(files: SourceFiles) -> str:
    """What validation says; it must say what to do as well."""
    with pytest.raises(SourceError) as caught:
        validate_pair(files)
    assert caught.value.remedy
    return caught.value.message


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    array = np.load(path)
    changed = change(array)
    np.save(path, array if changed is None else changed)


def set_value(*where: int | slice | list[int], to: float) -> Callable[[Any], Any]:
    def change(array: Any) -> None:
        array[where] = to

    return change


def set_both(row: int, column: int, to: float) -> Callable[[Any], Any]:
    def change(array: Any) -> None:
        array[row, column] = array[column, row] = to

    return change


def test_a_valid_pair_is_described(pair: SourceFiles) -> None:
    profile = validate_pair(pair)
    cosines = np.load(pair.cosines)
    off_diagonal = cosines[~np.eye(200, dtype=bool)]
    assert profile.rows == 200
    assert profile.mean_cosine == pytest.approx(off_diagonal.mean(), abs=1e-6)
    assert profile.cosine_deviation == pytest.approx(off_diagonal.std(), abs=1e-4)
    assert profile.lowest_cosine == off_diagonal.min()
    assert profile.highest_cosine == off_diagonal.max()
    assert profile.cosine_bytes == pair.cosines.stat().st_size


def test_the_fingerprint_is_the_hash_of_all_bytes_of_both_files(pair: SourceFiles) -> None:
    import hashlib

    both = pair.projected.read_bytes() + pair.cosines.read_bytes()
    assert validate_pair(pair).fingerprint == hashlib.sha256(both).hexdigest()


def test_float64_files_are_accepted_and_projected_comes_as_float32(pair: SourceFiles) -> None:
    edit(pair.projected, lambda z: z.astype(np.float64))
    edit(pair.cosines, lambda g: g.astype(np.float64))
    assert validate_pair(pair).rows == 200
    assert load_projected(pair.projected).dtype == np.float32


def test_projected_in_fortran_order_is_loaded_in_c_order(pair: SourceFiles) -> None:
    edit(pair.projected, np.asfortranarray)
    assert load_projected(pair.projected).flags.c_contiguous


def test_small_rounding_is_no_error(pair: SourceFiles) -> None:
    noise = np.random.default_rng(0).uniform(-5e-5, 5e-5, (200, 200)).astype(np.float32)
    edit(pair.cosines, lambda g: g + noise)
    edit(pair.projected, lambda z: z * np.float32(1.0005))
    validate_pair(pair)


def bfloat16(values: np.ndarray) -> np.ndarray:
    bits: np.ndarray = (values.view(np.uint32) + np.uint32(0x8000)) & np.uint32(0xFFFF0000)
    return bits.view(np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda g: g.astype(np.float16),
        lambda g: g.astype(np.float16).astype(np.float32),
        lambda g: g.astype(np.float64),
        lambda g: g.astype(np.longdouble),
        lambda g: g.astype(">f4"),
        bfloat16,
        np.asfortranarray,
        lambda g: g - 0.0045 * np.eye(len(g), dtype=np.float32),
        lambda g: g + np.random.default_rng(0).normal(0, 3e-4, g.shape).astype(np.float32),
    ],
    ids=[
        "float16",
        "rounded to float16",
        "float64",
        "long double",
        "big-endian",
        "rounded to bfloat16",
        "Fortran order",
        "diagonal",
        "asymmetric",
    ],
)
def test_matrices_that_tools_write_are_accepted(pair: SourceFiles, change: Callable[[Any], Any]) -> None:
    clean = validate_pair(pair)
    edit(pair.cosines, change)
    profile = validate_pair(pair)
    assert profile.mean_cosine == pytest.approx(clean.mean_cosine, abs=1e-4)
    assert profile.cosine_deviation == pytest.approx(clean.cosine_deviation, abs=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble, ">f2", ">f4"])
def test_embeddings_of_any_float_are_loaded_as_native_float32(pair: SourceFiles, dtype: Any) -> None:
    clean = load_projected(pair.projected)
    edit(pair.projected, lambda z: z.astype(dtype))
    z = load_projected(pair.projected)
    assert z.dtype == np.float32
    assert z.dtype.isnative
    np.testing.assert_allclose(z, clean, atol=3e-4)


def test_memory_does_not_grow_with_the_matrix(tmp_path: Path) -> None:
    files = generate_sample(tmp_path, parameters=SampleParameters(rows=4500))
    tracemalloc.start()
    profile = validate_pair(files)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert profile.cosine_bytes > 80e6
    assert peak_bytes < 50e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda z: z[:, :1], r"shape \(200, 1\), expected \(N, d\)"),
        (lambda z: z.ravel(), r"shape \(6400,\), expected \(N, d\)"),
        (lambda z: z[:50], "has 50 rows, expected at least 100"),
        (lambda z: z[:150], "has 200 rows and .* has 150"),
        (lambda z: (z * 100).astype(np.int16), "holds '<i2' values"),
        (lambda z: z.view("V2"), "bfloat16"),
        (set_value(17, 3, to=np.nan), r"not finite .*: 17 \(1 row\)"),
        (set_value(slice(30, 33), to=np.inf), r"not finite .*: 30-32 \(3 rows\)"),
        (lambda z: z * np.float32(1.1), "length 1.1, expected 1 within 0.001 .200 of 200 rows"),
        (set_value([42, 50, 51], to=0), r"all zeros: 42, 50-51 \(3 rows\)"),
        (lambda z: np.repeat(z[:1], len(z), axis=0), "all rows are equal"),
    ],
)
def test_bad_projected_embeddings_are_refused(pair: SourceFiles, change: Any, message: str) -> None:
    edit(pair.projected, change)
    import re

    said = refusal(pair)
    assert re.search(message, said), said
    assert str(pair.projected) in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g[:, :-1], r"shape \(200, 199\), expected a square matrix"),
        (lambda g: g[:100, :100], "has 100 rows and .* has 200"),
        (np.ones_like, "all cosines off the diagonal are 1,"),
        (lambda g: (g * 100).astype(np.uint8), "holds '|u1' values"),
        (set_both(150, 7, np.nan), "row 7, column 150: nan, expected a finite number"),
        (set_both(150, 7, -np.inf), "row 7, column 150: -inf, expected a finite number"),
        (set_value(33, 33, to=0.994), "row 33, column 33: 0.994 on the diagonal, expected 1"),
        (set_both(20, 10, 1.5), r"row 10, column 20: 1.5, expected a cosine within \[-1, 1\]"),
        (set_both(20, 10, -3e38), r"row 10, column 20: -3e\+38, expected a cosine"),
        (set_value(120, 60, to=0.1), "not symmetric: row .*(120|60), column .*(120|60) is"),
        (lambda g: np.vstack([g[1:], g[:1]]), "on the diagonal, expected 1"),
    ],
)
def test_a_bad_matrix_is_refused(pair: SourceFiles, change: Any, message: str) -> None:
    import re

    edit(pair.cosines, change)
    said = refusal(pair)
    assert re.search(message, said), said
    assert str(pair.cosines) in said


def test_the_last_row_of_a_matrix_of_several_blocks_is_checked_too(
    pair: SourceFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embup_core.sources.validation.BUFFER_BYTES", 200 * 4 * 7)
    before = validate_pair(pair)
    edit(pair.cosines, set_value(199, 198, to=0.2))
    assert "row 199, column 198" in refusal(pair) or "row 198, column 199" in refusal(pair)
    edit(pair.cosines, set_value(199, 198, to=np.nan))
    assert "row 199, column 198: nan" in refusal(pair)
    assert before.rows == 200


def test_one_wrong_entry_stands_out_from_asymmetry_everywhere(pair: SourceFiles) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, (200, 200)).astype(np.float32)
    noise[150, 20] = 0.3
    edit(pair.cosines, lambda g: g + noise)
    said = refusal(pair)
    assert "row 150, column 20" in said or "row 20, column 150" in said


def test_a_truncated_matrix_is_refused_with_the_row_where_it_ends(pair: SourceFiles) -> None:
    content = pair.cosines.read_bytes()
    pair.cosines.write_bytes(content[: 128 + 200 * 4 * 50 + 10])
    assert "is truncated" in refusal(pair)
    assert "it ends in row 50" in refusal(pair)


def test_a_file_longer_than_its_header_says_is_refused(pair: SourceFiles) -> None:
    with pair.cosines.open("ab") as file:
        file.write(b"more")
    assert "longer than its header says" in refusal(pair)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x93NUMPY\x01\x00", b"PK\x03\x04zip"])
def test_a_file_that_is_no_npy_is_refused_with_how_it_begins(pair: SourceFiles, content: bytes) -> None:
    pair.projected.write_bytes(content)
    assert f"is not a .npy file: it has {len(content)} bytes and begins with {content[:16]!r}" in refusal(
        pair
    )


def test_pickled_objects_are_refused_without_being_opened(pair: SourceFiles) -> None:
    np.save(pair.projected, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "holds pickled Python objects" in refusal(pair)


def test_a_missing_file_is_unavailable_not_invalid(pair: SourceFiles) -> None:
    pair.cosines.unlink()
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        validate_pair(pair)


def test_every_refusal_of_content_is_an_invalid_data_error(pair: SourceFiles) -> None:
    edit(pair.projected, set_value(42, to=0))
    with pytest.raises(InvalidDataError):
        validate_pair(pair)


def test_a_header_that_is_no_literal_is_no_npy_file(pair: SourceFiles) -> None:
    header = b"(" * 5000
    pair.projected.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert "is not a .npy file" in refusal(pair)
