"""Files of every kind, generated, through whole batches; an oracle of its own says what becomes of each line.

The upsampler here answers with the bits of its input, so an output row shows which values it answers. There
are 300 files, or 10,000 with `EMBUP_CRASH_SCALE=full`.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from embup_core.batch import BatchRun, BatchSpec, Checkpoint, run_to_completion
from embup_core.batch.inputs.content import HEAD_BYTES, content_of
from embup_core.errors import BadRowError, InputFileError
from tests.embup_core.text.row_oracle import LIMIT_BYTES, lines_of, raw_of, read_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.embup_core.text.row_oracle import Bits

DIMS = 32
FILES = 10_000 if os.environ.get("EMBUP_CRASH_SCALE") == "full" else 300


# An answer that shows what was asked.


class BitsUpsampler:
    """Answers a row with its bits: two values of 16 bits each, spread evenly over -1 to 1."""

    version = "20260101-000000-0000b175"
    input_dims = DIMS
    output_dims = 2 * DIMS

    def upsample(self, z: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        assert np.isfinite(z).all()
        assert z.any(axis=1).all()
        halves = np.ascontiguousarray(z).view("<u2")
        rows = (2.0 * halves - 65535) / 65536
        return rows.astype(np.float32), np.ones(len(z), np.float32)


TEXT_OF_HALF = [f"{(2 * half - 65535) / 65536: .8f}" for half in range(1 << 16)]
NAN_LINE = (",".join(["        nan"] * (2 * DIMS)) + "\n").encode()


def text_of(bits: Bits | str) -> bytes:
    """The line of the output that answers a row of these bits, or a refused one."""
    if isinstance(bits, str):
        return NAN_LINE
    halves = [half for word in bits for half in (word & 0xFFFF, word >> 16)]
    return (",".join([TEXT_OF_HALF[half] for half in halves]) + "\n").encode()


def array_of(answers: list[Bits | str]) -> npt.NDArray[np.float32]:
    """The same as an array."""
    wanted = np.full((len(answers), 2 * DIMS), np.nan, np.float32)
    for row, bits in zip(wanted, answers, strict=True):
        if not isinstance(bits, str):
            row[:] = [(2 * half - 65535) / 65536 for word in bits for half in (word & 0xFFFF, word >> 16)]
    return wanted


# Files.


def base_rows() -> list[list[bytes]]:
    """Good rows as different programs write them."""
    source = random.Random(5)
    formats = ["%.8f", "%.18e", "%g", "%+.5f", "%.3E", " %.6f", "%.6f\t", "%025.17f", "%d.", "%.9g"]
    rows = [[f % source.gauss(0, 3) for _ in range(DIMS)] for f in formats]
    rows.append([str(index) for index in range(DIMS)])
    rows.append(["0"] * (DIMS - 1) + ["1e-45"])
    rows.append([f"{source.choice('+-')}3.4028234e38" for _ in range(DIMS)])
    rows.append([f".{source.randrange(10**9)}" for _ in range(DIMS)])
    rows.append([f"{source.randrange(1, 99)}e-4{source.randrange(10)}" for _ in range(DIMS)])
    return [[value.encode() for value in row] for row in rows]


GOOD_ROWS = base_rows()
SPECIAL = [
    *["1e-3", "1E+2", "1e400", "1e-400", "-1e-400", "+1", "-0", "0", "007", ".5", "5.", "-.5e1", "1_0"],
    *["٣", "１", "½", "nan", "NaN", "-nan", "inf", "-Inf", "INFINITY", "0x1p3", "0x10", '"1"', "'1'"],
    *["", " ", "\t", " 1", "1\t", " \t1 \t", "1 2", "- 1", "1e", "e5", "+", ".", "1d0", "1;2", "null"],
    *["\x00", "1\x00", "\x0c1", "1\x0b", "\u00a01", "\ufeff1", "1\u2028", "\r1", "1\r", "[1", "1]", "1],[1"],
    *["1e-45", "7e-46", "1e-46", "3.4028235677973362e38", "3.4028235677973366e38", "3.5e38", "-1e39"],
    *["16777217", "16777217.0000000001", "9" * 400, "0" * 400 + "1", "." + "0" * 400 + "1"],
    *["абв", "一", "🙂", "true"],
]
VALUES = st.one_of(
    st.sampled_from(SPECIAL).map(str.encode),
    st.floats(width=32).map(lambda value: repr(value).encode()),
    st.floats().map(lambda value: repr(value).encode()),
    st.binary(max_size=6).map(lambda text: text.replace(b"\n", b"")),
    st.text("0123456789+-.eE_ ", max_size=12).map(str.encode),
)


def changed(row: list[bytes], changes: dict[int, bytes]) -> bytes:
    return b",".join(changes.get(index, value) for index, value in enumerate(row))


ROWS = st.sampled_from(GOOD_ROWS)
GOOD_LINES = ROWS.map(b",".join)
CHANGED_LINES = st.builds(
    changed, ROWS, st.dictionaries(st.integers(0, DIMS - 1), VALUES, min_size=1, max_size=3)
)
MISCOUNTED_LINES = st.one_of(
    ROWS.map(lambda row: b",".join(row[:-1])),
    ROWS.map(lambda row: b",".join([*row, b"1"])),
    ROWS.map(lambda row: b",".join(row) + b","),
    ROWS.map(lambda row: b"," + b",".join(row)),
    ROWS.map(b";".join),
    ROWS.map(b" ".join),
    st.builds(lambda row, count: b",".join((row * 3)[:count]), ROWS, st.integers(1, 3 * DIMS)),
)
ZEROS = st.sampled_from([b"0", b"-0", b"0.0", b"1e-46", b"-0e5"])
ZERO_LINES = ZEROS.map(lambda zero: b",".join([zero] * DIMS))
WRAPPED_LINES = st.builds(
    lambda before, row, after: before + b",".join(row) + after,
    st.sampled_from([b" ", b"\t", b"\xef\xbb\xbf", b"\x00", b'"', b"[", b"# ", b"\r", b"\xff\xfe", b""]),
    ROWS,
    st.sampled_from([b" ", b"\t ", b"\x00", b'"', b"]", b" # note", b"\r", b"\r\r", b"\x1a", b""]),
)
ANY_LINES = st.one_of(
    st.sampled_from(
        [b"", b" ", b"\t \t", b"\r", b"\r \r", b"\x0c", b"\x00", b"\xef\xbb\xbf", b",", b",,,,,"]
    ),
    st.binary(max_size=40).map(lambda text: text.replace(b"\n", b"")),
    st.text(max_size=30).map(lambda text: text.replace("\n", "").encode()),
    st.text(max_size=20)
    .map(lambda text: text.replace("\n", "").encode("utf-16"))
    .filter(lambda text: b"\n" not in text),
)


def lengthened(row: list[bytes], length: int, filling: bytes, position: int) -> bytes:
    """A line of so many bytes, by what fills it up before one of its values."""
    missing = length - len(b",".join(row))
    return changed(row, {position: (filling * missing)[:missing] + row[position]})


LENGTHS = st.one_of(
    st.integers(LIMIT_BYTES - 2, LIMIT_BYTES + 4),
    st.integers(4 * LIMIT_BYTES - 700, 4 * LIMIT_BYTES + 3),  # about one read of the file
    st.sampled_from([20_000, 100_000, 1_050_000, 2_200_000]),
)
LONG_LINES = st.builds(
    lengthened,
    st.sampled_from(GOOD_ROWS[:2] + GOOD_ROWS[10:12]),
    LENGTHS,
    st.sampled_from([b" ", b"0", b"7", b"x", b"1,", b"\x00", "é".encode(), b"\r"]),
    st.integers(0, DIMS - 1),
)
# So many of a kind among a hundred lines.
SHARES = [
    (62, GOOD_LINES),
    (14, CHANGED_LINES),
    (7, MISCOUNTED_LINES),
    (3, ZERO_LINES),
    (6, WRAPPED_LINES),
    (8, ANY_LINES),
]
KINDS = [kind for share, kind in SHARES for _ in range(share)]
LINES = st.integers(0, len(KINDS) - 1).flatmap(KINDS.__getitem__)
BAD_LINES = st.one_of(MISCOUNTED_LINES, ZERO_LINES, ANY_LINES)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\n", b"\r\n", b"\r\r\n", b"\n\n", b"\r\n\r\n", b"\r", b" \n"])
END_STYLES = st.one_of(
    st.sampled_from([b"\n", b"\n", b"\r\n", b"\r\n", b"\r"]).map(st.just), st.just(ENDS)
).flatmap(lambda ends: st.tuples(st.just(ends), st.booleans()))
TAILS = st.sampled_from(
    [b"", b"", b"", b"\n", b"\r\n", b"\n\n \t\r\n\n", b" ", b"\r", b" \r \r", b"\t" * 70_000, b"\n" * 300_000]
)


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A file of up to sixty lines."""
    kind = draw(st.integers(0, 99))
    pool = BAD_LINES if kind < 6 else GOOD_LINES if kind < 16 else LINES
    count = draw(st.one_of(st.integers(0, 4), st.integers(1, 20), st.integers(10, 60)))
    lines = draw(st.lists(pool, min_size=count, max_size=count))
    if kind >= 92:
        lines.insert(draw(st.integers(0, len(lines))), draw(LONG_LINES))
    style, ended = draw(END_STYLES)
    ends = [draw(style) for _ in lines] if style is ENDS else [draw(style)] * len(lines)
    if ends and not ended:
        ends[-1] = b""
    mark = draw(st.sampled_from([b"", b"", b"", b"", b"\xef\xbb\xbf", b"\n", b"\xef\xbb\xbf\n", b"\xff\xfe"]))
    return mark + b"".join(line + end for line, end in zip(lines, ends, strict=True)) + draw(TAILS)


