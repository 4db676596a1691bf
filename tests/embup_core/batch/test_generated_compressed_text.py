"""Generated compressed text: it gives the rows of the same text uncompressed, in pieces of any size."""

from __future__ import annotations

import gzip
import os
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embup_core.batch.inputs import compressed_text
from embup_core.batch.inputs.compressed_text import CompressedText
from embup_core.text.reader import LineReader
from tests.embup_core.text.row_oracle import lines_of, raw_of, read_line

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = 5_000 if os.environ.get("EMBUP_CRASH_SCALE") == "full" else 300

PIECES = st.sampled_from(
    [b"1,2", b"3, 4", b"x", b"\n", b"\n", b"\r\n", b" ", b"\t", b"\r", b"\xef\xbb\xbf", b" " * 30, b"\n" * 20]
)


def compressed(text: bytes, ending: str) -> bytes:
    if ending == ".gz":
        return gzip.compress(text, 1)
    packed: bytes = pa.Codec("zstd").compress(text, asbytes=True)
    return packed


def found_rows(reader: LineReader) -> list[object]:
    """Bits of good rows, beginnings of refused ones."""
    found: list[object] = []
    while (block := reader.read_block()) is not None:
        if not block.rows:
            continue
        parsed = block.parse(2)
        raw = {bad.index_in_chunk: bad.raw for bad in parsed.bad}
        bits = parsed.rows.view(np.uint32)
        found += [raw.get(row, tuple(bits[row].tolist())) for row in range(block.rows)]
    return found


def test_compressed_text_gives_the_rows_of_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @settings(max_examples=TEXTS, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        text=st.lists(PIECES, min_size=1, max_size=25).map(b"".join),
        ending=st.sampled_from([".gz", ".zst"]),
        piece_bytes=st.sampled_from([1, 2, 5, 64, 4096]),
    )
    def check(text: bytes, ending: str, piece_bytes: int) -> None:
        monkeypatch.setattr(compressed_text, "READ_BYTES", piece_bytes)
        path = tmp_path / f"in{ending}"
        path.write_bytes(compressed(text, ending))
        answers = [(line, read_line(line, 2)) for line in lines_of(text)]
        wanted = [raw_of(line) if isinstance(answer, str) else answer for line, answer in answers]
        descriptor = os.open(path, os.O_RDONLY)
        try:
            assert found_rows(LineReader(CompressedText(path, descriptor), chunk_rows=3)) == wanted
        finally:
            os.close(descriptor)

    check()


@pytest.mark.parametrize("tail", [b"\n" * 3_000_000, b" " * 3_000_000, (b" " * 99 + b"\n") * 30_000])
def test_megabytes_of_blank_lines_at_the_end_are_no_part_of_the_last_row(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "in.gz"
    path.write_bytes(gzip.compress(b"1,2\n" + tail, 1))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert len(found_rows(LineReader(CompressedText(path, descriptor)))) == 1
        blocks = LineReader(CompressedText(path, descriptor))
        first = blocks.read_block()
    finally:
        os.close(descriptor)
    assert first is not None
    assert not first.parse(2).bad
