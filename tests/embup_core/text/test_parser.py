"""The grammar of a row: what is read, what is refused and why, and that the two paths agree."""

import io

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embup_core.text import MAX_LINE_BYTES, BadRow, parse_rows
from embup_core.text.parser import _parse_at_once, _parse_line_by_line

GOOD = b"0.1,0.2,-0.3"


def only_reason(line: bytes, dims: int = 3) -> str:
    """The reason given for one refused line between two good ones."""
    block = b"\n".join([b",".join([b"1"] * dims), line, b",".join([b"1"] * dims)])
    parsed = parse_rows(block, dims=dims)
    assert [bad.index_in_chunk for bad in parsed.bad] == [1]
    assert np.isnan(parsed.rows[1]).all()
    assert (parsed.rows[[0, 2]] == 1).all()
    return parsed.bad[0].reason


@pytest.mark.parametrize("number_format", ["%.8f", "%.18e", "%g", "%+.5f", "%.3E"])
@pytest.mark.parametrize("delimiter", [",", ", ", " ,\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_what_savetxt_writes_is_read(number_format: str, delimiter: str, newline: str) -> None:
    rows = np.random.default_rng(0).standard_normal((64, 32))
    text = io.BytesIO()
    np.savetxt(text, rows, fmt=number_format, delimiter=delimiter, newline=newline)
    expected = np.loadtxt(io.BytesIO(text.getvalue()), delimiter=",").astype(np.float32)
    parsed = parse_rows(text.getvalue(), dims=32)
    assert not parsed.bad
    assert parsed.rows.dtype == np.float32
    assert np.array_equal(parsed.rows, expected)


@pytest.mark.parametrize(
    "line",
    [
        b"1.,.5,-.5e-3",
        b"+1,1e5,1E+05",
        b" 1 ,\t2\t, 3 ",
        b"00.5,007,1",
        b"1e-400,0,1",
        b"0.1,0.2,0.3\r",
        b"-0,0,1",
    ],
)
def test_the_grammar_accepts(line: bytes) -> None:
    parsed = parse_rows(line, dims=3)
    assert not parsed.bad
    expected = [float(field) for field in line.split(b",")]
    assert np.array_equal(parsed.rows, np.array([expected], np.float32))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2", "expected 3 numbers, found 2"),
        (b"1,2,3,4", "expected 3 numbers, found 4"),
        (b"1,2,3,", "expected 3 numbers, found 3 and a trailing comma"),
        (b"1 2 3", "expected 3 numbers, found 1 (values are separated by commas)"),
        (b"1;2;3", "expected 3 numbers, found 1 (values are separated by commas)"),
        (b"5", "expected 3 numbers, found 1"),
        (b"1,abc,3", "value 2: 'abc' is not a number"),
        (b"1,,3", "value 2: nothing between commas"),
        (b"1, ,3", "value 2: nothing between commas"),
        (b"1,2,nan", "value 3: nan is not finite"),
        (b"1,2,-Infinity", "value 3: -Infinity is not finite"),
        (b"1,2,1e39", "value 3: 1e39 does not fit in float32"),
        (b"1,2,-1e400", "value 3: -1e400 does not fit in float32"),
        (b"1,2," + b"9" * 50, "value 3: " + "9" * 40 + "… does not fit in float32"),
        (b"0,0.0,-0e5", "all values are zero: a direction is needed"),
        (b"1e-60,0,0", "all values are zero: a direction is needed"),
        (b"", "blank line"),
        (b" \t", "blank line"),
        (b"1,1_0,3", "value 2: '1_0' is not a number"),
        (b"1,0x1p3,3", "value 2: '0x1p3' is not a number"),
        (b'1,"2",3', "value 2: '\"2\"' is not a number"),
        (b"1,2\x00,3", "value 2: '2\\x00' is not a number"),
        (b"1,2\x0c,3", "value 2: '2\\x0c' is not a number"),
        (b"1,2\r,3", "value 2: '2\\r' is not a number"),
        (b"1,2,3\r\r", "value 3: '3\\r' is not a number"),
        ("1,٢,3".encode(), "value 2: '٢' is not a number"),
        ("1,\u00a02,3".encode(), "value 2: '\\xa02' is not a number"),
        (b"1,2 2,3", "value 2: '2 2' is not a number"),
        (b"1,--2,3", "value 2: '--2' is not a number"),
        (b"1,2e,3", "value 2: '2e' is not a number"),
        (b"1,.,3", "value 2: '.' is not a number"),
        (b"1,true,null", "value 2: 'true' is not a number"),
        (b"1,\xff,3", "value 2: '�' is not a number"),
        (b"[1,2,3]", "value 1: '[1' is not a number"),
        (b"1,2,3],[4,5,6", "expected 3 numbers, found 6"),
        (b"1," + b"x" * 60 + b",3", f"value 2: '{'x' * 40}…' is not a number"),
    ],
)
def test_refused_lines_have_a_reason(line: bytes, reason: str) -> None:
    assert only_reason(line) == reason


