"""A batch from the first row to the published output, and what it does with bad rows and a changing input."""

from __future__ import annotations

import json
import os
import resource
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from embup_core.batch import BatchRun, BatchSpec, Checkpoint, run_to_completion
from embup_core.errors import BadRowError, InputFileError, JobConflictError, OutputError
from embup_core.text import format_nan_row, format_rows, row_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.upsampler import Upsampler
    from tests.embup_core.batch.conftest import RandomMapUpsampler, WriteRows

GOOD = ",".join(["0.5"] * 32)


def input_rows(spec: BatchSpec) -> Any:
    return np.loadtxt(spec.input_path, delimiter=",", ndmin=2).astype(np.float32)


def output_rows(spec: BatchSpec) -> Any:
    return np.loadtxt(spec.output_path, delimiter=",", ndmin=2)


def folder_names(spec: BatchSpec) -> set[str]:
    return {path.name for path in spec.output_path.parent.iterdir()}


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 129])
def test_line_i_answers_line_i(write_rows: WriteRows, random_map: RandomMapUpsampler, count: int) -> None:
    spec = write_rows(count)
    run = BatchRun(spec, random_map)
    run_to_completion(run)
    np.testing.assert_allclose(output_rows(spec), random_map.upsample(input_rows(spec))[0], atol=1e-6)
    assert spec.output_path.stat().st_size == count * row_bytes(48)
    assert (run.rows, run.failed_rows, run.bytes_done) == (count, 0, run.bytes_total)
    assert folder_names(spec) == {"in.txt", "out.txt"}


def test_a_real_decoder_answers_with_unit_rows(tmp_path: Path, upsampler: Upsampler) -> None:
    spec = BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt")
    projected = np.random.default_rng(0).standard_normal((70, 32)).astype(np.float32)
    np.savetxt(spec.input_path, projected, delimiter=", ")
    run_to_completion(BatchRun(spec, upsampler))
    rows = output_rows(spec)
    assert rows.shape == (70, 1536)
    assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() <= 1e-6
    np.testing.assert_allclose(rows, upsampler.upsample(projected)[0], atol=1e-6)


def test_the_decoder_never_sees_one_row(write_rows: WriteRows, random_map: RandomMapUpsampler) -> None:
    """A one-row product differs in its last bits from the same row in a larger one."""
    run_to_completion(BatchRun(write_rows(33), random_map, chunk_rows=16))
    assert random_map.row_counts == [16, 16, 2]


