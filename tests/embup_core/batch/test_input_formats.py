"""Inputs that are not plain text: answered as the same rows in plain text are, wherever they are cut off."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embup_core.batch import BatchRun, BatchSpec, run_to_completion
from embup_core.batch.inputs.formats import open_reader, row_remedy
from embup_core.batch.inputs.input_file import OpenInput
from embup_core.errors import BadRowError, InputFileError
from tests.embup_core.batch.formats import (
    INPUTS,
    check_request,
    random_rows,
    save,
    text_of,
    write_input,
    zstd,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.embup_core.batch.conftest import RandomMapUpsampler

GOOD = ",".join(["0.5"] * 32) + "\n"


def answer_to_text(folder: Path, content: bytes, upsampler: Any, chunk_rows: int = 64) -> bytes:
    """The output for a plain text."""
    spec = BatchSpec(folder / "plain.txt", folder / "plain.out.txt", "nan", overwrite=True)
    spec.input_path.write_bytes(content)
    run_to_completion(BatchRun(spec, upsampler, chunk_rows=chunk_rows))
    return spec.output_path.read_bytes()


def reported(spec: BatchSpec) -> list[tuple[int, str]]:
    report = [json.loads(line) for line in spec.errors_path.read_bytes().splitlines()]
    return [(entry["line"], entry["reason"]) for entry in report]


def rows_with_bad_ones(count: int) -> Any:
    rows = random_rows(count)
    rows[2, 5] = np.nan
    rows[63, 31] = -np.inf
    rows[64] = 0
    rows[70, 4] = -0.0
    rows[count - 1, 0] = np.inf
    return rows


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", INPUTS)
def test_every_format_is_answered_as_plain_text_is(
    tmp_path: Path, random_map: RandomMapUpsampler, kind: str, workers: int
) -> None:
    rows = rows_with_bad_ones(333)
    expected = answer_to_text(tmp_path, text_of(rows), random_map)
    spec = BatchSpec(write_input(kind, tmp_path, rows), tmp_path / "out.txt", "nan")
    run = BatchRun(spec, random_map, chunk_rows=64, workers=workers)
    run_to_completion(run)
    assert spec.output_path.read_bytes() == expected
    assert reported(spec) == [
        (3, "value 6: nan is not finite"),
        (64, "value 32: -inf is not finite"),
        (65, "all values are zero: a direction is needed"),
        (333, "value 1: inf is not finite"),
    ]
    assert (run.rows, run.failed_rows, run.bytes_done) == (333, 4, run.bytes_total)
    assert run.bytes_total == spec.input_path.stat().st_size


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", INPUTS)
def test_every_format_goes_on_from_any_checkpoint(
    tmp_path: Path, random_map: RandomMapUpsampler, kind: str, workers: int
) -> None:
    """257 rows: the last chunk has one."""
    rows = rows_with_bad_ones(257)
    expected = answer_to_text(tmp_path, text_of(rows), random_map)
    spec = BatchSpec(write_input(kind, tmp_path, rows), tmp_path / "out.txt", "nan")
    checkpoints = 0
    for steps_before in (1, 3) if workers else range(6):
        run = BatchRun(spec, random_map, chunk_rows=64, workers=workers)
        for _ in range(steps_before):
            run.step()
        checkpoint = run.sync()
        run.step()
        run.close()
        resumed = BatchRun(spec, random_map, checkpoint=checkpoint, workers=workers)
        assert (resumed.rows, resumed.bytes_done) == (checkpoint.rows, checkpoint.bytes_done)
        done = [resumed.bytes_done]
        run_to_completion(resumed, on_progress=lambda run: done.append(run.bytes_done))  # noqa: B023
        assert done == sorted(done)
        assert done[-1] == resumed.bytes_total
        assert spec.output_path.read_bytes() == expected
        assert len(reported(spec)) == 4
        spec.output_path.unlink()
        spec.errors_path.unlink()
        checkpoints += 0 < checkpoint.rows < 257
    assert checkpoints or workers


@pytest.mark.parametrize("kind", INPUTS)
def test_under_fail_a_bad_row_is_named_by_its_number(
    tmp_path: Path, random_map: RandomMapUpsampler, kind: str
) -> None:
    rows = random_rows(150)
    rows[99, 1] = np.nan
    spec = BatchSpec(write_input(kind, tmp_path, rows), tmp_path / "out.txt")
    with pytest.raises(BadRowError, match=r"in\..*, (line|row) 100: value 2: nan is not finite") as caught:
        run_to_completion(BatchRun(spec, random_map))
    assert (caught.value.line, caught.value.code) == (100, "bad_row")
    assert not spec.output_path.exists()
    assert not spec.part_path.exists()


@pytest.mark.parametrize("kind", [kind for kind in INPUTS if not kind.startswith(("gzip", "zstd"))])
def test_what_a_file_says_of_itself_is_taken_as_the_estimate(tmp_path: Path, kind: str) -> None:
    spec = BatchSpec(write_input(kind, tmp_path, random_rows(321)), tmp_path / "out.npy")
    facts = check_request(spec)
    assert (facts.size_bytes, facts.estimated_rows) == (spec.input_path.stat().st_size, 321)
    assert facts.estimated_output_bytes == facts.estimated_disk_bytes == 321 * 1536 * 4
    facts = check_request(replace(spec, output_path=tmp_path / "out.parquet"))
    assert facts.estimated_disk_bytes == 2 * facts.estimated_output_bytes == 321 * 1536 * 8


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
@pytest.mark.parametrize("count", [1, 64, 500, 40_000])
def test_compressed_rows_are_estimated_from_how_they_are_packed(
    tmp_path: Path, kind: str, count: int
) -> None:
    path = write_input(kind, tmp_path, np.resize(random_rows(2_000), (count, 32)))
    facts = check_request(BatchSpec(path, tmp_path / "out.txt"))
    assert facts.estimated_rows == pytest.approx(count, rel=0.15, abs=1)


@pytest.mark.parametrize("kind", INPUTS)
def test_a_bad_first_row_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    rows = random_rows(3)
    rows[0] = 0
    path = write_input(kind, tmp_path, rows)
    with pytest.raises(BadRowError, match="1: all values are zero"):
        check_request(BatchSpec(path, tmp_path / "out.txt"))
    check_request(BatchSpec(path, tmp_path / "out.txt", "nan"))
    path = write_input(kind, tmp_path, rows[:1])
    with pytest.raises(BadRowError, match="1: all values are zero") as caught:
        check_request(BatchSpec(path, tmp_path / "out.txt", "nan"))
    assert caught.value.remedy == row_remedy(path)


def refused(path: Path, upsampler: Any, message: str, code: str = "input_unusable") -> None:
    """Check that an input is refused before anything is written."""
    spec = BatchSpec(path, path.with_name("out.txt"), "nan")
    for attempt in (check_request, lambda spec: BatchRun(spec, upsampler)):
        with pytest.raises(InputFileError, match=message) as caught:
            attempt(spec)
        assert str(path) in caught.value.message
        assert caught.value.remedy
        assert caught.value.code == code
    assert {found.name for found in path.parent.iterdir()} == {path.name}


def test_an_npy_header_takes_no_more_memory_than_headers_need(tmp_path: Path, random_map: Any) -> None:
    """A file with a hole of gigabytes takes no space on its disk."""
    with (tmp_path / "in.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00" + (1 << 30).to_bytes(4, "little"))
        file.truncate(1 << 28)
    tracemalloc.start()
    try:
        refused(tmp_path / "in.npy", random_map, "expected a NumPy file")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("change", "said"), [(-1, "is cut off"), (-1000, "is cut off"), (4, "more than one array")]
)
def test_an_npy_file_of_another_size_than_it_says(
    tmp_path: Path, random_map: RandomMapUpsampler, change: int, said: str
) -> None:
    path = tmp_path / "in.npy"
    save(path, random_rows(100))
    os.truncate(path, path.stat().st_size + change)
    refused(path, random_map, f"{said}: .* 100 rows, which take 12928 bytes")


def test_numbers_beyond_float32_are_refused_rows(tmp_path: Path, random_map: RandomMapUpsampler) -> None:
    rows = random_rows(10).astype(np.float64)
    rows[1, 3], rows[2, 31], rows[3] = 1e39, -4e38, 1e-60
    rows[4, 0], rows[4, 1] = 1e300, np.nan
    save(tmp_path / "in.npy", rows)
    spec = BatchSpec(tmp_path / "in.npy", tmp_path / "out.txt", "nan")
    run_to_completion(BatchRun(spec, random_map))
    assert reported(spec) == [
        (2, "value 4: 1e+39 does not fit in float32"),
        (3, "value 32: -4e+38 does not fit in float32"),
        (4, "all values are zero: a direction is needed"),
        (5, "value 2: nan is not finite"),
    ]
    assert json.loads(spec.errors_path.read_bytes().splitlines()[2])["raw"].startswith("1e-60,1e-60,")


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float64(), 32)], ids=["list", "fixed"])
def test_nulls_and_lists_of_another_length_are_refused_rows(
    tmp_path: Path, random_map: RandomMapUpsampler, kind: Any
) -> None:
    """Over several row groups, which share no border with the chunks."""
    fixed = pa.types.is_fixed_size_list(kind)
    lists: list[Any] = random_rows(350).tolist()
    lists[0] = None
    lists[70] = [None, *lists[70][1:]]
    lists[149] = None if fixed else []
    lists[150] = None if fixed else [0.5, 1.5]
    lists[349] = [*lists[349][:31], None]
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"z": pa.array(lists, type=kind)}), path, row_group_size=150)
    spec = BatchSpec(path, tmp_path / "out.npy", "nan")
    run_to_completion(BatchRun(spec, random_map, chunk_rows=64, workers=1))
    null = "expected 32 numbers, found null"
    assert reported(spec) == [
        (1, null),
        (71, "value 1: null is not a number"),
        (150, null if fixed else "expected 32 numbers, found 0"),
        (151, null if fixed else "expected 32 numbers, found 2"),
        (350, "value 32: null is not a number"),
    ]
    found = np.flatnonzero(np.isnan(np.load(spec.output_path)).any(axis=1))
    assert found.tolist() == [0, 70, 149, 150, 349]


def test_a_null_in_a_column_of_numbers_is_a_refused_row(
    tmp_path: Path, random_map: RandomMapUpsampler
) -> None:
    columns: dict[str, Any] = {f"z{index}": [0.5, 1.0, 2.0] for index in range(30)}
    columns |= {"name": ["a", "b", "c"], "z30": [1, None, 3], "z31": pa.array([1, 2, 3], pa.int8())}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    spec = BatchSpec(tmp_path / "in.parquet", tmp_path / "out.npy", "nan")
    run_to_completion(BatchRun(spec, random_map))
    assert reported(spec) == [(2, "value 31: null is not a number")]
    rows = np.full((3, 32), [[0.5], [1.0], [2.0]], np.float32)
    rows[:, 30:] = [[1, 1], [2, 2], [3, 3]]
    np.testing.assert_array_equal(np.load(spec.output_path)[[0, 2]], random_map.upsample(rows)[0][[0, 2]])


@pytest.mark.parametrize("damage", ["text", "cut", "middle"])
def test_damaged_parquet_files_are_refused(
    tmp_path: Path, random_map: RandomMapUpsampler, damage: str
) -> None:
    path = write_input("parquet lists", tmp_path, random_rows(300))
    content = path.read_bytes()
    if damage == "text":
        path.write_text(GOOD)
    elif damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(content[:4] + b"\xff" * 2_000 + content[2_004:])
    message = "expected a whole Parquet file, found something else"
    spec = BatchSpec(path, tmp_path / "out.txt", "nan")
    with pytest.raises(InputFileError, match=message) as caught:
        run_to_completion(BatchRun(spec, random_map))
    assert "\n" not in caught.value.message
    with pytest.raises(InputFileError, match=message):
        check_request(spec)
    assert {found.name for found in tmp_path.iterdir()} == {path.name}


@pytest.mark.parametrize("kind", INPUTS)
def test_a_file_with_any_bytes_changed_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    """Warnings are errors here, so nothing else comes of it either."""
    path = write_input(kind, tmp_path, random_rows(40))
    whole = path.read_bytes()
    source = random.Random(3)
    # Headers and footers say most; they are changed most.
    places = [range(min(200, len(whole))), range(len(whole)), range(max(0, len(whole) - 2_000), len(whole))]
    refusals = 0
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(source.choice([1, 1, 2, 8])):
            content[source.choice(source.choice(places))] = source.randrange(256)
        path.write_bytes(content[: source.choice([len(content)] * 9 + [source.randrange(len(content))])])
        try:
            for block in read_on(path, 0, 0):
                block.parse(32)
        except InputFileError as error:
            assert error.remedy  # noqa: PT017 - what is not refused is as good
            refusals += 1
    assert refusals


# Compressed text.

PACKINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (".gz", gzip.compress),
    "zstd": (".zst", zstd),
}


@pytest.fixture(params=PACKINGS)
def packed(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    """Write texts, each packed by itself, one after the other: `packed(text, …)`."""
    ending, pack = PACKINGS[request.param]

    def write(*texts: bytes, behind: bytes = b"") -> Path:
        path = tmp_path / f"in.txt{ending}"
        path.write_bytes(b"".join(map(pack, texts)) + behind)
        return path

    return write


TEXT = text_of(random_rows(200))


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + TEXT,
        TEXT.rstrip(b"\n"),
        TEXT + b"\n \t\r\n\n",
        TEXT.rstrip(b"\n") + b" \t ",
        TEXT + b"\n" * 2_000_000,
        TEXT.replace(b"\n", b"\n\n", 5),
        TEXT + b" " * 1_000_000 + b"\n" * 3_000 + b"x\n",
        TEXT + b"7" * 6_000_000 + b"\n" + TEXT,
        b"\n" + TEXT,
    ],
    ids=[
        *["crlf", "byte order mark", "no last newline", "blank last lines", "blank end of the last line"],
        *["very many blank last lines", "blank lines between", "a blank end that is none", "overlong line"],
        "blank first line",
    ],
)
def test_packed_text_is_answered_as_the_text_is(
    tmp_path: Path, random_map: RandomMapUpsampler, packed: Callable[..., Path], text: bytes
) -> None:
    expected = answer_to_text(tmp_path, text, random_map, chunk_rows=16)
    spec = BatchSpec(packed(text), tmp_path / "out.txt", "nan")
    run = BatchRun(spec, random_map, chunk_rows=16)
    run_to_completion(run)
    assert spec.output_path.read_bytes() == expected
    assert run.bytes_done == run.bytes_total
    plain_report = tmp_path / "plain.out.txt.errors.jsonl"
    assert spec.errors_path.exists() == plain_report.exists()
    if plain_report.exists():
        assert spec.errors_path.read_bytes() == plain_report.read_bytes()


def test_packed_parts_one_after_the_other_are_one_text(
    tmp_path: Path, random_map: RandomMapUpsampler, packed: Callable[..., Path]
) -> None:
    expected = answer_to_text(tmp_path, TEXT, random_map)
    path = packed(TEXT[:1], b"", TEXT[1:5_000], TEXT[5_000:])
    spec = BatchSpec(path, tmp_path / "out.txt")
    run_to_completion(BatchRun(spec, random_map, chunk_rows=64))
    assert spec.output_path.read_bytes() == expected


@pytest.mark.parametrize("left_percent", [0.01, 0.4, 0.99])
def test_a_packed_text_that_is_cut_off_fails_the_batch(
    tmp_path: Path, random_map: RandomMapUpsampler, packed: Callable[..., Path], left_percent: float
) -> None:
    path = packed(TEXT, TEXT)
    os.truncate(path, int(path.stat().st_size * left_percent))
    spec = BatchSpec(path, tmp_path / "out.txt", "nan")
    with pytest.raises(InputFileError, match=r"is cut off: its .* data end in the middle") as caught:
        run_to_completion(BatchRun(spec, random_map, chunk_rows=64))
    assert (caught.value.code, bool(caught.value.remedy)) == ("input_unusable", True)
    assert {found.name for found in tmp_path.iterdir()} == {path.name}


def test_a_damaged_packed_text_fails_the_batch(
    tmp_path: Path, random_map: RandomMapUpsampler, packed: Callable[..., Path]
) -> None:
    path = packed(TEXT, behind=b"and something else")
    with pytest.raises(InputFileError, match=r"found something else near its start \("):
        run_to_completion(BatchRun(BatchSpec(path, tmp_path / "out.txt"), random_map))


def test_a_plain_text_with_a_packed_ending_is_refused(
    random_map: RandomMapUpsampler, packed: Callable[..., Path]
) -> None:
    refused(packed(behind=GOOD.encode()), random_map, r"expected .* data, found something else near its")


@pytest.mark.parametrize("text", [b"", b"\n \r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_packed_text_without_rows_is_refused(
    random_map: RandomMapUpsampler, packed: Callable[..., Path], text: bytes
) -> None:
    refused(packed(text), random_map, "holds no row")


def test_very_many_blank_lines_before_a_row_are_refused(
    tmp_path: Path, random_map: RandomMapUpsampler, packed: Callable[..., Path]
) -> None:
    path = packed(TEXT + b"\n" * 3_000_000 + TEXT)
    with pytest.raises(InputFileError, match="more than 1048576 bytes of blank lines"):
        run_to_completion(BatchRun(BatchSpec(path, tmp_path / "out.txt", "nan"), random_map))


def test_a_packed_text_of_blank_megabytes_alone_holds_no_row(
    tmp_path: Path, random_map: RandomMapUpsampler, packed: Callable[..., Path]
) -> None:
    """Too many to be looked through before the batch starts."""
    path = packed(b"\n" * 20_000_000)
    with pytest.raises(InputFileError, match="holds no row"):
        run_to_completion(BatchRun(BatchSpec(path, tmp_path / "out.txt", "nan"), random_map))
    assert {found.name for found in tmp_path.iterdir()} == {path.name}


def read_on(path: Path, offset: int, first_row: int) -> list[Any]:
    """The blocks of a reader that starts there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        reader = open_reader(
            OpenInput(path, descriptor, input_dims=32, chunk_rows=64, offset=offset, first_row=first_row)
        )
        blocks = []
        while (block := reader.read_block()) is not None:
            blocks.append(block)
        return blocks
    finally:
        os.close(descriptor)