def test_a_bracket_cannot_open_a_row_within_a_line() -> None:
    """A line that would be two rows of JSON does not make up for a blank one."""
    parsed = parse_rows(b"1,2,3],[4,5,6\n\n7,8,9\n", dims=3)
    assert [bad.index_in_chunk for bad in parsed.bad] == [0, 1]


def test_the_line_limit_holds_for_lines_that_would_be_good() -> None:
    fits = b"1,2," + b"3".rjust(MAX_LINE_BYTES - 4)
    assert len(fits) == MAX_LINE_BYTES
    assert not parse_rows(fits + b"\r\n" + GOOD, dims=3).bad
    assert only_reason(b" " + fits) == "longer than 65536 bytes"
    assert only_reason(b"1," * 40_000) == "longer than 65536 bytes"


def test_refused_lines_carry_their_number_and_text() -> None:
    parsed = parse_rows(b"1,2,3\r\nx\xff,2\r\n4,5,6\r\n" + b"y" * 5000, dims=3, first_line=64)
    assert parsed.bad == (
        BadRow(65, 1, "expected 3 numbers, found 2", "x\\xff,2"),
        BadRow(67, 3, "expected 3 numbers, found 1 (values are separated by commas)", "y" * 1024),
    )


def test_a_block_without_bytes_has_no_row() -> None:
    assert parse_rows(b"", dims=3).rows.shape == (0, 3)


def test_the_fast_path_takes_what_people_have() -> None:
    """Agreement alone would hold for a fast path that always declines."""
    for text in (b"0.1,-0.2,3e-5\n1,2,3\n", b" 0.1, -0.2, 3E+5\r\n1,2,3", b"0.1,\t2,3"):
        assert _parse_at_once(text, 3) is not None


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(width=32, allow_nan=False, allow_infinity=False).map(lambda v: f"{v:.18e}"),
    st.integers(-(10**30), 10**30).map(str),
    st.from_regex(r"\A[+-]?([0-9]{1,25}(\.[0-9]{0,25})?|\.[0-9]{1,25})([eE][+-]?[0-9]{1,3})?\Z"),
)
ODD = st.sampled_from(
    [
        "",
        "nan",
        "inf",
        "1_0",
        "0x1p3",
        "٣",
        "1 2",
        "\x00",
        "1\r",
        "\x0c1",
        '"1"',
        "1e",
        "+",
        ".",
        "1.e5",
        "true",
        "[1",
        "1]",
    ]
)
PADDING = st.sampled_from(["", "", "", " ", "  ", "\t"])
VALUES = st.tuples(PADDING, st.one_of(NUMBERS, NUMBERS, NUMBERS, ODD), PADDING).map("".join)
LINES = st.lists(VALUES, min_size=0, max_size=4).map(",".join)
GOOD_LINES = st.lists(st.tuples(PADDING, NUMBERS, PADDING).map("".join), min_size=3, max_size=3).map(",".join)
BLOCKS = st.tuples(
    st.one_of(st.lists(GOOD_LINES, min_size=1, max_size=6), st.lists(LINES, min_size=1, max_size=4)),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
).map(lambda drawn: (drawn[1].join(drawn[0]) + drawn[1] * drawn[2]).encode())


@given(BLOCKS)
@example(b"1,2,3\n,,\n4,5,6")
@example(b"16777217.0000000001,1,1")  # float64 first, float32 then: a direct rounding differs
@example(b"1,2,1e400\n1,2,3")
@example(b"1,2,3]\n,[4,5,6")
def test_the_fast_path_never_says_other_than_the_diagnosing_one(block: bytes) -> None:
    fast = _parse_at_once(block, 3)
    strict = _parse_line_by_line(block, 3, 1)
    if fast is not None:
        assert not strict.bad
        assert np.array_equal(fast, strict.rows)
    if strict.bad:
        assert fast is None


@given(st.binary(max_size=60))
def test_arbitrary_bytes_never_raise(block: bytes) -> None:
    parsed = parse_rows(block, dims=3)
    assert np.isnan(parsed.rows).all(axis=1).sum() == len(parsed.bad)
    assert len(parsed.rows) == len(block.split(b"\n")) - (not block or block.endswith(b"\n"))


@given(st.lists(NUMBERS, min_size=3, max_size=3))
def test_numbers_round_as_python_and_numpy_do(numbers: list[str]) -> None:
    with np.errstate(over="ignore"):
        expected = np.array([float(number) for number in numbers]).astype(np.float32)
    parsed = parse_rows(",".join(numbers).encode(), dims=3)
    if np.isinf(expected).any():
        assert "does not fit in float32" in parsed.bad[0].reason
    elif not expected.any():
        assert "all values are zero" in parsed.bad[0].reason
    else:
        assert np.array_equal(parsed.rows[0], expected)
