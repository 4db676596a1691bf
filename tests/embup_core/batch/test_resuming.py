"""Crashes: kill -9 in the middle, cut-off publications, part files that are not what they were."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.batch import BatchRun, Checkpoint, finish_publication, remove_part_files, run_to_completion
from embup_core.errors import JobConflictError, OutputError

if TYPE_CHECKING:
    from embup_core.batch import BatchSpec
    from tests.embup_core.batch.conftest import RandomMapUpsampler, WriteRows

BAD_ROWS = {1: "", 64: "x", 65: "0", 500: "1,2,3", 1025: "nan"}


def whole_files(spec: BatchSpec, upsampler: Any, chunk_rows: int = 128) -> tuple[bytes, bytes]:
    """Output and report of a run that nothing cut off."""
    whole = replace(spec, output_path=spec.output_path.with_name("whole.txt"))
    run_to_completion(BatchRun(whole, upsampler, chunk_rows=chunk_rows))
    return whole.output_path.read_bytes(), whole.errors_path.read_bytes()


def published_files(spec: BatchSpec) -> tuple[bytes, bytes]:
    assert not spec.part_path.exists()
    assert not spec.errors_part_path.exists()
    return spec.output_path.read_bytes(), spec.errors_path.read_bytes()


def steps(run: BatchRun, count: int) -> None:
    for _ in range(count):
        run.step()  # with workers, a step may bring any number of answers


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("steps_before", [0, 1, 3])
@pytest.mark.parametrize("steps_lost", [0, 1])
def test_the_resumed_output_is_byte_identical(
    write_rows: WriteRows, random_map: RandomMapUpsampler, steps_before: int, steps_lost: int, workers: int
) -> None:
    """1025 rows: the last chunk has one row, whichever run and whichever process reaches it."""
    spec = write_rows(1025, BAD_ROWS, on_bad_row="nan")
    expected = whole_files(spec, random_map, chunk_rows=64)
    run = BatchRun(spec, random_map, chunk_rows=64, workers=workers)
    steps(run, steps_before)
    checkpoint = run.sync()
    steps(run, steps_lost)
    run.close()
    resumed = BatchRun(spec, random_map, checkpoint=checkpoint, chunk_rows=5, workers=workers)
    assert (resumed.rows, resumed.bytes_done) == (checkpoint.rows, checkpoint.input_offset)
    run_to_completion(resumed)
    assert published_files(spec) == expected
    assert (resumed.rows, resumed.failed_rows) == (1025, 5)


CHILD = """
import json, os, runpy, sys, time
from pathlib import Path
from embup_core.batch import BatchRun, BatchSpec, Checkpoint, run_to_completion
conftest, folder = Path(sys.argv[1]), Path(sys.argv[2])
upsampler = runpy.run_path(conftest)["RandomMapUpsampler"]()
kept = folder / "checkpoint.json"
checkpoint = Checkpoint.from_json(json.loads(kept.read_text())) if kept.exists() else None
def keep(checkpoint):
    beside = folder / "checkpoint.json.new"
    beside.write_text(json.dumps(checkpoint.to_json()))
    beside.replace(kept)