def test_a_late_checkpoint_of_a_packed_text_is_reached_in_steps(packed: Callable[..., Path]) -> None:
    path = packed(*[TEXT] * 150)
    whole = read_on(path, 0, 0)
    late = whole[-100]
    rest = read_on(path, late.end_offset, late.first_line + late.rows - 1)
    assert rest[0].rows == 0
    assert [block for block in rest if block.rows] == whole[-99:]


@pytest.mark.parametrize("kind", ["parquet lists", "parquet columns"])
def test_a_late_row_of_a_row_group_is_reached_in_steps(tmp_path: Path, kind: str) -> None:
    rows = np.resize(random_rows(1_000), (30_000, 32))
    path = write_input(kind, tmp_path, rows)
    pq.write_table(pq.read_table(path), path, row_group_size=30_000)
    blocks = read_on(path, 25_000, 25_000)
    assert blocks[0].rows == 0
    np.testing.assert_array_equal(np.concatenate([block.values for block in blocks]), rows[25_000:])
    assert blocks[-1].bytes_done == path.stat().st_size


READ_AND_REPORT_PEAK = """
import sys
from pathlib import Path
import numpy as np
from embup_core.batch import BatchRun, BatchSpec, run_to_completion
import runpy
upsampler = runpy.run_path(sys.argv[1])["RandomMapUpsampler"]()
path = Path(sys.argv[2])
run = BatchRun(BatchSpec(path, path.with_name("out.npy"), "nan"), upsampler)
run_to_completion(run)
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(run.rows, status["VmHWM"].split()[0])
"""


