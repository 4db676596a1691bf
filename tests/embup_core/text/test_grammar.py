"""The grammar of a value, pinned one text at a time, and that both paths of the parser keep to it."""

from __future__ import annotations

import os
import struct
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from embup_core.text import ParsedRows, parse_rows
from embup_core.text.parser import _parse_at_once, _parse_line_by_line
from tests.embup_core.text.row_oracle import raw_of, read_line, read_value

DIMS = 3
BLOCKS = 30_000 if os.environ.get("EMBUP_CRASH_SCALE") == "full" else 500


def float32(value: float) -> float:
    return float(np.float32(value))


NUMBERS = {
    "1": 1,
    "+1": 1,
    "-1": -1,
    "01": 1,
    "-007": -7,
    "1.": 1,
    ".1": float32(0.1),
    "-.5": -0.5,
    "+.5": 0.5,
    "1.50": 1.5,
    "1e5": 1e5,
    "1E+05": 1e5,
    "1e-3": float32(1e-3),
    "1.e2": 100,
    ".5e1": 5,
    "1e0000000000000000000001": 10,
    " 1": 1,
    "1 ": 1,
    " \t 1 \t ": 1,
    "\t1\t": 1,
    "0": 0,
    "-0": 0,
    "+0": 0,
    "-0.0": 0,
    "-0e9": 0,
    "0e999999999999999999999": 0,
    "1e-400": 0,
    "-1e-400": 0,
    "1e-999999999999999999999": 0,
    "1e-46": 0,
    "7.006492321624085e-46": 0,  # half of the smallest: to even
    "7.1e-46": 2**-149,
    "1e-45": 2**-149,
    "-1e-45": -(2**-149),
    "1.1754942e-38": float32(1.1754942e-38),
    "16777217": 16777216,
    "16777217.0000000001": 16777216,  # float64 first, float32 then
    "9007199254740993": 9007199254740992,
    "18446744073709551616": 2**64,
    "340282346638528859811704183484516925440": float32(3.4028234663852886e38),
    "3.4028235e38": float32(3.4028234663852886e38),
    "3.4028235677973362e38": float32(3.4028234663852886e38),
    "0." + "0" * 400 + "1e401": 1,
    "1" + "0" * 400 + "e-400": 1,
    "0" * 60_000 + "1": 1,
    "1." + "0" * 60_000 + "1": 1,
}


@pytest.mark.parametrize(("text", "value"), NUMBERS.items(), ids=[repr(text)[:40] for text in NUMBERS])
def test_a_number_is_read_as_this_value(text: str, value: float) -> None:
    block = f"1,{text},1\n".encode()
    expected = np.array([[1, value, 1]], np.float32)
    assert np.float32(value) == value
    for parsed in (parse_rows(block, dims=DIMS), _parse_line_by_line(block, DIMS, 1)):
        assert not parsed.bad
        assert parsed.rows.tobytes() == expected.tobytes()
    assert read_value(text.encode()) == struct.unpack("<I", np.float32(value).tobytes())[0]


