"""The fixed-width format: digits, widths, limits, and what other readers make of it."""

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

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
    formatter,
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


EDGE = 1 + 1e-6
"""How far beyond ±1 rounding may take a value."""


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
        (-0.0, "-0.00000000"),
        (-1e-40, "-0.00000000"),
        (EDGE, " 1.00000000"),
        (-EDGE, "-1.00000000"),
        (0.00999999, " 0.00999999"),  # the last of the tail's digits, then the head's next
        (0.00001, " 0.00001000"),
    ],
)
def test_values_at_the_edges(value: float, text: str) -> None:
    assert format_rows(np.array([[value]], dtype=np.float32)).tobytes() == text.encode() + b"\n"


@pytest.mark.parametrize("count", [1, 2, 21, 22, 43])
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


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda rows: rows[::2, ::-1], id="strided"),
        pytest.param(lambda rows: rows.T, id="transposed"),
        pytest.param(lambda rows: np.broadcast_to(rows[0], rows.shape), id="broadcast"),
        pytest.param(lambda rows: rows.astype(rows.dtype.newbyteorder()), id="other byte order"),
    ],
)
def test_other_layouts_are_formatted_by_value(view: Callable[[Rows], Rows]) -> None:
    rows = view(unit_rows(8, 64))
    assert format_rows(rows).tobytes() == printf_text(rows)


@pytest.mark.parametrize(
    "value", [np.nan, pytest.param(-np.nan, id="-nan"), np.inf, -np.inf, 1.000002, -1.000002, 2.0, -3e38]
)
@pytest.mark.parametrize("dims", [1, 4, 17, 1536])
def test_values_outside_the_format_are_refused_wherever_they_stand(value: float, dims: int) -> None:
    good = unit_rows(30, dims)
    for row, column in [(0, 0), (0, -1), (7, dims // 2), (-1, 0), (-1, -1)]:
        rows = good.copy()
        rows[row, column] = value
        with pytest.raises(ValueError, match=r"within \[-1, 1\]"):
            format_rows(rows)
        with pytest.raises(ValueError, match=r"within \[-1, 1\]"):
            format_json_row(rows[row])


def test_values_that_are_cut_off_leave_the_others_and_the_input_as_they_are() -> None:
    rows = unit_rows(40, 1536)
    rows[[0, 25, -1], [0, 700, -1]] = [EDGE, -EDGE, EDGE]
    before = rows.copy()
    expected = printf_text(np.clip(rows, -1, 1))
    assert format_rows(rows).tobytes() == expected
    np.testing.assert_array_equal(rows, before)


@pytest.mark.parametrize("count", [0, 1, 43])
@pytest.mark.parametrize("start", [0, 1, 4])
def test_out_is_written_at_any_address_and_nowhere_else(count: int, start: int) -> None:
    rows = unit_rows(count, 1536)
    size = count * row_bytes(1536)
    memory = np.full(start + size + 7, 0xAA, np.uint8)
    out = memory[start : start + size]
    for _ in range(2):  # again, over what is there
        assert format_rows(rows, out=out) is out
        assert out.tobytes() == format_rows(rows).tobytes()
    assert set(memory[:start]) | set(memory[start + size :]) == {0xAA}


@pytest.mark.parametrize(
    "out",
    [
        pytest.param(np.empty(2 * row_bytes(4) - 1, np.uint8), id="short"),
        pytest.param(np.empty(2 * row_bytes(4) + 1, np.uint8), id="long"),
        pytest.param(np.empty((2, row_bytes(4)), np.uint8), id="two axes"),
        pytest.param(np.empty(2 * row_bytes(4), np.int8), id="other type"),
        pytest.param(np.empty(4 * row_bytes(4), np.uint8)[::2], id="strided"),
        pytest.param(np.frombuffer(bytes(2 * row_bytes(4)), np.uint8), id="read-only"),
    ],
)
def test_out_that_does_not_fit_is_refused(out: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match=r"out: contiguous writable uint8 of shape \(96,\), found"):
        format_rows(unit_rows(2, 4), out=out)


def test_threads_do_not_share_working_memory() -> None:
    blocks = [unit_rows(43, 1536, seed) for seed in range(4)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        texts = list(pool.map(lambda index: format_rows(blocks[index % 4]).tobytes(), range(40)))
    expected = [format_rows(rows).tobytes() for rows in blocks]
    assert texts == expected * 10


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


@pytest.fixture(params=["compiled", "NumPy"])
def writer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "NumPy":
        monkeypatch.setattr(formatter, "_format_compiled", None)
    elif formatter._format_compiled is None:
        pytest.skip("the extension is not built")
    return str(request.param)


def test_both_writers_have_the_digits_of_printf(writer: str) -> None:
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 0x3F800001, 3_000, dtype=np.uint32).view(np.float32)  # of any size up to 1
    ties = np.arange(-(1 << 10), (1 << 10) + 1) / np.float32(1 << 10)  # some of them halves of the last digit
    smallest = ties * np.float32(1e-8)
    values = np.concatenate([bits, -bits, ties, smallest, [0, -0.0, 1, -1]]).astype(np.float32)
    expected = "".join(f"{value: .8f}\n" for value in values.tolist())
    assert bytes(format_rows(values[:, None])).decode() == expected, writer


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.00001])
def test_both_writers_refuse_what_is_out_of_bounds(writer: str, value: float) -> None:
    rows = np.zeros((3, 5), np.float32)
    rows[2, 4] = value
    with pytest.raises(ValueError, match="within"):
        format_rows(rows)
    rows[2, 4] = -(1 + 1e-6)
    assert bytes(format_rows(rows)).endswith(b"-1.00000000\n"), writer
