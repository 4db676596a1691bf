"""Streaming: chunk boundaries, line ends, overlong lines, bounded memory, resuming."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embup_core.errors import InputFileError
from embup_core.text import MAX_LINE_BYTES, BadRow, FileText, LineReader


class OpenFile:
    """A file in the test's folder, open for reading."""

    def __init__(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.path = path
        self.descriptor = os.open(path, os.O_RDONLY)

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *exc_info: object) -> None:
        os.close(self.descriptor)


@dataclass(frozen=True, eq=False)
class Chunk:
    """A block of lines with its rows."""

    first_line: int
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    bad: tuple[BadRow, ...]
    end_offset: int


def read_chunks(
    descriptor: int, *, chunk_rows: int = 64, offset: int = 0, first_line: int = 1
) -> Iterator[Chunk]:
    """Read rows of two values from a place in a file on."""
    reader = LineReader(FileText(descriptor, offset), chunk_rows=chunk_rows, first_line=first_line)
    while (block := reader.read_block()) is not None:
        parsed = block.parse(2)
        yield Chunk(block.first_line, parsed.rows, parsed.bad, block.end_offset)


ReadChunks = Callable[[bytes], list[Chunk]]


@pytest.fixture
def chunks_of(tmp_path: Path) -> ReadChunks:
    """Read content in chunks: `chunks_of(content)`."""

    def read(content: bytes) -> list[Chunk]:
        with OpenFile(tmp_path / "in.txt", content) as descriptor:
            return list(read_chunks(descriptor, chunk_rows=4))

    return read


def numbered_lines(count: int, end: str = "\n") -> bytes:
    return "".join(f"{index},1{end}" for index in range(count)).encode()


def first_values(chunks: list[Chunk]) -> list[float]:
    return [value for chunk in chunks for value in chunk.rows[:, 0].tolist()]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_every_chunk_but_the_last_is_full(chunks_of: ReadChunks, count: int) -> None:
    content = numbered_lines(count)
    chunks = chunks_of(content)
    assert [len(chunk.rows) for chunk in chunks] == [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    assert first_values(chunks) == list(range(count))
    assert [chunk.first_line for chunk in chunks] == list(range(1, count + 1, 4))
    assert chunks[-1].end_offset == len(content)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content,
        lambda content: content.rstrip(b"\n"),
        lambda content: content.replace(b"\n", b"\r\n"),
        lambda content: content.replace(b"\n", b"\r\n").rstrip(b"\r\n"),
        lambda content: content + b"\n",
        lambda content: content + b"\n \t\r\n\n",
        lambda content: content + b"\n" * 700_000,
        lambda content: b"\xef\xbb\xbf" + content,
    ],
    ids=[
        "plain",
        "no last newline",
        "crlf",
        "crlf no last",
        "blank last",
        "blanks last",
        "many blanks",
        "bom",
    ],
)
def test_ways_to_end_lines_and_files(chunks_of: ReadChunks, change: Callable[[bytes], bytes]) -> None:
    content = change(numbered_lines(10))
    chunks = chunks_of(content)
    assert first_values(chunks) == list(range(10))
    assert not any(chunk.bad for chunk in chunks)
    assert chunks[-1].end_offset == len(content)


def test_a_blank_line_in_the_middle_is_a_refused_row(chunks_of: ReadChunks) -> None:
    chunks = chunks_of(b"1,1\n2,1\n\n4,1\n5,1\n \n7,1\n\n")
    bad = [row for chunk in chunks for row in chunk.bad]
    assert [(row.line, row.index_in_chunk, row.reason) for row in bad] == [
        (3, 2, "blank line"),
        (6, 1, "blank line"),
    ]
    assert sum(len(chunk.rows) for chunk in chunks) == 7


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_file_of_nothing_has_no_chunk(chunks_of: ReadChunks, content: bytes) -> None:
    assert chunks_of(content) == []


def test_a_byte_order_mark_elsewhere_is_refused(chunks_of: ReadChunks) -> None:
    chunks = chunks_of(b"1,1\n\xef\xbb\xbf2,1\n")
    assert chunks[0].bad[0].reason == "value 1: '\\ufeff2' is not a number"