NO_NUMBERS = {
    "": "nothing between commas",
    " ": "nothing between commas",
    "\t": "nothing between commas",
    "- 1": "'- 1' is not a number",
    "+ 1": "'+ 1' is not a number",
    "+": "'+' is not a number",
    "-": "'-' is not a number",
    "--1": "'--1' is not a number",
    "+-1": "'+-1' is not a number",
    ".": "'.' is not a number",
    "-.": "'-.' is not a number",
    ".e1": "'.e1' is not a number",
    "1e": "'1e' is not a number",
    "1e+": "'1e+' is not a number",
    "1e ": "'1e' is not a number",
    "e5": "'e5' is not a number",
    "1e1.5": "'1e1.5' is not a number",
    "1e 5": "'1e 5' is not a number",
    "1 e5": "'1 e5' is not a number",
    "1d0": "'1d0' is not a number",
    "1.5f": "'1.5f' is not a number",
    "1L": "'1L' is not a number",
    "1j": "'1j' is not a number",
    "1..": "'1..' is not a number",
    "1.2.3": "'1.2.3' is not a number",
    "1 2": "'1 2' is not a number",
    "1\t2": "'1\\t2' is not a number",
    "1_0": "'1_0' is not a number",
    "1'000": "'1'000' is not a number",
    "0x10": "'0x10' is not a number",
    "0x1p3": "'0x1p3' is not a number",
    "0b1": "'0b1' is not a number",
    "0o7": "'0o7' is not a number",
    "nan": "nan is not finite",
    "NaN": "NaN is not finite",
    "-nan": "-nan is not finite",
    "+NAN": "+NAN is not finite",
    "nan(1)": "'nan(1)' is not a number",
    "nanny": "'nanny' is not a number",
    "inf": "inf is not finite",
    " -INF\t": "-INF is not finite",
    "Infinity": "Infinity is not finite",
    "+iNfInItY": "+iNfInItY is not finite",
    "infinit": "'infinit' is not a number",
    "∞": "'∞' is not a number",
    "null": "'null' is not a number",
    "None": "'None' is not a number",
    "true": "'true' is not a number",
    '"1"': "'\"1\"' is not a number",
    "'1'": "''1'' is not a number",
    "[1]": "'[1]' is not a number",
    "(1)": "'(1)' is not a number",
    "{}": "'{}' is not a number",
    "1;2": "'1;2' is not a number",
    "1#": "'1#' is not a number",
    "1%": "'1%' is not a number",
    "$1": "'$1' is not a number",
    "½": "'½' is not a number",
    "²": "'²' is not a number",
    "１": "'１' is not a number",  # full width
    "٣": "'٣' is not a number",
    "१": "'१' is not a number",
    "1٣": "'1٣' is not a number",
    "−1": "'−1' is not a number",  # the minus sign of typesetters
    "1٫5": "'1٫5' is not a number",
    "einş": "'einş' is not a number",
    "\x0c1": "'\\x0c1' is not a number",
    "1\x0b": "'1\\x0b' is not a number",
    "\u00a01": "'\\xa01' is not a number",
    "1\u2003": "'1\\u2003' is not a number",
    "\u200b1": "'\\u200b1' is not a number",
    "\ufeff1": "'\\ufeff1' is not a number",
    "\u20281": "'\\u20281' is not a number",
    "1\x85": "'1\\x85' is not a number",
    "1\x00": "'1\\x00' is not a number",
    "\x00": "'\\x00' is not a number",
    "1\x1c": "'1\\x1c' is not a number",
    "1\r": "'1\\r' is not a number",
    "\r": "'\\r' is not a number",
    "1\x1b[31m": "'1\\x1b[31m' is not a number",
    "1e39": "1e39 does not fit in float32",
    "-3.5e38": "-3.5e38 does not fit in float32",
    "3.4028235677973366e38": "3.4028235677973366e38 does not fit in float32",  # half a step beyond
    "1e400": "1e400 does not fit in float32",
    "1e999999999999999999999": "1e999999999999999999999 does not fit in float32",
    "1" + "0" * 60_000: "1" + "0" * 39 + "… does not fit in float32",
}


@pytest.mark.parametrize(("text", "reason"), NO_NUMBERS.items(), ids=[repr(text)[:40] for text in NO_NUMBERS])
def test_what_is_no_number_is_refused_with_this_reason(text: str, reason: str) -> None:
    line = f"1,{text},1".encode()
    assert _parse_at_once(line, DIMS) is None
    for block in (line, line + b"\n", line + b"\r\n"):
        parsed = parse_rows(block, dims=DIMS)
        assert [(bad.reason, bad.raw) for bad in parsed.bad] == [(f"value 2: {reason}", raw_of(line))]
        assert np.isnan(parsed.rows).all()
    assert isinstance(read_value(text.encode()), str)


