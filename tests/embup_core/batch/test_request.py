"""What is refused before a batch starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.batch import BatchRun, BatchSpec, run_to_completion
from embup_core.errors import BadRowError, InputFileError, OutputError
from tests.embup_core.batch.formats import check_request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.embup_core.batch.conftest import RandomMapUpsampler, WriteRows

GOOD = ",".join(["0.5"] * 32)


def test_a_good_request_is_estimated_and_nothing_is_touched(write_rows: WriteRows) -> None:
    spec = write_rows(500)
    facts = check_request(spec)
    assert facts.size_bytes == spec.input_path.stat().st_size
    assert 480 <= facts.estimated_rows <= 520
    assert facts.estimated_output_bytes == facts.estimated_rows * 1536 * 12
    assert [path.name for path in spec.input_path.parent.iterdir()] == ["in.txt"]


def test_one_row_without_a_newline_is_one_row(write_rows: WriteRows) -> None:
    spec = write_rows(1)
    spec.input_path.write_text(GOOD)
    assert check_request(spec).estimated_rows == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: None, "does not exist"),
        (lambda path: path.mkdir(), "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.touch(), "holds no row"),
        (lambda path: path.write_text("\n \n"), "holds no row"),
        (lambda path: path.symlink_to(path), "cannot be opened: it is a link"),
    ],
    ids=["missing", "folder", "pipe", "empty", "blank", "loop"],
)
def test_inputs_that_are_no_files_of_rows(
    tmp_path: Path, random_map: RandomMapUpsampler, make: Any, message: str
) -> None:
    spec = BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt")
    make(spec.input_path)
    with pytest.raises(InputFileError, match=message):
        check_request(spec)
    with pytest.raises(InputFileError, match=message):
        BatchRun(spec, random_map)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GOOD[4:], "expected 32 numbers, found 31"),
        (GOOD + ",0.5", "expected 32 numbers, found 33"),
        ("a" + GOOD, "value 1: 'a0.5' is not a number"),
        ("1" * 5_000_000, "longer than 65536 bytes"),
        ("1" * 70_000, "longer than 65536 bytes"),
    ],
    ids=["31 values", "33 values", "text", "a line of megabytes", "a long line"],
)
@pytest.mark.parametrize("on_bad_row", ["fail", "nan"])
def test_a_wrong_first_row_is_refused_at_once(
    tmp_path: Path, text: str, reason: str, on_bad_row: Any
) -> None:
    """Under "nan" as well when no row after it is better."""
    spec = BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt", on_bad_row)
    spec.input_path.write_text(f"{text}\n{text}\n")
    with pytest.raises(BadRowError) as caught:
        check_request(spec)
    assert caught.value.message == f"{spec.input_path}, line 1: {reason}"
    assert (caught.value.line, caught.value.reason) == (1, reason)
    assert caught.value.remedy.startswith(
        "Correct the row" if on_bad_row == "fail" else "Write one row a line"
    )


def test_under_nan_a_wrong_first_row_may_be_one_of_many(write_rows: WriteRows) -> None:
    assert check_request(write_rows(100, {1: "x1,x2"}, on_bad_row="nan")).estimated_rows > 0
    with pytest.raises(BadRowError, match="line 1"):
        check_request(write_rows(100, {1: "x1,x2"}))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("in.txt", "is the input itself"),
        ("linked.txt", "is the input itself"),
        ("pointing.txt", "is the input itself"),
        ("taken.txt", r"taken.txt exists\."),
        ("folder", "not a regular file"),
        ("missing/out.txt", "folder .*missing does not exist"),
        ("in.txt/out.txt", "folder .*in.txt is not a folder"),
        ("reported.txt", r"reported.txt.errors.jsonl exists\."),
        ("x" * 250, "cannot be written: File name too long"),
    ],
)
def test_outputs_that_cannot_be(
    write_rows: WriteRows, random_map: RandomMapUpsampler, output: str, message: str
) -> None:
    spec = write_rows(10, on_bad_row="nan")
    folder = spec.input_path.parent
    (folder / "linked.txt").hardlink_to(spec.input_path)
    (folder / "pointing.txt").symlink_to(spec.input_path)
    (folder / "taken.txt").write_text("mine")
    (folder / "reported.txt.errors.jsonl").write_text("mine")
    (folder / "folder").mkdir()
    spec = replace(spec, output_path=folder / output)
    before = spec.input_path.read_bytes()
    with pytest.raises(OutputError, match=message):
        check_request(spec)
    with pytest.raises(OutputError, match=message):
        BatchRun(spec, random_map)
    assert spec.input_path.read_bytes() == before
    assert not spec.part_path.exists()


@pytest.mark.parametrize("name", ["out.txt.part", "out.txt.errors.jsonl", "out.txt.errors.jsonl.part"])
def test_an_input_under_a_name_the_batch_writes_is_safe(
    write_rows: WriteRows, random_map: RandomMapUpsampler, name: str
) -> None:
    spec = write_rows(10, overwrite=True, on_bad_row="nan")
    spec = replace(spec, input_path=spec.input_path.rename(spec.input_path.with_name(name)))
    before = spec.input_path.read_bytes()
    with pytest.raises(OutputError, match="is the input itself"):
        check_request(spec)
    with pytest.raises(OutputError, match="is the input itself"):
        BatchRun(spec, random_map)
    assert spec.input_path.read_bytes() == before


def test_an_existing_output_may_be_overwritten_when_asked(write_rows: WriteRows) -> None:
    spec = write_rows(10, overwrite=True)
    spec.output_path.write_text("old")
    assert check_request(spec).estimated_rows >= 10


def test_an_output_larger_than_the_disk_is_refused(write_rows: WriteRows) -> None:
    """Eight terabytes of input, all of it a hole after a hundred rows, would take a hundred of output."""
    spec = write_rows(100)
    os.truncate(spec.input_path, 8 * 10**12)
    with pytest.raises(OutputError, match=r"takes about \d+\.\d\d GB .* are free"):
        check_request(spec)


@pytest.mark.parametrize("path", [Path("a\0b"), Path("a\ud800b")])
def test_paths_that_no_file_can_have(path: Path) -> None:
    with pytest.raises(InputFileError):
        BatchSpec(path, Path("out.txt"))
    with pytest.raises(OutputError):
        BatchSpec(Path("in.txt"), path)
    with pytest.raises(OutputError):
        BatchSpec(Path("in.txt"), Path("/"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    command = [mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a file system")
    yield folder
    subprocess.run([umount, "--lazy", str(folder)], check=True)


def test_a_read_only_folder_is_refused_and_a_full_disk_is_reported(
    write_rows: WriteRows, random_map: RandomMapUpsampler, small_disk: Path
) -> None:
    """Root writes where permissions forbid it, so a real file system stands for the folder."""
    spec = replace(write_rows(600), output_path=small_disk / "out.txt")
    with pytest.raises(OutputError, match="free in"):
        check_request(spec)
    run = BatchRun(spec, random_map)
    with pytest.raises(OutputError, match=r"No space left on device\. Free space") as caught:
        run_to_completion(run)
    assert "out.txt.part" in caught.value.message
    assert not list(small_disk.iterdir())
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OutputError, match="not writable"):
        check_request(spec)
    with pytest.raises(OutputError, match="not writable"):
        BatchRun(spec, random_map)


def test_an_input_that_became_a_link_is_refused(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    """Callers resolve the path first: a link found there took the file's place after that."""
    spec = write_rows(3)
    moved = spec.input_path.rename(spec.input_path.with_name("elsewhere.txt"))
    spec.input_path.symlink_to(moved)
    with pytest.raises(InputFileError, match="it is a link"):
        check_request(spec)
    with pytest.raises(InputFileError, match="it is a link"):
        BatchRun(spec, random_map)