# What must come out.


@dataclass(frozen=True)
class Wanted:
    """What the oracle makes of a file."""

    lines: list[bytes]
    answers: list[Bits | str]

    @property
    def bad(self) -> list[int]:
        """Numbers of the lines to refuse."""
        return [number for number, answer in enumerate(self.answers, start=1) if isinstance(answer, str)]


def wanted_of(content: bytes) -> Wanted:
    lines = lines_of(content)
    return Wanted(lines, [read_line(line, DIMS) for line in lines])


class Folder:
    """A folder with one input, whose outputs are looked at and removed after each run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.input = path / "in.txt"

    def begin(self, content: bytes) -> None:
        """Write the input; what a failed example left is gone."""
        for name in self.names():
            (self.path / name).unlink()
        self.input.write_bytes(content)

    def spec(self, policy: str, ending: str) -> BatchSpec:
        return BatchSpec(self.input, self.path / f"out{ending}", "nan" if policy == "nan" else "fail")

    def names(self) -> set[str]:
        return set(os.listdir(self.path)) - {"in.txt"}  # noqa: PTH208 - three times as fast

    def check_published(self, spec: BatchSpec, wanted: Wanted) -> None:
        """Check output and report, and that nothing else is there; then remove them."""
        names = {spec.output_path.name}
        if spec.output_path.suffix == ".npy":
            found = np.load(spec.output_path)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, array_of(wanted.answers))
        else:
            assert spec.output_path.read_bytes() == b"".join(map(text_of, wanted.answers))
        if wanted.bad:
            names.add(spec.errors_path.name)
            report = [json.loads(line) for line in spec.errors_path.read_bytes().splitlines()]
            assert [entry["line"] for entry in report] == wanted.bad
            assert [entry["raw"] for entry in report] == [raw_of(wanted.lines[i - 1]) for i in wanted.bad]
            assert all(entry["reason"] for entry in report)
        assert self.names() == names
        for name in names:
            (self.path / name).unlink()


@pytest.fixture(scope="module")
def folder() -> Iterator[Folder]:
    """A folder in memory where there is one: tens of thousands of syncs cost nothing there."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="embup-files-", dir=place) as path:
        yield Folder(Path(path))