ROWS = {
    "1,2,3": None,
    " 1 ,\t2\t, 3 ": None,
    "1,2": "expected 3 numbers, found 2",
    "1,2,3,4": "expected 3 numbers, found 4",
    "1,2,3,": "expected 3 numbers, found 3 and a trailing comma",
    "1,2,3, ": "expected 3 numbers, found 3 and a trailing comma",
    "1,2,": "value 3: nothing between commas",
    ",2,3": "value 1: nothing between commas",
    ",1,2,3": "expected 3 numbers, found 4",
    "1,,2": "value 2: nothing between commas",
    "1,,2,3": "expected 3 numbers, found 4",
    ",,": "value 1: nothing between commas",
    ",": "expected 3 numbers, found 2",
    "1 2 3": "expected 3 numbers, found 1 (values are separated by commas)",
    "1\t2\t3": "expected 3 numbers, found 1 (values are separated by commas)",
    "1;2;3": "expected 3 numbers, found 1 (values are separated by commas)",
    "1,2;3": "expected 3 numbers, found 2",
    "1.5": "expected 3 numbers, found 1",
    "x,y,z": "value 1: 'x' is not a number",
    "[1,2,3]": "value 1: '[1' is not a number",
    '"1,2,3"': "value 1: '\"1' is not a number",
    "1,2,3 # note": "value 3: '3 # note' is not a number",
    "1,2,3\r\r": "value 3: '3\\r' is not a number",
    "1,\r2,3": "value 2: '\\r2' is not a number",
    "\r": "blank line",
    "\r\r": "expected 3 numbers, found 1 (values are separated by commas)",
    "": "blank line",
    " \t": "blank line",
    "\x0c": "expected 3 numbers, found 1 (values are separated by commas)",
    "0,0,0": "all values are zero: a direction is needed",
    "-0,0.0,0e9": "all values are zero: a direction is needed",
    "1e-46,-1e-46,0": "all values are zero: a direction is needed",
    "1e39,nan,1": "value 2: nan is not finite",
    "1e39,1e40,1": "value 1: 1e39 does not fit in float32",
}


@pytest.mark.parametrize(("text", "reason"), ROWS.items(), ids=[repr(text) for text in ROWS])
def test_a_row_is_read_or_refused_with_this_reason(text: str, reason: str | None) -> None:
    block = b"1,2,3\n" + text.encode() + b"\n1,2,3\n"
    parsed = parse_rows(block, dims=DIMS)
    assert [(bad.line, bad.reason) for bad in parsed.bad] == ([] if reason is None else [(2, reason)])
    assert parsed.rows[[0, 2]].tolist() == [[1, 2, 3], [1, 2, 3]]


# Any text: the fast path, the diagnosing path and the oracle.


def halves(exponent: int, digits: int, odd: int) -> str:
    """A number half way between two of `digits` binary digits, written out in full."""
    value = 2 ** (digits + 1) + 2 * (odd % 2**digits) + 1
    return str(value << exponent) if exponent >= 0 else f"{value * 5**-exponent}e{exponent}"


WIDE = st.integers(0, 2**53)
TIES = st.one_of(
    st.builds(halves, st.integers(-174, 102), st.just(23), WIDE),
    st.builds(halves, st.integers(-1127, 970), st.just(52), WIDE),
)
"""Where one wrong digit shows: as they are, a hair above and a hair below."""

DIGITS = st.text("0123456789", min_size=0, max_size=25)
PIECES = st.sampled_from(
    [*"+-.eE_,;[]{}\"'\x00\r\x0b\x0c xdn", "e5", "E-40", "nan", "inf", "true", "½", "٣", "１", "\u00a0"]
)
GOOD_VALUES = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(repr),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(lambda value: f"{value:.18e}"),
    st.floats(-1e30, 1e30).map(lambda value: f"{value:+.9f}"),
    st.integers(-(10**38), 10**38).map(str),
    TIES,
    TIES.map(lambda text: text if "e" in text else text + "." + "0" * 30 + "1"),
    st.builds("{}{}.{}e{}".format, st.sampled_from(["", "-"]), DIGITS, DIGITS, st.integers(-420, 420)),
    st.sampled_from(list(NUMBERS)[:-2]),
)
ODD_VALUES = st.one_of(
    st.sampled_from(list(NO_NUMBERS)),
    st.lists(st.one_of(DIGITS, PIECES), max_size=5).map("".join),
    st.text(max_size=8).filter(lambda text: "\n" not in text),
)
PADDING = st.sampled_from(["", "", "", "", " ", "\t "])


