"""`max_bad_rows`: how many refused rows a batch bears, and when it says that they are too many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.batch import BatchRun, BatchSpec, run_to_completion
from embup_core.errors import BadRowError, InputError
from tests.embup_core.batch.formats import random_rows, save, text_of, write_input

if TYPE_CHECKING:
    from tests.embup_core.batch.conftest import RandomMapUpsampler, WriteRows

SHORTEST = ",".join(["1"] * 32)


def run_with(spec: BatchSpec, upsampler: Any, limit: float | None, **options: Any) -> BatchRun:
    run = BatchRun(replace(spec, max_bad_rows=limit), upsampler, **options)
    run_to_completion(run)
    return run


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("limit", "bad"),
    [
        (0, 0),
        (1, 1),
        (29, 29),
        (29.0, 29),
        (0.29, 29),
        (0.29, 28),
        (0.001, 0),
        (1e-9, 0),
        (0.99, 99),
        (500, 99),
    ],
)
def test_as_many_bad_rows_as_allowed_are_answered(
    write_rows: WriteRows, random_map: RandomMapUpsampler, limit: float, bad: int, workers: int
) -> None:
    """As a product of floats, 0.29 of 100 rows would be fewer than 29."""
    spec = write_rows(100, dict.fromkeys(range(1, bad + 1), "x"), on_bad_row="nan")
    run = run_with(spec, random_map, limit, chunk_rows=16, workers=workers)
    assert (run.rows, run.failed_rows) == (100, bad)
    assert spec.output_path.exists()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("limit", "bad", "shown"),
    [
        (0, 1, "0"),
        (1, 2, "1"),
        (29.0, 30, "29"),
        (0.29, 30, "0.29"),
        (1e-9, 1, "1e-09"),
        (0.985, 99, "0.985"),
    ],
)
def test_one_more_fails_the_batch_and_says_which_was_the_first(
    write_rows: WriteRows, random_map: RandomMapUpsampler, limit: float, bad: int, shown: str, workers: int
) -> None:
    lines = range(101 - bad, 101)
    spec = write_rows(100, dict.fromkeys(lines, "0.5,x"), on_bad_row="nan")
    with pytest.raises(BadRowError) as caught:
        run_with(spec, random_map, limit, chunk_rows=16, workers=workers)
    error = caught.value
    assert (error.line, error.raw, error.code) == (lines[0], "0.5,x", "too_many_bad_rows")
    assert f"in.txt, line {lines[0]}: expected 32 numbers, found 2; this is the first of" in error.message
    assert error.message.endswith(f"more than max_bad_rows allows ({shown})")
    assert error.remedy
    assert [path.name for path in spec.input_path.parent.iterdir()] == ["in.txt"]


def test_without_a_limit_all_rows_but_one_may_be_bad(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(100, dict.fromkeys(range(1, 100), "x"), on_bad_row="nan")
    assert run_with(spec, random_map, None).failed_rows == 99


@pytest.mark.parametrize("workers", [0, 2])
def test_a_count_that_is_passed_ends_the_batch_at_once(
    write_rows: WriteRows, random_map: RandomMapUpsampler, workers: int
) -> None:
    spec = write_rows(2_000, dict.fromkeys((1, 20, 33), "x"), on_bad_row="nan")
    run = BatchRun(replace(spec, max_bad_rows=2), random_map, chunk_rows=16, workers=workers)
    with pytest.raises(BadRowError, match="first of 3 bad rows among 48, more"):
        run_to_completion(run)
    assert run.rows == 48


def fails_after(spec: BatchSpec, upsampler: Any, limit: float) -> int:
    """How many rows were answered when the batch failed."""
    run = BatchRun(replace(spec, max_bad_rows=limit), upsampler, chunk_rows=16)
    with pytest.raises(BadRowError, match="more than max_bad_rows allows") as caught:
        run_to_completion(run)
    assert caught.value.code == "too_many_bad_rows"
    return run.rows


def test_a_share_ends_the_batch_once_no_row_to_come_can_mend_it(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    """100 of 1,000 rows: even if all that follow were as short as can be, 100 were more than a hundredth."""
    spec = write_rows(1_000, dict.fromkeys(range(1, 101), "x"), on_bad_row="nan")
    assert fails_after(spec, random_map, 0.01) < 200
    assert fails_after(spec, random_map, 0.0999) == 1_000
    assert run_with(spec, random_map, 0.1).failed_rows == 100


@pytest.mark.parametrize("last", ["", "\n", "\r\n\n"], ids=["no newline", "newline", "blank last line"])
@pytest.mark.parametrize("bad", [1, 29, 99])
def test_the_shortest_rows_that_can_be_are_counted_on(
    tmp_path: Path, random_map: RandomMapUpsampler, bad: int, last: str
) -> None:
    """All bad rows first, and just enough good ones, of a digit a value: not given up before."""
    spec = BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt", "nan", overwrite=True)
    spec.input_path.write_text("x\n" * bad + "\n".join([SHORTEST] * (100 - bad)) + last)
    assert run_with(spec, random_map, bad / 100, chunk_rows=16).failed_rows == bad
    spec.input_path.write_text("x\n" * bad + "\n".join([SHORTEST] * (99 - bad)) + last)
    assert fails_after(spec, random_map, bad / 100) <= 99


def test_a_share_of_packed_text_is_judged_at_its_end(tmp_path: Path, random_map: RandomMapUpsampler) -> None:
    """How many rows will come shows only there."""
    rows = random_rows(1_000)
    rows[:100] = np.nan
    spec = BatchSpec(write_input("gzip", tmp_path, rows), tmp_path / "out.txt", "nan")
    assert fails_after(spec, random_map, 0.05) == 1_000


@pytest.mark.parametrize("kind", ["npy float32", "parquet lists"])
def test_a_share_of_a_known_number_of_rows_is_judged_exactly(
    tmp_path: Path, random_map: RandomMapUpsampler, kind: str
) -> None:
    rows = random_rows(1_000)
    rows[:100] = np.nan
    spec = BatchSpec(write_input(kind, tmp_path, rows), tmp_path / "out.txt", "nan")
    assert fails_after(spec, random_map, 0.0799) == 80
    assert run_with(spec, random_map, 0.1).failed_rows == 100


def test_the_limit_holds_over_a_resumed_batch(tmp_path: Path, random_map: RandomMapUpsampler) -> None:
    rows = random_rows(100)
    rows[[3, 50, 90]] = 0
    save(tmp_path / "in.npy", rows)
    spec = BatchSpec(tmp_path / "in.npy", tmp_path / "out.npy", "nan", max_bad_rows=2)
    with BatchRun(spec, random_map, chunk_rows=16) as run:
        while run.failed_rows < 2:
            assert run.step()
        checkpoint = run.sync()
    with pytest.raises(BadRowError, match=r"row 4: all values are zero.*first of 3 bad rows among 96"):
        run_to_completion(BatchRun(spec, random_map, checkpoint=checkpoint))


def test_when_no_row_is_good_the_limit_or_the_lack_of_one_is_told(
    tmp_path: Path, random_map: RandomMapUpsampler
) -> None:
    (tmp_path / "in.txt").write_bytes(text_of(np.zeros((20, 32))))
    spec = BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt", "nan")
    for limit, code in ((None, "no_good_row"), (50, "no_good_row"), (5, "too_many_bad_rows")):
        with pytest.raises(BadRowError) as caught:
            run_with(spec, random_map, limit)
        assert caught.value.code == code


@pytest.mark.parametrize("limit", [-1, -0.5, 1.5, 100.01, float("nan"), float("inf")])
def test_limits_that_are_neither_a_count_nor_a_share(limit: float) -> None:
    with pytest.raises(InputError, match="expected a whole number or a share between 0 and 1") as caught:
        BatchSpec(Path("in.txt"), Path("out.txt"), "nan", max_bad_rows=limit)
    assert "0.01 one in a hundred" in caught.value.remedy


@pytest.mark.parametrize("limit", [0, 0.5, 3])
def test_a_limit_says_nothing_where_the_first_bad_row_fails_the_batch(limit: float) -> None:
    with pytest.raises(InputError, match="the first bad row fails this batch"):
        BatchSpec(Path("in.txt"), Path("out.txt"), "fail", max_bad_rows=limit)