def run_whole(run: BatchRun) -> None:
    """To the end, as `run_to_completion` without its setting of threads, which takes longer than all else."""
    try:
        while run.step():
            pass
        run.sync()
        run.publish()
    except BaseException:
        run.abort()
        raise


def check_whole(run: BatchRun, folder: Folder, spec: BatchSpec, wanted: Wanted) -> None:
    """Take a run under "nan" to its end and check what comes of it."""
    if len(wanted.bad) < len(wanted.lines):
        run_whole(run)
        assert (run.rows, run.failed_rows) == (len(wanted.lines), len(wanted.bad))
        assert run.bytes_done == run.bytes_total
        folder.check_published(spec, wanted)
        return
    with pytest.raises(BadRowError, match="none of the") as caught:
        run_whole(run)
    assert (caught.value.line, caught.value.raw) == (1, raw_of(wanted.lines[0]))
    assert caught.value.code == "no_good_row"
    assert not folder.names()


def check_under_nan(folder: Folder, wanted: Wanted, chunk_rows: int, ending: str) -> None:
    spec = folder.spec("nan", ending)
    check_whole(BatchRun(spec, BitsUpsampler(), chunk_rows=chunk_rows), folder, spec, wanted)


def check_under_fail(folder: Folder, wanted: Wanted, chunk_rows: int, ending: str) -> None:
    spec = folder.spec("fail", ending)
    run = BatchRun(spec, BitsUpsampler(), chunk_rows=chunk_rows)
    if not wanted.bad:
        run_to_completion(run)
        folder.check_published(spec, wanted)
        return
    first = wanted.bad[0]
    with pytest.raises(BadRowError, match=f"line {first}: ") as caught:
        run_whole(run)
    assert (caught.value.line, caught.value.raw) == (first, raw_of(wanted.lines[first - 1]))
    assert caught.value.code == "bad_row"
    assert not folder.names()


