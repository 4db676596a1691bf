"""Outputs that are not text: readable by others, whole or absent, the same bytes however often cut off."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embup_core.batch import (
    BatchRun,
    BatchSpec,
    Checkpoint,
    finish_publication,
    remove_part_files,
    run_to_completion,
)
from embup_core.batch.outputs import parquet as parquet_output
from embup_core.errors import BadRowError, JobConflictError, OutputError
from tests.embup_core.batch.formats import check_request, read_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.embup_core.batch.conftest import RandomMapUpsampler, WriteRows

DIMS = 48
ENDINGS = [".txt", ".npy", ".parquet"]
BAD_ROWS = {1: "", 64: "x", 65: "0", 257: "nan"}


@pytest.fixture(autouse=True)
def small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several row groups from some hundred rows."""
    monkeypatch.setattr(parquet_output, "ROW_GROUP_ROWS", 100)


@pytest.fixture
def spec_of(write_rows: WriteRows) -> Callable[..., BatchSpec]:
    """A batch of 257 rows, four of them bad, with an output of that ending: `spec_of(".npy")`."""

    def spec(ending: str, **changes: Any) -> BatchSpec:
        made = write_rows(257, BAD_ROWS, on_bad_row="nan")
        return replace(made, output_path=made.output_path.with_name(f"out{ending}"), **changes)

    return spec


def whole(spec: BatchSpec, upsampler: Any) -> bytes:
    """The output of a run that nothing cut off."""
    spec = replace(spec, output_path=spec.output_path.with_name(f"whole{spec.output_path.suffix}"))
    run_to_completion(BatchRun(spec, upsampler, chunk_rows=64))
    content = spec.output_path.read_bytes()
    for path in (spec.output_path, spec.errors_path):
        path.unlink()
    return content