spec = BatchSpec(folder / "in.txt", folder / "out.txt", "nan")
run = BatchRun(spec, upsampler, checkpoint=checkpoint, chunk_rows=16)
run_to_completion(
    run, checkpoint_every_s=0.01, on_checkpoint=keep, on_progress=lambda run: time.sleep(0.004)
)
"""


def test_kill_9_at_any_moment_costs_no_byte(
    write_rows: WriteRows, random_map: RandomMapUpsampler, tmp_path: Path
) -> None:
    spec = write_rows(1025, BAD_ROWS, on_bad_row="nan")
    whole = replace(spec, output_path=tmp_path / "whole.txt")
    run_to_completion(BatchRun(whole, random_map, chunk_rows=16))
    kept = tmp_path / "checkpoint.json"
    command = [sys.executable, "-c", CHILD, str(Path(__file__).with_name("conftest.py")), str(tmp_path)]
    rows = 0
    kills = 0
    while not spec.output_path.exists():
        with subprocess.Popen(command) as child:
            # Killed a little after some progress, at a moment nobody chose.
            while child.poll() is None and rows_of(kept) < rows + 250:
                time.sleep(0.002)
            child.send_signal(signal.SIGKILL)
            kills += child.wait() == -signal.SIGKILL
        assert rows_of(kept) >= rows
        rows = rows_of(kept)
        assert spec.part_path.exists() != spec.output_path.exists()
    assert kills >= 1
    assert published_files(spec) == (whole.output_path.read_bytes(), whole.errors_path.read_bytes())


def rows_of(kept: Path) -> int:
    return int(json.loads(kept.read_text())["rows"]) if kept.exists() else 0


@pytest.fixture
def finished(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> tuple[BatchSpec, Checkpoint, tuple[bytes, bytes]]:
    """A batch with its last row on disk, not yet published: its checkpoint and what it must become."""
    spec = write_rows(100, {3: "x"}, on_bad_row="nan")
    expected = whole_files(spec, random_map)
    run = BatchRun(spec, random_map)
    while run.step():
        pass
    checkpoint = run.sync()
    run.close()
    return spec, checkpoint, expected


def test_cut_off_before_the_first_rename(finished: Any, random_map: RandomMapUpsampler) -> None:
    spec, checkpoint, expected = finished
    assert not finish_publication(spec, checkpoint)
    run_to_completion(BatchRun(spec, random_map, checkpoint=checkpoint))
    assert published_files(spec) == expected


def test_cut_off_between_the_two_renames(finished: Any, random_map: RandomMapUpsampler) -> None:
    spec, checkpoint, expected = finished
    spec.errors_part_path.rename(spec.errors_path)
    assert not finish_publication(spec, checkpoint)
    run_to_completion(BatchRun(spec, random_map, checkpoint=checkpoint))
    assert published_files(spec) == expected


@pytest.mark.parametrize("link_left", [False, True])
@pytest.mark.parametrize("input_gone", [False, True])
def test_cut_off_after_the_last_rename(
    finished: Any, random_map: RandomMapUpsampler, link_left: bool, input_gone: bool
) -> None:
    """The output is whole; nobody was told. It is recognised, and not written again."""
    spec, checkpoint, expected = finished
    spec.errors_part_path.rename(spec.errors_path)
    if link_left:
        spec.output_path.hardlink_to(spec.part_path)
    else:
        spec.part_path.rename(spec.output_path)
    inode = spec.output_path.stat().st_ino
    if input_gone:
        spec.input_path.unlink()
    run = BatchRun(spec, random_map, checkpoint=checkpoint)
    assert run.published
    assert not run.step()
    assert run.sync() == checkpoint
    assert (run.rows, run.failed_rows, run.bytes_done) == (100, 1, run.bytes_total)
    run_to_completion(run)
    assert published_files(spec) == expected
    assert spec.output_path.stat().st_ino == inode
    assert finish_publication(spec, checkpoint)


def test_a_foreign_output_is_not_taken_for_ours(finished: Any, random_map: RandomMapUpsampler) -> None:
    spec, checkpoint, _ = finished
    spec.output_path.write_bytes(spec.part_path.read_bytes())
    with pytest.raises(OutputError, match="exists"):
        BatchRun(spec, random_map, checkpoint=checkpoint)


@pytest.mark.parametrize("damage", ["gone", "short", "replaced"])
def test_a_part_file_that_lost_rows_is_noticed(
    finished: Any, random_map: RandomMapUpsampler, damage: str
) -> None:
    spec, checkpoint, _ = finished
    if damage == "short":
        os.truncate(spec.part_path, checkpoint.output_bytes - 1)
    else:
        content = spec.part_path.read_bytes()
        spec.part_path.rename(spec.part_path.with_name("elsewhere"))
        if damage == "replaced":
            spec.part_path.write_bytes(content)
    with pytest.raises(OutputError, match=r"out\.txt\.part"):
        BatchRun(spec, random_map, checkpoint=checkpoint)


def test_another_model_cannot_go_on(finished: Any, random_map: RandomMapUpsampler) -> None:
    spec, checkpoint, _ = finished
    with pytest.raises(JobConflictError, match="started with model 20260101-000000-00000000, not another"):
        BatchRun(spec, as_version(random_map, "another"), checkpoint=checkpoint)


def as_version(upsampler: Any, version: str) -> Any:
    upsampler.version = version
    return upsampler


def test_parts_that_nobody_goes_on_with_can_be_discarded(
    finished: Any, random_map: RandomMapUpsampler
) -> None:
    spec, checkpoint, _ = finished
    with BatchRun(spec, random_map, checkpoint=checkpoint), pytest.raises(JobConflictError):
        remove_part_files(spec)
    remove_part_files(spec)
    remove_part_files(spec)
    assert not spec.part_path.exists()
    assert not spec.errors_part_path.exists()


def test_a_new_run_discards_the_parts_of_an_ended_one(finished: Any, random_map: RandomMapUpsampler) -> None:
    spec, _, expected = finished
    run_to_completion(BatchRun(spec, random_map))
    assert published_files(spec) == expected


def test_nothing_of_a_longer_ended_run_is_left_at_the_end(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(70, {3: "x"}, on_bad_row="nan")
    expected = whole_files(spec, random_map)
    spec.part_path.write_bytes(b"old" * 1_000_000)
    spec.errors_part_path.write_bytes(b"old" * 1_000_000)
    run_to_completion(BatchRun(spec, random_map))
    assert published_files(spec) == expected


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """200,000 rows take no more memory than 2,000."""
    peaks_kib = []
    for rows in (2_000, 200_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        (folder / "in.txt").write_text((",".join(["0.5"] * 32) + "\n") * rows)
        report = "\nprint([line for line in open('/proc/self/status') if 'VmHWM' in line][0].split()[1])"
        child = CHILD.replace("time.sleep(0.004)", "None").replace("0.01", "0.5") + report
        command = [sys.executable, "-c", child, str(Path(__file__).with_name("conftest.py")), str(folder)]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks_kib.append(int(result.stdout))
        assert (folder / "out.txt").stat().st_size == rows * 48 * 12
    assert peaks_kib[1] - peaks_kib[0] < 16 * 1024


def test_another_file_with_the_same_inode_is_not_taken_for_ours(
    finished: Any, random_map: RandomMapUpsampler
) -> None:
    """The number of a removed file is given to the next one: the size has to agree as well."""
    spec, checkpoint, _ = finished
    spec.part_path.rename(spec.output_path)
    spec.output_path.write_text("somebody else's")
    assert spec.output_path.stat().st_ino == checkpoint.output_inode
    assert not finish_publication(spec, checkpoint)
    with pytest.raises(OutputError, match="exists"):
        BatchRun(spec, random_map, checkpoint=checkpoint)
    assert spec.output_path.read_text() == "somebody else's"


def test_an_early_checkpoint_never_says_that_a_batch_was_published(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(300)
    with BatchRun(spec, random_map) as run:
        assert run.step()
        early = run.sync()
    spec.part_path.rename(spec.output_path)
    assert not finish_publication(spec, early)
    with pytest.raises(OutputError, match="exists"):
        BatchRun(spec, random_map, checkpoint=early)


def test_with_a_checkpoint_only_the_files_it_speaks_of_are_discarded(finished: Any) -> None:
    spec, checkpoint, _ = finished
    spec.part_path.rename(spec.part_path.with_name("elsewhere"))
    spec.part_path.write_text("of another run")
    remove_part_files(spec, checkpoint)
    assert spec.part_path.read_text() == "of another run"
    assert not spec.errors_part_path.exists()


def test_abandoning_tries_both_parts_and_lets_go_of_all(
    finished: Any, random_map: RandomMapUpsampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, checkpoint, _ = finished
    run = BatchRun(spec, random_map, checkpoint=checkpoint)
    unlink = os.unlink

    def refusing(name: str, **options: Any) -> None:
        if name == spec.errors_part_path.name:
            raise OSError(errno.EROFS, "Read-only file system")
        unlink(name, **options)

    monkeypatch.setattr(os, "unlink", refusing)
    with pytest.raises(OutputError, match=r"errors\.jsonl\.part cannot be written: Read-only"):
        run.abort()
    assert not spec.part_path.exists()
    assert spec.errors_part_path.exists()
    monkeypatch.undo()
    with BatchRun(spec, random_map):  # nothing is locked any more
        pass