def rows_of(values: st.SearchStrategy[str], fewest: int, most: int) -> st.SearchStrategy[str]:
    padded = st.builds("{}{}{}".format, PADDING, values, PADDING)
    return st.lists(padded, min_size=fewest, max_size=most).map(",".join)


GOOD_LINES = rows_of(GOOD_VALUES, DIMS, DIMS)
LINES = st.one_of(
    GOOD_LINES,
    rows_of(st.one_of(GOOD_VALUES, GOOD_VALUES, ODD_VALUES), DIMS, DIMS),
    rows_of(st.one_of(GOOD_VALUES, ODD_VALUES), 0, DIMS + 2),
).map(lambda text: text.encode("utf-8", errors="surrogatepass"))
ANY_LINES = st.one_of(LINES, LINES, LINES, st.binary(max_size=30).map(lambda text: text.replace(b"\n", b"")))
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r\n", b"\r\r\n"])
MIXED_BLOCKS = st.lists(st.tuples(ANY_LINES, ENDS), min_size=1, max_size=6)
GOOD_BLOCKS = st.lists(st.tuples(GOOD_LINES.map(str.encode), ENDS), min_size=1, max_size=6)
BLOCK_STRATEGY = st.tuples(st.one_of(MIXED_BLOCKS, GOOD_BLOCKS), st.booleans())


def outcome(parsed: ParsedRows) -> tuple[bytes, list[tuple[int, str, str]]]:
    return parsed.rows.tobytes(), [(bad.line, bad.reason, bad.raw) for bad in parsed.bad]


def kind_of(reason: str) -> str:
    """What the oracle calls it."""
    if reason.startswith("value "):
        return reason.partition(":")[0]
    starts = {"longer": "long", "blank": "blank", "expected": "count", "all": "zero"}
    return starts[reason.split(maxsplit=1)[0]]


def check_block(block: bytes, seen: Counter[str]) -> None:
    lines = block.split(b"\n")
    if not lines[-1]:
        lines.pop()
    strict = _parse_line_by_line(block, DIMS, 1)
    assert outcome(parse_rows(block, dims=DIMS)) == outcome(strict)
    fast = _parse_at_once(block, DIMS)
    if fast is not None:
        assert outcome(ParsedRows(fast, ())) == outcome(strict)
    singles = [parse_rows(line + b"\n", dims=DIMS, first_line=i) for i, line in enumerate(lines, start=1)]
    assert outcome(strict) == (
        b"".join(single.rows.tobytes() for single in singles),
        [(bad.line, bad.reason, bad.raw) for single in singles for bad in single.bad],
    )
    bad = {row.line: row for row in strict.bad}
    for number, line in enumerate(lines, start=1):
        text = line.removesuffix(b"\r")
        expected = read_line(text, DIMS)
        if isinstance(expected, str):
            assert (kind_of(bad[number].reason), bad[number].raw) == (expected, raw_of(text))
            seen[expected] += 1
        else:
            assert number not in bad
            assert tuple(strict.rows[number - 1].view(np.uint32).tolist()) == expected
            seen["good"] += 1
    seen["blocks"] += 1
    seen["taken at once"] += fast is not None


@pytest.mark.timeout(600)
def test_both_paths_and_the_oracle_agree_on_any_block() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=BLOCKS, deadline=None, suppress_health_check=list(HealthCheck))
    @given(BLOCK_STRATEGY)
    @example(([(b"-0,1,1", b"\n")], True))
    @example(([(b"1,2,3],[4,5,6", b"\n"), (b"", b"\n"), (b"7,8,9", b"\n")], False))
    def check(drawn: tuple[list[tuple[bytes, bytes]], bool]) -> None:
        lines, ended = drawn
        block = b"".join(text + end for text, end in lines)
        check_block(block if ended else block.removesuffix(b"\n"), seen)

    check()
    print(dict(seen))  # noqa: T201 - shown by -rP
    assert seen["blocks"] >= BLOCKS
    # Agreement alone would hold for blocks that are all bad, or that the fast path always declines.
    assert seen["good"] > BLOCKS / 4
    assert seen["taken at once"] > BLOCKS / 50
    assert min(seen[kind] for kind in ("blank", "count", "value 1", "value 2", "value 3")) > 0
