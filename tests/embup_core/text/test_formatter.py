"""The fixed-width format: digits, widths, limits, and what other readers make of it."""

import io
import json

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embup_core.text import (
    VALUE_BYTES,
    format_json_row,
    format_json_rows,
    format_nan_row,
    format_rows,
    parse_rows,
    row_bytes,
)

Rows = npt.NDArray[np.float32]


def unit_rows(count: int, dims: int, seed: int = 0) -> Rows:
    rows = np.random.default_rng(seed).standard_normal((count, dims))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


def printf_text(rows: Rows) -> bytes:
    """The same format by the C library's rules, a value at a time."""
    return b"".join((",".join(f"{float(value): .8f}" for value in row) + "\n").encode() for row in rows)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40))
def test_digits_are_those_of_printf(values: list[float]) -> None:
    rows = np.array([values], dtype=np.float32)
    assert format_rows(rows).tobytes() == printf_text(rows)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, " 0.00000000"),
        (1.0, " 1.00000000"),
        (-1.0, "-1.00000000"),
        (np.nextafter(np.float32(1), np.float32(0)), " 0.99999994"),
        (np.nextafter(np.float32(1), np.float32(2)), " 1.00000000"),
        (1 + 9e-7, " 1.00000000"),
        (0.1, " 0.10000000"),
        (-0.012345678, "-0.01234568"),
        (4.9e-9, " 0.00000000"),
        (5.1e-9, " 0.00000001"),
        (2**-9, " 0.00195312"),  # exactly half way: to even, as printf does
        (3 * 2**-9, " 0.00585938"),
        (-1e-40, "-0.00000000"),
    ],
)
def test_values_at_the_edges(value: float, text: str) -> None:
    assert format_rows(np.array([[value]], dtype=np.float32)).tobytes() == text.encode() + b"\n"


@pytest.mark.parametrize("count", [1, 2, 10, 11, 22])
@pytest.mark.parametrize("dims", [1, 32, 1536])
def test_blocks_join_without_a_seam(count: int, dims: int) -> None:
    """Row counts around the block size give what a value at a time gives."""
    rows = unit_rows(count, dims)
    assert format_rows(rows).tobytes() == printf_text(rows)


def test_row_i_starts_at_byte_i_times_row_bytes() -> None:
    rows = unit_rows(7, 20)
    text = format_rows(rows).tobytes()
    assert len(text) == 7 * row_bytes(20) == 7 * 20 * VALUE_BYTES
    for index in range(7):
        line = text[index * row_bytes(20) : (index + 1) * row_bytes(20)]
        assert line == format_rows(rows[index : index + 1]).tobytes()


def test_no_rows_give_no_bytes() -> None:
    assert format_rows(np.empty((0, 8), np.float32)).tobytes() == b""


def test_views_that_are_not_contiguous_are_formatted_by_value() -> None:
    rows = unit_rows(8, 64)
    assert format_rows(rows[::2, ::-1]).tobytes() == printf_text(rows[::2, ::-1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1.00001, -1.00001, 2.0])
def test_values_outside_the_format_are_refused(value: float) -> None:
    rows = unit_rows(3, 4)
    rows[1, 2] = value
    with pytest.raises(ValueError, match=r"within \[-1, 1\]"):
        format_rows(rows)


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), (3, 0)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        format_rows(np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match="shape"):
        format_json_row(np.zeros((2, 2), np.float32))


def test_a_round_trip_keeps_values_and_unit_length() -> None:
    rows = unit_rows(200, 1536)
    back = np.loadtxt(io.BytesIO(format_rows(rows).tobytes()), delimiter=",")
    assert np.abs(back - rows.astype(np.float64)).max() <= 5e-9
    assert np.abs(np.linalg.norm(back, axis=1) - 1).max() <= 1e-6


def test_its_own_parser_reads_it() -> None:
    rows = unit_rows(5, 1536)
    parsed = parse_rows(format_rows(rows).tobytes(), dims=1536)
    assert not parsed.bad
    np.testing.assert_allclose(parsed.rows, rows, atol=1e-8)


def test_the_nan_line_is_as_wide_as_a_row_and_reads_as_nan() -> None:
    line = format_nan_row(1536)
    assert len(line) == row_bytes(1536)
    assert line.endswith(b"\n")
    assert np.isnan(np.loadtxt(io.BytesIO(line), delimiter=",")).all()


def test_json_rows_have_the_digits_of_the_lines() -> None:
    rows = unit_rows(3, 48)
    lines = [
        [float(value) for value in line.split(",")]
        for line in format_rows(rows).tobytes().decode().splitlines()
    ]
    assert json.loads(format_json_row(rows[0])) == lines[0]
    assert json.loads(format_json_rows(rows)) == lines
    assert json.loads(format_json_rows(rows[:0])) == []