@given(
    lines=st.lists(st.sampled_from([b"1,2", b"3,4\r", b"", b"x", b"0,0", b"5,6,7", b" 8 ,9"]), max_size=30),
    chunk_rows=st.integers(1, 7),
    ended=st.booleans(),
)
def test_resuming_at_any_chunk_reads_the_same_rest(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], chunk_rows: int, ended: bool
) -> None:
    content = b"\n".join(lines) + b"\n" * ended
    with OpenFile(tmp_path_factory.mktemp("reader") / "in.txt", content) as descriptor:
        whole = list(read_chunks(descriptor, chunk_rows=chunk_rows))
        for index, chunk in enumerate(whole):
            rest = read_chunks(
                descriptor,
                chunk_rows=chunk_rows,
                offset=chunk.end_offset,
                first_line=chunk.first_line + len(chunk.rows),
            )
            for again, before in zip(rest, whole[index + 1 :], strict=True):
                assert (again.first_line, again.bad, again.end_offset) == (
                    before.first_line,
                    before.bad,
                    before.end_offset,
                )
                assert np.array_equal(again.rows, before.rows, equal_nan=True)


@pytest.mark.parametrize(
    "length", [MAX_LINE_BYTES - 1, MAX_LINE_BYTES, MAX_LINE_BYTES + 1, 10 * MAX_LINE_BYTES]
)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("position", [0, 2, 5])
def test_the_line_limit_is_the_same_wherever_the_line_lies(
    chunks_of: ReadChunks, length: int, newline: bytes, position: int
) -> None:
    lines = [b"%d,1" % index for index in range(6)]
    lines[position] = b"1," + b"1".rjust(length - 2)
    content = newline.join(lines)
    chunks = chunks_of(content)
    bad = [(row.line, row.reason) for chunk in chunks for row in chunk.bad]
    assert bad == ([(position + 1, "longer than 65536 bytes")] if length > MAX_LINE_BYTES else [])
    good = [value for value in first_values(chunks) if not np.isnan(value)]
    assert len(good) == 6 - len(bad)
    assert [chunk.end_offset for chunk in chunks] == [len(newline.join(lines[:4]) + newline), len(content)]


def test_a_line_of_many_megabytes_is_passed_over_in_steps(chunks_of: ReadChunks) -> None:
    content = b"1,1\n" + b"9" * 9_000_000 + b"\n3,1\n4,1\n5,1\n"
    chunks = chunks_of(content)
    assert [len(chunk.rows) for chunk in chunks] == [0, 0, 4, 1]
    assert chunks[0].end_offset == chunks[1].end_offset == 0
    assert [(row.line, row.reason) for row in chunks[2].bad] == [(2, "longer than 65536 bytes")]
    assert len(chunks[2].bad[0].raw) == 1024
    assert chunks[2].end_offset == content.index(b"5,1")
    assert first_values(chunks)[-2:] == [4, 5]


def test_a_file_cut_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    with OpenFile(tmp_path / "in.txt", numbered_lines(200_000)) as descriptor:
        chunks = read_chunks(descriptor)
        assert len(next(chunks).rows) == 64
        os.truncate(tmp_path / "in.txt", 1000)
        with pytest.raises(InputFileError, match="input changed"):
            list(chunks)


# VmHWM and not ru_maxrss, which a child takes over from the process that started it.
READ_AND_REPORT_PEAK = """
import os, sys
from embup_core.text import FileText, LineReader
reader, rows = LineReader(FileText(os.open(sys.argv[1], os.O_RDONLY))), 0
while (block := reader.read_block()) is not None:
    rows += len(block.parse(2).rows)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(rows, status["VmHWM"].split()[0])
"""


def test_memory_does_not_grow_with_the_file_nor_with_a_line(tmp_path: Path) -> None:
    """20 MB of short lines and one line of 300 MB (a hole in the file) take no more than 50 KB do."""
    peaks_kib = []
    for name, rows in (("small", 5_000), ("large", 2_000_000)):
        path = tmp_path / name
        path.write_bytes(b"0.125,0.5\n" * rows)
        if name == "large":
            os.truncate(path, path.stat().st_size + 300_000_000)
        result = subprocess.run(
            [sys.executable, "-c", READ_AND_REPORT_PEAK, str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
        count, peak_kib = map(int, result.stdout.split())
        assert count == rows + (name == "large")
        peaks_kib.append(peak_kib)
    assert peaks_kib[1] - peaks_kib[0] < 8 * 1024