def check_cut_off(
    folder: Folder, wanted: Wanted, chunk_rows: int, ending: str, kept_steps: int, lost_steps: int
) -> int:
    """Cut a run off after a checkpoint and some steps that are lost, and go on; the number of rows kept."""
    spec = folder.spec("nan", ending)
    run = BatchRun(spec, BitsUpsampler(), chunk_rows=chunk_rows)
    more = True
    for _ in range(kept_steps):
        more = more and run.step()
    checkpoint = Checkpoint.from_json(json.loads(json.dumps(run.sync().to_json())))
    for _ in range(lost_steps):
        more = more and run.step()
    run.close()
    assert spec.output_path.name not in folder.names()
    again = BatchRun(spec, BitsUpsampler(), checkpoint=checkpoint)
    assert again.rows == checkpoint.rows
    check_whole(again, folder, spec, wanted)
    return checkpoint.rows


def check_without_rows(folder: Folder) -> None:
    for policy in ("fail", "nan"):
        with pytest.raises(InputFileError, match="holds no row"):
            BatchRun(folder.spec(policy, ".txt"), BitsUpsampler())
    assert not folder.names()


GOOD = b",".join(GOOD_ROWS[0])


@pytest.mark.timeout(1800)
def test_every_line_of_any_file_is_answered_in_its_place_or_refused(folder: Folder) -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=FILES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        content=files(),
        chunk_rows=st.one_of(st.integers(2, 4), st.integers(2, 12), st.integers(2, 200)),
        ending=st.sampled_from([".txt", ".txt", ".npy"]),
        kept_percent=st.integers(0, 100),
        lost_steps=st.integers(0, 3),
    )
    @example(content=b"", chunk_rows=2, ending=".txt", kept_percent=0, lost_steps=0)
    @example(content=b"\xef\xbb\xbf\r\n \n", chunk_rows=2, ending=".txt", kept_percent=0, lost_steps=0)
    @example(
        content=b"\xef\xbb\xbf" + b"7" * 5_000_000 + b"\n" + GOOD,
        chunk_rows=2,
        ending=".npy",
        kept_percent=50,  # within the line
        lost_steps=0,
    )
    def check(content: bytes, chunk_rows: int, ending: str, kept_percent: int, lost_steps: int) -> None:
        assume(content_of(content[:HEAD_BYTES]) is None)  # UTF-16, by its mark, is no file of lines
        folder.begin(content)
        wanted = wanted_of(content)
        seen["files"] += 1
        seen["lines"] += len(wanted.lines)
        seen["bad lines"] += len(wanted.bad)
        seen.update(answer for answer in wanted.answers if isinstance(answer, str) and answer[0] != "v")
        if not wanted.lines:
            check_without_rows(folder)
            seen["without rows"] += 1
            return
        seen["without good rows" if len(wanted.bad) == len(wanted.lines) else "published"] += 1
        seen["without bad rows"] += not wanted.bad
        check_under_nan(folder, wanted, chunk_rows, ending)
        check_under_fail(folder, wanted, chunk_rows, ending)
        chunks = -(-len(wanted.lines) // chunk_rows)
        kept_steps = (chunks + 1) * kept_percent // 100
        kept = check_cut_off(folder, wanted, chunk_rows, ending, kept_steps, lost_steps)
        seen["cut in the middle"] += 0 < kept < len(wanted.lines)

    check()
    print(dict(seen))  # noqa: T201 - shown by -rP
    assert seen["files"] >= FILES
    for kind in ("without rows", "without good rows", "published", "without bad rows", "cut in the middle"):
        assert seen[kind] >= FILES / 100, seen
    assert {"long", "blank", "count", "zero"} <= seen.keys()
