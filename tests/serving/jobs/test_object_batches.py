"""Batches on objects of a real S3 server, by the real service and its worker."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from embup_core.object_store import ObjectPath, ObjectStore
from serving.jobs import checking
from serving.jobs.confinement import Buckets, Confinement
from serving.jobs.model import JobRequest
from serving.pages.console.batch import read_bad_rows
from tests.s3 import KEY_ID, SECRET
from tests.serving.conftest import random_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.upsampler import Upsampler
    from tests.s3 import S3Server
    from tests.serving.conftest import Service


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket()


@pytest.fixture
def service(serve: Callable[..., Service], bucket: str) -> Service:
    return serve(batch_prefixes=f"{bucket}/in,{bucket}/out", checkpoint_interval_s=0.1)


def uploads(s3: S3Server, bucket: str) -> int:
    return httpx.get(f"{s3.endpoint}/{bucket[5:]}?uploads").text.count("<UploadId>")


def put_rows(bucket: str, name: str, folder: Path, rows: int, *, bad: int | None = None) -> Path:
    """Write an input, and upload it."""
    path, z = folder / name, random_rows(rows).astype(np.float32)
    if name.endswith(".parquet"):
        pa.parquet.write_table(pa.table({"embedding": z.tolist()}), path)
    else:
        lines = [",".join(map(str, row)) + "\n" for row in z.tolist()]
        if bad is not None:
            lines[bad] = "x\n"
        path.write_text("".join(lines))
    ObjectStore(bucket).upload(path, f"in/{name}")
    return path


def wait_for_upload(service: Service, s3: S3Server, bucket: str) -> None:
    service.until(lambda: uploads(s3, bucket))


@pytest.mark.parametrize("name", ["in.txt", "in.parquet"])
def test_an_object_becomes_an_object(
    service: Service, bucket: str, upsampler: Upsampler, tmp_path: Path, s3: S3Server, name: str
) -> None:
    source = put_rows(bucket, name, tmp_path, 3500)
    upsampler.upsample_file(source, tmp_path / "out.npy")
    done = service.final(service.submit(f"{bucket}/in/{name}", f"{bucket}/out/a/out.npy", make_parents=True))
    assert (done["phase"], done["num_records_processed"]) == ("COMPLETED", 3500), done
    found = ObjectStore(bucket).read("out/a/out.npy", max_bytes=1 << 30)
    assert found is not None
    assert found[0] == (tmp_path / "out.npy").read_bytes()
    assert uploads(s3, bucket) == 0
    assert not [path for path in (service.data / "uploads").rglob("*") if path.is_file()]
    # One end may be a file.
    done = service.final(service.submit(f"{bucket}/in/{name}", service.data / "out.npy"))
    assert done["phase"] == "COMPLETED"
    assert (service.data / "out.npy").read_bytes() == found[0]


def test_addresses_outside_the_prefixes_are_refused(
    service: Service, serve: Callable[..., Service], bucket: str, tmp_path: Path, s3: S3Server
) -> None:
    source = put_rows(bucket, "in.txt", tmp_path, 10)
    inside = service.write_input("rows.txt", 10)
    s3.requests.clear()
    for given, target, kind in (
        (f"{bucket}/other/in.txt", f"{bucket}/out/o.txt", "bad-input"),
        (f"{bucket}/in/../other/in.txt", f"{bucket}/out/o.txt", "bad-input"),
        (f"{bucket}/in2/in.txt", f"{bucket}/out/o.txt", "bad-input"),
        (str(inside), f"{bucket}/outside/o.txt", "bad-output"),
        (str(inside), "s3://other/out/o.txt", "bad-output"),
        (str(inside), f"{bucket}/out", "bad-output"),
        (str(inside), f"s3://{KEY_ID}:{SECRET}@b/out/o.txt", "bad-output"),
    ):
        answer = service.http.post("/v1/batches", json={"input_filepath": given, "output_filepath": target})
        assert answer.status_code == 422, answer.text
        assert answer.json()["type"].endswith(kind)
        assert SECRET not in answer.text
        assert "EMBUP_BATCH_PREFIXES" in answer.text or "letters" in answer.text
    assert not s3.requests  # nothing was looked at
    closed = serve()
    answer = closed.http.post(
        "/v1/batches", json={"input_filepath": f"{bucket}/in/{source.name}", "output_filepath": "o.txt"}
    )
    assert answer.status_code == 422
    assert "none are allowed" in answer.text


def test_an_existing_output_is_refused(service: Service, bucket: str, tmp_path: Path) -> None:
    put_rows(bucket, "in.txt", tmp_path, 10)
    ObjectStore(bucket).write("out/o.txt", b"mine")
    body = {"input_filepath": f"{bucket}/in/in.txt", "output_filepath": f"{bucket}/out/o.txt"}
    answer = service.http.post("/v1/batches", json=body)
    assert answer.status_code == 422
    assert "exists" in answer.json()["detail"]
    done = service.final(service.submit(*body.values(), overwrite=True))
    assert done["phase"] == "COMPLETED"
    found = ObjectStore(bucket).find("out/o.txt")
    assert found is not None
    assert found.size_bytes == 10 * 1536 * 12


def test_a_cancelled_batch_leaves_no_upload(
    service: Service, bucket: str, tmp_path: Path, s3: S3Server
) -> None:
    put_rows(bucket, "in.txt", tmp_path, 12_000)
    job = service.submit(f"{bucket}/in/in.txt", f"{bucket}/out/o.txt")
    wait_for_upload(service, s3, bucket)
    time.sleep(0.5)
    assert service.http.post(f"/v1/batches/{job}/cancel").status_code in {200, 202}
    assert service.final(job)["phase"] == "CANCELLED"
    assert uploads(s3, bucket) == 0
    assert ObjectStore(bucket).find("out/o.txt") is None


def test_a_changed_input_fails_the_batch(service: Service, bucket: str, tmp_path: Path, s3: S3Server) -> None:
    source = put_rows(bucket, "in.txt", tmp_path, 12_000)
    job = service.submit(f"{bucket}/in/in.txt", f"{bucket}/out/o.txt")
    wait_for_upload(service, s3, bucket)
    ObjectStore(bucket).write("in/in.txt", source.read_bytes() + b"1\n")
    done = service.final(job)
    assert (done["phase"], done["error"]["code"]) == ("FAILED", "input_changed"), done
    assert uploads(s3, bucket) == 0
    assert ObjectStore(bucket).find("out/o.txt") is None


def test_a_bad_row_fails_the_batch_or_is_reported(
    service: Service, bucket: str, tmp_path: Path, s3: S3Server
) -> None:
    put_rows(bucket, "in.txt", tmp_path, 600, bad=500)
    done = service.final(service.submit(f"{bucket}/in/in.txt", f"{bucket}/out/o.txt"))
    assert (done["phase"], done["error"]["line"]) == ("FAILED", 501)
    assert uploads(s3, bucket) == 0
    done = service.final(service.submit(f"{bucket}/in/in.txt", f"{bucket}/out/o.txt", on_bad_row="nan"))
    assert (done["phase"], done["failed_rows"]) == ("COMPLETED", 1)
    report = ObjectStore(bucket).read("out/o.txt.errors.jsonl", max_bytes=1000)
    assert report is not None
    assert b'"line":501' in report[0]
    path = ObjectPath.parsed(f"{bucket}/out/o.txt.errors.jsonl")
    confinement = Confinement([], buckets=Buckets((bucket,), ""))
    assert [one.line for one in read_bad_rows(confinement, path)] == [501]  # as the console does


def test_a_batch_waits_for_a_store_that_does_not_answer(
    service: Service, bucket: str, tmp_path: Path, s3: S3Server, upsampler: Upsampler
) -> None:
    source = put_rows(bucket, "in.txt", tmp_path, 6000)
    upsampler.upsample_file(source, tmp_path / "out.txt")
    job = service.submit(f"{bucket}/in/in.txt", f"{bucket}/out/o.txt")
    wait_for_upload(service, s3, bucket)
    with s3.failing("unavailable"):
        service.until(
            lambda: "does not answer" in (text := service.log.read_text()) or "not available" in text
        )
        assert service.status(job)["phase"] in {"RUNNING", "FINALIZING"}
    done = service.final(job)
    assert (done["phase"], done["num_records_processed"]) == ("COMPLETED", 6000), done
    found = ObjectStore(bucket).read("out/o.txt", max_bytes=1 << 30)
    assert found is not None
    assert found[0] == (tmp_path / "out.txt").read_bytes()
    assert uploads(s3, bucket) == 0


@pytest.mark.slow
def test_a_batch_published_during_an_outage_is_complete(
    service: Service, bucket: str, tmp_path: Path, s3: S3Server
) -> None:
    put_rows(bucket, "in.txt", tmp_path, 3000)
    job = service.submit(f"{bucket}/in/in.txt", f"{bucket}/out/o.txt")
    wait_for_upload(service, s3, bucket)
    with s3.failing("lost answer", method="POST"):
        service.until(lambda: ObjectStore(bucket).find("out/o.txt"))
    with s3.failing("unavailable"):
        service.until(lambda: "retrying" in service.log.read_text())
    assert service.final(job)["phase"] == "COMPLETED"


def test_the_look_apart_bears_many_cores_and_gets_no_needless_credentials(
    bucket: str, tmp_path: Path, upsampler: Upsampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_rows(bucket, "in.parquet", tmp_path, 100)
    monkeypatch.setenv("TOKIO_WORKER_THREADS", "64")  # as on a machine of 64 cores
    monkeypatch.setattr(checking, "INHERITED", (*checking.INHERITED, "TOKIO_WORKER_THREADS"))
    confinement = Confinement([], buckets=Buckets((bucket,), str(tmp_path / "uploads")))
    request = JobRequest(f"{bucket}/in/in.parquet", f"{bucket}/out/out.npy")
    assert checking.check_job(request, upsampler, confinement) > 0
    assert not list((tmp_path / "uploads").iterdir())  # a look makes no folder for an output
    monkeypatch.setenv("https_proxy", "http://localhost:9")
    for objects in (True, False):
        given = checking._environment(objects=objects)
        assert ("AWS_SECRET_ACCESS_KEY" in given, "https_proxy" in given) == (objects, objects)


def test_a_batch_that_goes_on_keeps_to_the_prefixes(
    service: Service, bucket: str, tmp_path: Path, s3: S3Server
) -> None:
    put_rows(bucket, "in.txt", tmp_path, 6000)
    job = service.submit(f"{bucket}/in/in.txt", f"{bucket}/out/o.txt")
    wait_for_upload(service, s3, bucket)
    service.restart_with(batch_prefixes=f"{bucket}/out")
    done = service.final(job)
    assert (done["phase"], done["error"]["code"]) == ("FAILED", "input_unusable"), done
    assert uploads(s3, bucket) == 0


@pytest.mark.slow
def test_an_upload_that_an_outage_leaves_is_aborted_later(
    service: Service, bucket: str, tmp_path: Path, s3: S3Server
) -> None:
    put_rows(bucket, "in.txt", tmp_path, 12_000)
    job = service.submit(f"{bucket}/in/in.txt", f"{bucket}/out/o.txt")
    wait_for_upload(service, s3, bucket)
    with s3.failing("unavailable"):
        service.http.post(f"/v1/batches/{job}/cancel")
        assert service.final(job)["phase"] == "CANCELLED"
        service.until(lambda: "stays behind" in service.log.read_text())
    put_rows(bucket, "few.txt", tmp_path, 10)
    assert (
        service.final(service.submit(f"{bucket}/in/few.txt", f"{bucket}/out/few.txt"))["phase"] == "COMPLETED"
    )
    assert uploads(s3, bucket) == 0
    service.restart_with()
    service.until(lambda: not list((service.data / "uploads").iterdir()))