def test_a_row_s_neighbours_do_not_change_its_bytes(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    """Refused rows leave the rows beside them as they are."""
    spec = write_rows(10)
    run_to_completion(BatchRun(spec, random_map))
    clean = spec.output_path.read_bytes().splitlines()
    spec = write_rows(10, {3: "x", 10: "0"}, on_bad_row="nan", overwrite=True)
    run_to_completion(BatchRun(spec, random_map))
    lines = spec.output_path.read_bytes().splitlines()
    nan_line = format_nan_row(48).rstrip()
    assert lines == [*clean[:2], nan_line, *clean[3:9], nan_line]


def test_under_fail_the_first_bad_row_ends_the_batch(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(200, {70: GOOD + ",1", 90: "x"})
    with pytest.raises(BadRowError, match=r"in\.txt, line 70: expected 32 numbers, found 33") as caught:
        run_to_completion(BatchRun(spec, random_map))
    assert (caught.value.line, caught.value.raw) == (70, GOOD + ",1")
    assert caught.value.message.startswith(f"{spec.input_path}, ")
    assert "on_bad_row: nan" in caught.value.remedy
    assert folder_names(spec) == {"in.txt"}


def test_under_nan_bad_rows_are_answered_and_reported(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    changed = {2: "", 64: 'a"b', 65: GOOD.replace("0.5", "0"), 200: GOOD.replace("0.5", "1e39", 1)}
    spec = write_rows(200, changed, on_bad_row="nan")
    run = BatchRun(spec, random_map)
    run_to_completion(run)
    assert (run.rows, run.failed_rows) == (200, 4)
    rows = output_rows(spec)
    assert np.flatnonzero(np.isnan(rows).all(axis=1)).tolist() == [1, 63, 64, 199]
    assert np.isfinite(np.delete(rows, [1, 63, 64, 199], axis=0)).all()
    report = [json.loads(line) for line in spec.errors_path.read_text().splitlines()]
    assert report == [
        {"line": 2, "reason": "blank line", "raw": ""},
        {"line": 64, "reason": "expected 32 numbers, found 1 (values are separated by commas)", "raw": 'a"b'},
        {"line": 65, "reason": "all values are zero: a direction is needed", "raw": changed[65]},
        {"line": 200, "reason": "value 1: 1e39 does not fit in float32", "raw": changed[200]},
    ]
    assert folder_names(spec) == {"in.txt", "out.txt", "out.txt.errors.jsonl"}


def test_no_usable_row_is_never_published(write_rows: WriteRows, random_map: RandomMapUpsampler) -> None:
    spec = write_rows(100, dict.fromkeys(range(1, 101), "é\x01" * 900), on_bad_row="nan")
    with pytest.raises(BadRowError, match=r"in\.txt, line 1: .*none of the 100 rows can be used"):
        run_to_completion(BatchRun(spec, random_map))
    assert folder_names(spec) == {"in.txt"}


@pytest.mark.parametrize("content", ["\n", "\r\n \n", "\ufeff"])
def test_an_input_without_rows_is_refused(
    tmp_path: Path, random_map: RandomMapUpsampler, content: str
) -> None:
    (tmp_path / "in.txt").write_text(content)
    with pytest.raises(InputFileError, match="holds no row"):
        BatchRun(BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt"), random_map)
    assert not (tmp_path / "out.txt.part").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n",
        lambda text: "\ufeff" + text,
    ],
    ids=["crlf", "no last newline", "blank last lines", "byte order mark"],
)
def test_the_ways_files_are_written_do_not_matter(
    write_rows: WriteRows, random_map: RandomMapUpsampler, change: Any
) -> None:
    spec = write_rows(130)
    run_to_completion(BatchRun(spec, random_map))
    expected = spec.output_path.read_bytes()
    spec.input_path.write_bytes(change(spec.input_path.read_text()).encode())
    run_to_completion(BatchRun(replace(spec, overwrite=True), random_map))
    assert spec.output_path.read_bytes() == expected


def change_size(path: Path) -> None:
    with path.open("a") as file:
        file.write(GOOD + "\n")


def change_content(path: Path) -> None:
    text = path.read_text()
    path.write_text(text[:-4] + "999\n")
    os.utime(path, ns=(1, 1))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("change", [change_size, change_content, cut])
def test_an_input_that_changes_under_the_run_ends_it(
    write_rows: WriteRows, random_map: RandomMapUpsampler, change: Any
) -> None:
    spec = write_rows(300)
    run = BatchRun(spec, random_map)
    assert run.step()
    checkpoint = run.sync()
    change(spec.input_path)
    with pytest.raises(InputFileError, match="input changed"):
        run.step()
    with pytest.raises(RuntimeError, match="has failed"):
        run.publish()
    run.close()
    with pytest.raises(InputFileError, match="input changed"):
        BatchRun(spec, random_map, checkpoint=checkpoint)


@pytest.mark.parametrize("gone", [True, False])
def test_an_input_that_is_replaced_under_the_run_ends_it(
    write_rows: WriteRows, random_map: RandomMapUpsampler, gone: bool
) -> None:
    spec = write_rows(300)
    with BatchRun(spec, random_map) as run:
        assert run.step()
        spec.input_path.rename(spec.input_path.with_name("moved.txt"))
        if not gone:
            spec.input_path.write_bytes(spec.input_path.with_name("moved.txt").read_bytes())
        with pytest.raises(InputFileError, match="input changed"):
            run.sync()


def test_publishing_before_the_end_is_a_mistake(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    with BatchRun(write_rows(300), random_map) as run:
        assert run.step()
        with pytest.raises(RuntimeError, match="before step"):
            run.publish()


def test_an_output_that_appears_meanwhile_is_not_replaced(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(100, {5: "x"}, on_bad_row="nan")
    run = BatchRun(spec, random_map)
    while run.step():
        pass
    spec.output_path.write_text("somebody else's")
    with pytest.raises(OutputError, match=r"out\.txt exists"):
        run.publish()
    assert spec.output_path.read_text() == "somebody else's"
    run.abort()
    assert folder_names(spec) == {"in.txt", "out.txt"}


def test_overwriting_replaces_output_and_report_at_the_end_only(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(100, overwrite=True)
    spec.output_path.write_text("old")
    spec.errors_path.write_text("old report")
    run = BatchRun(spec, random_map)
    while run.step():
        run.sync()
        assert spec.output_path.read_text() == "old"
    run.publish()
    assert len(output_rows(spec)) == 100
    assert folder_names(spec) == {"in.txt", "out.txt"}


def test_publishing_again_is_harmless(write_rows: WriteRows, random_map: RandomMapUpsampler) -> None:
    spec = write_rows(10)
    run = BatchRun(spec, random_map)
    run_to_completion(run)
    content = spec.output_path.read_bytes()
    run.publish()
    run.close()
    run.abort()
    assert spec.output_path.read_bytes() == content


def test_two_live_runs_cannot_share_an_output(write_rows: WriteRows, random_map: RandomMapUpsampler) -> None:
    spec = write_rows(100)
    with BatchRun(spec, random_map) as run:
        run.step()
        with pytest.raises(JobConflictError, match="another batch is writing"):
            BatchRun(spec, random_map)
        assert run.sync().output_bytes == spec.part_path.stat().st_size > 0
    BatchRun(spec, random_map).abort()


def test_a_checkpoint_is_plain_json(write_rows: WriteRows, random_map: RandomMapUpsampler) -> None:
    with BatchRun(write_rows(100, {2: "x"}, on_bad_row="nan"), random_map, chunk_rows=16) as run:
        run.step()
        checkpoint = run.sync()
    assert Checkpoint.from_json(json.loads(json.dumps(checkpoint.to_json()))) == checkpoint
    assert msgspec.json.decode(msgspec.json.encode(checkpoint), type=Checkpoint) == checkpoint
    assert checkpoint.rows == 16
    assert checkpoint.failed_rows == 1


@contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Refuse to write files of this process beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_report_whose_first_write_is_refused_leaves_no_part(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(4, dict.fromkeys((1, 2, 3), "x" * 2000), on_bad_row="nan")
    with file_size_limit(3_000), pytest.raises(OutputError, match=r"errors\.jsonl\.part cannot be written"):
        run_to_completion(BatchRun(spec, random_map))
    assert folder_names(spec) == {"in.txt"}


def test_a_batch_goes_on_after_a_refused_write(
    write_rows: WriteRows, random_map: RandomMapUpsampler, tmp_path: Path
) -> None:
    spec = write_rows(400)
    run_to_completion(BatchRun(replace(spec, output_path=tmp_path / "whole.txt"), random_map))
    kept: list[Checkpoint] = []
    run = BatchRun(spec, random_map)
    with (
        file_size_limit(100_000),
        pytest.raises(OutputError, match=r"out\.txt\.part cannot be written: File"),
    ):
        run_to_completion(run, checkpoint_every_s=0, on_checkpoint=kept.append)
    assert spec.part_path.stat().st_size == 100_000
    assert not spec.output_path.exists()
    assert 0 < kept[-1].rows < 400
    run_to_completion(BatchRun(spec, random_map, checkpoint=kept[-1]))
    assert spec.output_path.read_bytes() == (tmp_path / "whole.txt").read_bytes()


def test_a_failed_batch_that_nobody_goes_on_with_leaves_no_part(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(400)
    with file_size_limit(100_000), pytest.raises(OutputError):
        run_to_completion(BatchRun(spec, random_map))
    assert folder_names(spec) == {"in.txt"}


def test_progress_and_checkpoints_are_told(write_rows: WriteRows, random_map: RandomMapUpsampler) -> None:
    seen: list[int] = []
    kept: list[Checkpoint] = []
    run_to_completion(
        BatchRun(write_rows(200), random_map, chunk_rows=64),
        checkpoint_every_s=0,
        on_progress=lambda run: seen.append(run.rows),
        on_checkpoint=kept.append,
    )
    assert seen == [64, 128, 192, 200]
    assert [checkpoint.rows for checkpoint in kept] == [64, 128, 192, 200]


def test_an_overlong_line_is_passed_over_without_an_answer_out_of_turn(
    tmp_path: Path, random_map: RandomMapUpsampler
) -> None:
    spec = BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt", "nan")
    spec.input_path.write_text(f"{GOOD}\n{'7' * 6_000_000}\n{GOOD}\n")
    run_to_completion(BatchRun(spec, random_map))
    lines = spec.output_path.read_bytes().splitlines(keepends=True)
    assert (
        lines[0]
        == lines[2]
        == format_rows(random_map.upsample(np.full((2, 32), 0.5, np.float32))[0][:1]).tobytes()
    )
    assert lines[1] == format_nan_row(48)