def check_published(spec: BatchSpec, expected: bytes) -> None:
    assert spec.output_path.read_bytes() == expected
    names = {spec.input_path.name, spec.output_path.name, spec.errors_path.name}
    assert {path.name for path in spec.output_path.parent.iterdir()} == names


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ending", ENDINGS)
def test_row_i_answers_row_i_in_every_format(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler, ending: str, workers: int
) -> None:
    spec = spec_of(ending)
    run = BatchRun(spec, random_map, chunk_rows=64, workers=workers)
    run_to_completion(run)
    found = read_output(spec.output_path, DIMS)
    assert found.shape == (257, DIMS)
    assert np.flatnonzero(np.isnan(found).any(axis=1)).tolist() == [0, 63, 64, 256]
    assert np.flatnonzero(np.isnan(found).all(axis=1)).tolist() == [0, 63, 64, 256]
    text = replace(spec, output_path=spec.output_path.with_name("text.txt"))
    run_to_completion(BatchRun(text, random_map, chunk_rows=64))
    np.testing.assert_allclose(found, read_output(text.output_path, DIMS), atol=1e-8)
    assert (run.rows, run.failed_rows, run.bytes_done) == (257, 4, run.bytes_total)


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101])
def test_other_programs_read_the_parquet_file(
    write_rows: WriteRows, random_map: RandomMapUpsampler, count: int
) -> None:
    changed = {count: "x"} if count > 1 else {}
    spec = write_rows(count, changed, on_bad_row="nan")
    spec = replace(spec, output_path=spec.output_path.with_name("out.parquet"))
    run_to_completion(BatchRun(spec, random_map))
    table = pq.read_table(spec.output_path)
    assert table.column_names == ["embedding"]
    assert table.schema.field("embedding").type.list_size == DIMS
    assert table.schema.field("embedding").type.value_type == pa.float32()
    expected = np.array(table["embedding"].to_pylist(), np.float32)
    assert np.isnan(expected).any(axis=1).sum() == len(changed)
    path = str(spec.output_path)
    from_duckdb = duckdb.read_parquet(path).fetchall()
    np.testing.assert_array_equal(np.array([row[0] for row in from_duckdb], np.float32), expected)
    assert pl.read_parquet(path)["embedding"].dtype == pl.Array(pl.Float32, DIMS)
    np.testing.assert_array_equal(pl.read_parquet(path)["embedding"].to_numpy(), expected)
    groups = pq.ParquetFile(path).metadata
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == (
        [100] * (count // 100) + [count % 100] * (count % 100 > 0)
    )


@pytest.mark.parametrize("count", [1, 257])
def test_numpy_maps_the_npy_file(write_rows: WriteRows, random_map: RandomMapUpsampler, count: int) -> None:
    spec = write_rows(count)
    spec = replace(spec, output_path=spec.output_path.with_name("out.npy"))
    run_to_completion(BatchRun(spec, random_map))
    rows = np.load(spec.output_path, mmap_mode="r")
    assert isinstance(rows, np.memmap)
    assert (rows.shape, rows.dtype, rows.flags.c_contiguous) == ((count, DIMS), np.dtype("<f4"), True)
    assert spec.output_path.stat().st_size == 128 + count * DIMS * 4


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_is_byte_identical_from_any_checkpoint(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler, ending: str, workers: int
) -> None:
    """Checkpoints among the rows, in the middle of a conversion, and at its end."""
    spec = spec_of(ending)
    expected = whole(spec, random_map)
    states = set()
    for steps_before in (1, 12) if workers else range(11):
        for steps_lost in (0, 2):
            run = BatchRun(spec, random_map, chunk_rows=64, workers=workers)
            for _ in range(steps_before):
                run.step()
            checkpoint = run.sync()
            for _ in range(steps_lost):
                run.step()
            run.close()
            states.add((checkpoint.rows == 257, checkpoint.complete))
            assert not spec.output_path.exists()
            checkpoint = Checkpoint.from_json(json.loads(json.dumps(checkpoint.to_json())))
            run_to_completion(BatchRun(spec, random_map, checkpoint=checkpoint, workers=workers))
            check_published(spec, expected)
            spec.output_path.unlink()
            spec.errors_path.unlink()
    wanted = {(False, False), (True, True)} | ({(True, False)} if ending == ".parquet" else set())
    assert states == wanted or workers


def to_the_last_step(run: BatchRun) -> None:
    while run.step():
        pass


def converting(spec: BatchSpec, upsampler: Any, steps: int = 2) -> tuple[BatchRun, Checkpoint]:
    """A run in the middle of its conversion, and a checkpoint of there."""
    run = BatchRun(spec, upsampler, chunk_rows=64)
    while run.rows < 257:
        assert run.step()
    for _ in range(steps):
        assert run.step()
    checkpoint = run.sync()
    assert (checkpoint.rows, checkpoint.complete, checkpoint.converted_inode) == (257, False, 0)
    assert spec.converting_path.stat().st_size > 0
    return run, checkpoint


def finished(spec: BatchSpec, upsampler: Any) -> Checkpoint:
    """The last checkpoint of a batch that was cut off before it was published."""
    run = BatchRun(spec, upsampler, chunk_rows=64)
    to_the_last_step(run)
    checkpoint = run.sync()
    run.close()
    assert checkpoint.converted_inode == spec.converting_path.stat().st_ino
    assert checkpoint.converted_bytes == spec.converting_path.stat().st_size
    return checkpoint


def test_a_checkpoint_from_before_there_were_conversions_is_read(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    with BatchRun(spec_of(".npy"), random_map) as run:
        run.step()
        checkpoint = run.sync()
    old = checkpoint.to_json()
    del old["converted_inode"], old["converted_bytes"]
    assert Checkpoint.from_json(old) == checkpoint
    assert msgspec.json.decode(msgspec.json.encode(old), type=Checkpoint) == checkpoint


def test_publishing_in_the_middle_of_a_conversion_is_a_mistake(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    spec = spec_of(".parquet")
    run, _ = converting(spec, random_map)
    with run, pytest.raises(RuntimeError, match="before step"):
        run.publish()


def test_a_converted_file_is_not_made_again(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    spec = spec_of(".parquet")
    expected = whole(spec, random_map)
    checkpoint = finished(spec, random_map)
    assert not finish_publication(spec, checkpoint)
    run_to_completion(BatchRun(spec, random_map, checkpoint=checkpoint))
    assert spec.output_path.stat().st_ino == checkpoint.converted_inode
    check_published(spec, expected)


def test_a_converted_file_that_is_gone_is_made_again(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    spec = spec_of(".parquet")
    expected = whole(spec, random_map)
    checkpoint = finished(spec, random_map)
    spec.converting_path.unlink()
    run_to_completion(BatchRun(spec, random_map, checkpoint=checkpoint))
    check_published(spec, expected)


@pytest.mark.parametrize("link_left", [False, True])
@pytest.mark.parametrize("rows_left", [False, True])
def test_a_published_conversion_is_recognised(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler, rows_left: bool, link_left: bool
) -> None:
    """Cut off after the rename, before the bare rows were removed, or just after."""
    spec = spec_of(".parquet")
    expected = whole(spec, random_map)
    checkpoint = finished(spec, random_map)
    spec.errors_part_path.rename(spec.errors_path)
    if link_left:
        spec.output_path.hardlink_to(spec.converting_path)
    else:
        spec.converting_path.rename(spec.output_path)
    if not rows_left:
        spec.part_path.unlink()
    spec.input_path.rename(spec.input_path.with_name("gone"))
    run = BatchRun(spec, random_map, checkpoint=checkpoint)
    assert run.published
    run_to_completion(run)
    spec.input_path.with_name("gone").rename(spec.input_path)
    check_published(spec, expected)
    assert finish_publication(spec, checkpoint)


def test_the_bare_rows_in_the_output_s_place_are_not_taken_for_it(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    spec = spec_of(".parquet")
    checkpoint = finished(spec, random_map)
    spec.output_path.hardlink_to(spec.part_path)
    assert not finish_publication(spec, checkpoint)
    with pytest.raises(OutputError, match="exists"):
        BatchRun(spec, random_map, checkpoint=checkpoint)


def test_an_output_that_appears_before_the_rename_is_not_replaced(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    spec = spec_of(".parquet")
    expected = whole(spec, random_map)
    run = BatchRun(spec, random_map, chunk_rows=64)
    to_the_last_step(run)
    spec.output_path.write_text("somebody else's")
    with pytest.raises(OutputError, match="exists"):
        run.publish()
    assert spec.output_path.read_text() == "somebody else's"
    spec.output_path.unlink()
    run.publish()
    check_published(spec, expected)


@pytest.mark.parametrize("ended", ["converting", "converted", "resumed"])
def test_abandoning_leaves_nothing_of_a_conversion(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler, ended: str
) -> None:
    spec = spec_of(".parquet")
    run, checkpoint = converting(spec, random_map)
    if ended == "resumed":  # cancelled before the conversion is begun again
        run.close()
        run = BatchRun(spec, random_map, checkpoint=checkpoint)
    while ended == "converted" and run.step():
        pass
    run.abort()
    assert [path.name for path in spec.output_path.parent.iterdir()] == ["in.txt"]


@pytest.mark.parametrize("with_checkpoint", [True, False])
@pytest.mark.parametrize("complete", [True, False])
def test_parts_of_a_conversion_can_be_discarded(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler, complete: bool, with_checkpoint: bool
) -> None:
    spec = spec_of(".parquet")
    run, checkpoint = converting(spec, random_map)
    with pytest.raises(JobConflictError):
        remove_part_files(spec)
    run.close()
    if complete:
        checkpoint = finished(spec, random_map)
    remove_part_files(spec, checkpoint if with_checkpoint else None)
    remove_part_files(spec, checkpoint if with_checkpoint else None)
    assert [path.name for path in spec.output_path.parent.iterdir()] == ["in.txt"]


def test_with_a_checkpoint_the_conversion_of_another_run_is_left_alone(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    spec = spec_of(".parquet")
    checkpoint = finished(spec, random_map)
    for path in (spec.part_path, spec.converting_path):
        path.rename(path.with_name(f"{path.name}.elsewhere"))
        path.write_text("of another run")
    remove_part_files(spec, checkpoint)
    assert spec.part_path.read_text() == spec.converting_path.read_text() == "of another run"


def test_a_file_of_a_user_beside_a_text_output_is_left_alone(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    spec = spec_of(".txt")
    spec.converting_path.write_text("mine")
    run_to_completion(BatchRun(spec, random_map))
    remove_part_files(spec)
    assert spec.converting_path.read_text() == "mine"


def test_too_many_bad_rows_are_told_before_a_conversion(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler
) -> None:
    spec = spec_of(".parquet", max_bad_rows=0.01)
    with pytest.raises(BadRowError, match="more than max_bad_rows allows"):
        to_the_last_step(BatchRun(spec, random_map, chunk_rows=64))
    assert not spec.converting_path.exists()


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Refuse to write files of this process beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("fitting_bytes", [2, 30_000, 257 * DIMS * 4])
def test_a_conversion_goes_on_after_a_refused_write(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler, fitting_bytes: int
) -> None:
    spec = spec_of(".parquet")
    expected = whole(spec, random_map)
    run = BatchRun(spec, random_map, chunk_rows=64)
    while run.rows < 257:
        run.step()
    checkpoint = run.sync()
    with (
        file_size_limit(fitting_bytes),
        pytest.raises(OutputError, match=r"out\.parquet\.converting\.part cannot be written: File") as caught,
    ):
        to_the_last_step(run)
    assert caught.value.code == "no_space"
    run.close()
    run_to_completion(BatchRun(spec, random_map, checkpoint=checkpoint))
    check_published(spec, expected)


@pytest.mark.parametrize("ending", [".txt.gz", ".parquet.zst", ".GZ"])
def test_an_output_that_promises_to_be_compressed_is_refused(
    spec_of: Callable[..., BatchSpec], random_map: RandomMapUpsampler, ending: str
) -> None:
    spec = spec_of(ending)
    with pytest.raises(OutputError, match="outputs are not compressed"):
        check_request(spec)
    with pytest.raises(OutputError, match="outputs are not compressed"):
        BatchRun(spec, random_map)


def test_a_disk_must_have_room_for_the_rows_twice(write_rows: WriteRows, tmp_path: Path) -> None:
    """Of the rows of an input that is a hole, all but the first are refused."""
    path = tmp_path / "in.npy"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({10**10}, 32), }}".encode().ljust(117)
    path.write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header + b"\n" + np.ones(32, "<f4").tobytes())
    os.truncate(path, 128 + 10**10 * 128)
    with pytest.raises(OutputError, match=r"takes about 61440\.00 GB \(10000000000 rows\), and") as caught:
        check_request(BatchSpec(path, tmp_path / "out.npy", "nan"))
    assert caught.value.code == "no_space"
    with pytest.raises(OutputError, match=r"takes about 122880\.00 GB until it is in place \("):
        check_request(BatchSpec(path, tmp_path / "out.parquet", "nan"))


CHILD = """
import json, runpy, sys, time
from pathlib import Path
from embup_core.batch import BatchRun, BatchSpec, Checkpoint, run_to_completion
from embup_core.batch.outputs import parquet as parquet_output
conftest, folder, pause_s = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
parquet_output.ROW_GROUP_ROWS = 16
upsampler = runpy.run_path(conftest)["RandomMapUpsampler"]()
kept = folder / "checkpoint.json"
checkpoint = Checkpoint.from_json(json.loads(kept.read_text())) if kept.exists() else None
def keep(checkpoint):
    beside = folder / "checkpoint.json.new"
    beside.write_text(json.dumps(checkpoint.to_json()))
    beside.replace(kept)
run = BatchRun(BatchSpec(folder / "in.txt", folder / "out.parquet", "nan"), upsampler, checkpoint=checkpoint)
run_to_completion(
    run, checkpoint_every_s=0.02, on_checkpoint=keep,
    on_progress=lambda run: time.sleep(pause_s if run.rows == 1025 else 0),
)
"""


def test_kill_9_in_the_middle_of_a_conversion_costs_no_byte(
    write_rows: WriteRows, random_map: RandomMapUpsampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_output, "ROW_GROUP_ROWS", 16)
    spec = write_rows(1025, BAD_ROWS, on_bad_row="nan")
    spec = replace(spec, output_path=tmp_path / "out.parquet")
    run_to_completion(BatchRun(replace(spec, output_path=tmp_path / "whole.parquet"), random_map))
    conftest = str(Path(__file__).with_name("conftest.py"))
    # Row group by row group until it has grown so far, and then the rest at once.
    for killed_at_bytes in (4, 20_000, 60_000, 180_000, None):
        pause_s = "0" if killed_at_bytes is None else "0.01"
        with subprocess.Popen([sys.executable, "-c", CHILD, conftest, str(tmp_path), pause_s]) as child:
            while killed_at_bytes is not None and size_of(spec.converting_path) < killed_at_bytes:
                assert child.poll() is None
                time.sleep(0.001)
            if killed_at_bytes is not None:
                child.send_signal(signal.SIGKILL)
            assert child.wait() == (0 if killed_at_bytes is None else -signal.SIGKILL)
        assert spec.output_path.exists() == (killed_at_bytes is None)
    assert spec.output_path.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    names = {path.name for path in tmp_path.iterdir()}
    assert {name for name in names if name.startswith("out")} == {"out.parquet", "out.parquet.errors.jsonl"}


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_memory_of_a_conversion_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    peaks_kib = []
    for rows in (5_000, 100_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        (folder / "in.txt").write_text((",".join(["0.5"] * 32) + "\n") * rows)
        report = "\nprint([line for line in open('/proc/self/status') if 'VmHWM' in line][0].split()[1])"
        child = CHILD.replace("ROWS = 16", "ROWS = 4096").replace("0.02", "0.5") + report
        command = [
            sys.executable,
            "-c",
            child,
            str(Path(__file__).with_name("conftest.py")),
            str(folder),
            "0",
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks_kib.append(int(result.stdout))
        assert pq.ParquetFile(folder / "out.parquet").metadata.num_rows == rows
    assert peaks_kib[1] - peaks_kib[0] < 16 * 1024