def peak_kib(path: Path, conftest: Path, rows: int) -> int:
    command = [sys.executable, "-c", READ_AND_REPORT_PEAK, str(conftest), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found_rows, peak = map(int, result.stdout.split())
    assert found_rows == rows
    path.with_name("out.npy").unlink()
    return peak


def test_memory_is_bounded_however_well_the_text_is_packed(
    packed: Callable[..., Path], request: pytest.FixtureRequest
) -> None:
    """A line of 300 MB and as many blank lines, in a file of some kilobytes."""
    conftest = request.path.with_name("conftest.py")
    small = peak_kib(packed(TEXT), conftest, 200)
    large = peak_kib(
        packed(TEXT, *[b"7" * 30_000_000] * 10, b"\n", *[b"\n" * 30_000_000] * 10), conftest, 201
    )
    assert large - small < 24 * 1024


@pytest.mark.parametrize("kind", ["npy float64", "parquet lists", "parquet columns"])
def test_memory_does_not_grow_with_a_file_of_numbers(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """60,000 rows against 2,000, in groups of 100."""
    conftest = request.path.with_name("conftest.py")
    peaks = []
    for count in (2_000, 60_000):
        path = write_input(kind, tmp_path, np.resize(random_rows(1_000), (count, 32)))
        peaks.append(peak_kib(path, conftest, count))
    assert peaks[1] - peaks[0] < 24 * 1024
