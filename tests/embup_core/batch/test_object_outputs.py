"""Outputs in a bucket: their parts, their room on the local disk, and what becomes of a cut-off run."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet
import pytest
from threadpoolctl import threadpool_limits

from embup_core.batch import BatchRun, BatchSpec, check_request, finish_publication, remove_part_files
from embup_core.batch import run as run_module
from embup_core.batch.outputs import object_output
from embup_core.batch.outputs.object_output import PART_BYTES, part_range
from embup_core.batch.upload_runs import KeptCheckpoint
from embup_core.batch.workers.pool import WorkerPool
from embup_core.errors import InputFileError, JobConflictError, OutputError
from embup_core.object_store import ObjectPath, ObjectStore
from embup_core.object_store.multipart import UploadClient
from tests.serving.conftest import random_rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.upsampler import Upsampler
    from tests.s3 import S3Server

ROWS = 6000  # 37 MB: two whole parts and a rest


@pytest.fixture(autouse=True)
def _one_math_thread() -> Iterator[None]:
    with threadpool_limits(1):  # as in a command and a worker: bytes are compared
        yield


@pytest.fixture
def spec(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BatchSpec:
    monkeypatch.setenv("EMBUP_UPLOADS", str(tmp_path / "uploads"))
    np.save(tmp_path / "in.npy", random_rows(ROWS).astype(np.float32))
    return BatchSpec(tmp_path / "in.npy", ObjectPath.parsed(f"{s3.new_bucket()}/a/out.npy"))


def files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]


def test_parts_follow_each_other_and_hold_a_large_object() -> None:
    assert part_range(1) == (0, PART_BYTES)
    for number in (1, 2, 999, 1000, 1001, 2000, 2001, 9999):
        assert part_range(number)[1] == part_range(number + 1)[0]
        start, end = part_range(number)
        assert PART_BYTES <= end - start <= 10 * PART_BYTES
    assert part_range(10_000)[1] == 55 * 1000 * PART_BYTES
    assert part_range(10_000)[1] >> 30 == 859


def test_an_output_that_no_object_takes_is_refused_at_once(
    spec: BatchSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_output, "_MOST_PARTS", 2)
    with pytest.raises(OutputError, match="expected at most 0 GiB"):
        check_request(spec, input_dims=np.load(spec.input_path).shape[1], output_dims=1536)


def test_parts_that_were_sent_take_no_room(spec: BatchSpec, upsampler: Upsampler, tmp_path: Path) -> None:
    with BatchRun(spec, upsampler) as run:
        while run.step():
            pass
        checkpoint = run.sync()
        run.kept(checkpoint.uploaded_parts)
        assert checkpoint.uploaded_parts == 1  # the first stays, the last is not whole
        grown = next(path for path in files(tmp_path) if path.name == "out.npy.part").stat()
        assert grown.st_size == checkpoint.output_bytes > 2 * PART_BYTES
        assert grown.st_blocks * 512 <= grown.st_size - PART_BYTES + 65_536
        run.publish()
    assert not files(tmp_path)


def test_a_publication_that_was_cut_off_is_recognised_by_its_token(
    spec: BatchSpec, upsampler: Upsampler
) -> None:
    with BatchRun(spec, upsampler) as run:
        while run.step():
            pass
        checkpoint = run.sync()
        assert not finish_publication(spec, checkpoint)
        run.publish()
    assert finish_publication(spec, checkpoint)
    store = ObjectStore(str(spec.output_path.parent))
    store.write("out.npy", b"theirs")
    assert not finish_publication(spec, checkpoint)


def test_a_run_does_not_go_on_without_its_upload(
    spec: BatchSpec, upsampler: Upsampler, tmp_path: Path
) -> None:
    assert isinstance(spec.output_path, ObjectPath)
    with BatchRun(spec, upsampler) as run:
        for _ in range(20):
            run.step()
        checkpoint = run.sync()
        with pytest.raises(JobConflictError):
            BatchRun(spec, upsampler, checkpoint=checkpoint)
    BatchRun(spec, upsampler, checkpoint=checkpoint).close()
    UploadClient(spec.output_path).abort(spec.output_path, checkpoint.upload_id)
    with pytest.raises(OutputError, match="is gone from the store"):
        BatchRun(spec, upsampler, checkpoint=checkpoint)
    remove_part_files(spec, checkpoint)
    assert not files(tmp_path)


def test_a_call_that_the_store_refused_goes_on_when_it_is_made_again(
    spec: BatchSpec, upsampler: Upsampler, s3: S3Server, tmp_path: Path
) -> None:
    with (
        s3.failing("denied", method="PUT", path="out.npy"),
        pytest.raises(OutputError, match="may not do that"),
    ):
        upsampler.upsample_file(spec.input_path, spec.output_path)
    assert {path.name for path in files(tmp_path)} >= {"out.npy.part", "out.npy.upload"}
    done = upsampler.upsample_file(spec.input_path, spec.output_path)
    assert done.output_bytes == 128 + ROWS * 1536 * 4
    upsampler.upsample_file(spec.input_path, tmp_path / "local.npy")
    found = ObjectStore(str(spec.output_path.parent)).read("out.npy", max_bytes=1 << 30)
    assert found is not None
    assert found[0] == (tmp_path / "local.npy").read_bytes()
    assert not files(tmp_path)
    with pytest.raises(OutputError, match="exists"):
        upsampler.upsample_file(spec.input_path, spec.output_path)


def whole(spec: BatchSpec) -> bytes:
    """Content of the output."""
    found = ObjectStore(str(spec.output_path.parent)).read(spec.output_path.name, max_bytes=1 << 30)
    assert found is not None
    return found[0]


def publish(run: BatchRun) -> None:
    while run.step():
        pass
    run.publish()


def test_a_conversion_that_starts_again_relies_on_no_part(
    spec: BatchSpec, upsampler: Upsampler, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_output, "PART_BYTES", 5 << 20)  # S3's least
    spec = replace(spec, output_path=spec.output_path.with_suffix(".parquet"))
    s3.requests.clear()
    with BatchRun(spec, upsampler) as run:
        while run.step() and (run._files.converted is None or run._files.converted.size_bytes < 18 << 20):
            pass
        checkpoint = run.sync()
        assert not checkpoint.complete
        assert [1 for method, path, _ in s3.requests if method == "PUT" and path.endswith("out.parquet")]
        run.kept(checkpoint.uploaded_parts)
    kind = pyarrow.parquet.ParquetWriter

    def other_release(*given: Any, **named: Any) -> Any:
        return kind(*given, **(named | {"data_page_size": 4096, "write_statistics": False}))

    monkeypatch.setattr(pyarrow.parquet, "ParquetWriter", other_release)
    with BatchRun(spec, upsampler, checkpoint=checkpoint) as run:
        publish(run)
    upsampler.upsample_file(spec.input_path, tmp_path / "local.parquet")
    assert whole(spec) == (tmp_path / "local.parquet").read_bytes()


def test_a_run_relies_on_no_part_beyond_its_checkpoint(
    spec: BatchSpec, upsampler: Upsampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(spec.output_path, ObjectPath)
    monkeypatch.setattr(object_output, "PART_BYTES", 5 << 20)  # S3's least
    with BatchRun(spec, upsampler) as run:
        for _ in range(20):
            run.step()
        checkpoint = run.sync()
        run.kept(checkpoint.uploaded_parts)
        for _ in range(20):
            run.step()
        lost = run.sync()  # its process ends before it is kept
    assert 0 < checkpoint.uploaded_parts < lost.uploaded_parts
    client = UploadClient(spec.output_path)
    for number in range(checkpoint.uploaded_parts + 2, lost.uploaded_parts + 2):  # as of another release
        client.put_part(spec.output_path, checkpoint.upload_id, number, bytes(5 << 20))
    with BatchRun(spec, upsampler, checkpoint=checkpoint) as run:
        publish(run)
    upsampler.upsample_file(spec.input_path, tmp_path / "local.npy")
    assert whole(spec) == (tmp_path / "local.npy").read_bytes()


@pytest.mark.parametrize("by_the_run", [True, False])
def test_a_batch_that_is_not_published_leaves_no_report(
    spec: BatchSpec, upsampler: Upsampler, s3: S3Server, by_the_run: bool
) -> None:
    rows = np.load(spec.input_path)
    rows[3] = np.nan
    np.save(spec.input_path, rows[:50])
    spec = replace(spec, on_bad_row="nan")
    store = ObjectStore(str(spec.output_path.parent))
    with BatchRun(spec, upsampler) as run:
        while run.step():
            pass
        checkpoint = run.sync()
        with (
            s3.failing("denied", method="POST", path="out.npy"),
            pytest.raises(OutputError, match="may not do that"),
        ):
            run.publish()
        assert store.find("out.npy.errors.jsonl") is not None
        if by_the_run:
            run.abort()
    remove_part_files(spec, checkpoint)
    assert not store.objects()
    with BatchRun(spec, upsampler) as run:
        publish(run)
    remove_part_files(spec, checkpoint)
    assert len(store.objects()) == 2


def test_removing_a_live_run_does_not_touch_its_upload(spec: BatchSpec, upsampler: Upsampler) -> None:
    with BatchRun(spec, upsampler) as run:
        while run.step():
            pass
        with pytest.raises(JobConflictError):
            remove_part_files(spec)
        run.publish()
        assert run.published


def test_outputs_whose_names_resemble_each_other_grow_side_by_side(
    spec: BatchSpec, upsampler: Upsampler
) -> None:
    names = ("out", "out.upload", "out.checkpoint")
    specs = [replace(spec, output_path=spec.output_path.with_name(name)) for name in names]
    np.save(spec.input_path, np.load(spec.input_path)[:100])
    runs = [BatchRun(one, upsampler) for one in specs]
    for one, run in zip(specs, runs, strict=True):
        publish(run)
        assert whole(one)


def test_a_profile_of_files_that_are_not_read_does_no_harm(
    spec: BatchSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(spec.output_path, ObjectPath)
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert UploadClient(spec.output_path).find(spec.output_path) is None


def test_an_object_in_fortran_order_is_refused(spec: BatchSpec, upsampler: Upsampler) -> None:
    np.save(spec.input_path, np.asfortranarray(np.load(spec.input_path)[:100]))
    store = ObjectStore(str(spec.output_path.parent))
    store.upload(spec.input_path, "in.npy")
    with pytest.raises(InputFileError, match="Fortran order") as refused:
        BatchRun(replace(spec, input_path=spec.output_path.with_name("in.npy")), upsampler)
    assert "ascontiguousarray" in refused.value.remedy


def test_helpers_are_forked_before_an_object_is_opened(
    spec: BatchSpec, upsampler: Upsampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    ObjectStore(str(spec.output_path.parent)).upload(spec.input_path, "in.npy")
    spec = replace(spec, input_path=spec.output_path.with_name("in.npy"))
    names: list[str] = []

    class Noting(WorkerPool):
        def __init__(self, *given: Any, **named: Any) -> None:
            names.extend(thread.name for thread in threading.enumerate())
            super().__init__(*given, **named)

    monkeypatch.setattr(run_module, "WorkerPool", Noting)
    with BatchRun(spec, upsampler, workers=1) as run:
        publish(run)
    assert names
    assert not [name for name in names if name.startswith("object-input")]


def test_a_call_that_cannot_go_on_from_another_batch_says_so(spec: BatchSpec, upsampler: Upsampler) -> None:
    with BatchRun(spec, upsampler) as run:
        KeptCheckpoint(spec, upsampler).keep(run.sync())
    done = upsampler.upsample_file(spec.input_path, spec.output_path, on_bad_row="nan")
    assert "earlier run" in done.notices[0]
