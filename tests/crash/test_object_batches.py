"""kill -9 of what writes into a bucket, at random moments: the object has the bytes of a run without one."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from embup_core.object_store import ObjectPath, ObjectStore
from embup_core.object_store.multipart import UploadClient, UploadGoneError
from tests.serving.conftest import random_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from embup_core.upsampler import Upsampler
    from tests.crash.conftest import BatchStatistics, Scale
    from tests.s3 import S3Server
    from tests.serving.conftest import Service

SEED = 20_261_130
ROWS = 8000


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    lines = [",".join(map(str, row)) + "\n" for row in random_rows(ROWS).tolist()]
    lines[5000] = "nothing\n"
    path.write_text("".join(lines))
    return path


@pytest.fixture
def expected(source: Path, upsampler: Upsampler, tmp_path: Path) -> bytes:
    upsampler.upsample_file(source, tmp_path / "out.txt", on_bad_row="nan")
    return (tmp_path / "out.txt").read_bytes()


def open_uploads(s3: S3Server, bucket: str) -> list[str]:
    """Ids of the uploads that wait in the bucket."""
    return re.findall("<UploadId>(.*?)</UploadId>", httpx.get(f"{s3.endpoint}/{bucket[5:]}?uploads").text)


def uploads_with_parts(s3: S3Server, bucket: str) -> list[str]:
    """Those that hold something: a kill in the milliseconds before its id is noted leaves an empty one."""
    path = ObjectPath.parsed(f"{bucket}/out.txt")
    client = UploadClient(path)
    found = []
    for upload_id in open_uploads(s3, bucket):
        with contextlib.suppress(UploadGoneError):  # what the killed process asked for last ends it meanwhile
            if client.parts(path, upload_id):
                found.append(upload_id)
    return found


@pytest.mark.timeout(2400)
def test_the_same_command_goes_on_after_kill_9(
    s3: S3Server,
    registry: Registry,
    source: Path,
    expected: bytes,
    tmp_path: Path,
    scale: Scale,
    statistics: BatchStatistics,
) -> None:
    chance = random.Random(SEED)
    bucket = s3.new_bucket()
    store = ObjectStore(bucket)
    store.upload(source, "in.txt")
    statistics.require("kill -9 of a command", scale.kills)
    command = [sys.executable, "-m", "embup.cli", "upsample", f"{bucket}/in.txt", f"{bucket}/out.txt"]
    command += ["--registry", str(registry.root), "--on-bad-row", "nan"]
    environment = os.environ | {"EMBUP_UPLOADS": str(tmp_path / "uploads")}

    said = tmp_path / "said"

    def run() -> subprocess.Popen[bytes]:
        with said.open("wb") as errors:
            return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)

    parts: list[int] = []
    while statistics["kill -9 of a command"] < scale.kills:
        process = run()
        started = len(s3.requests)
        while len(s3.requests) == started and process.poll() is None:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 2.5))
        if process.poll() is not None:  # it was faster: begin anew
            assert process.returncode == 0
            store.delete(["out.txt", "out.txt.errors.jsonl"])
            statistics.add("runs that ended before their kill")
            continue
        process.kill()
        process.wait()
        statistics.add("kill -9 of a command")
        found = store.find("out.txt")
        assert found is None or found.size_bytes == len(expected)
        assert len(uploads_with_parts(s3, bucket)) <= 1
        if found is not None:  # killed before its notes were removed, or after all was done
            code = run().wait()
            assert code == 0 or (code == 2 and "out.txt exists" in said.read_text()), said.read_text()
            store.delete(["out.txt", "out.txt.errors.jsonl"])
        parts.append(sum(m == "PUT" for m, path, _ in s3.requests[started:] if path.endswith("out.txt")))
    statistics.add("parts sent by killed commands", sum(parts))
    s3.requests.clear()
    assert run().wait() == 0, said.read_text()
    whole = store.read("out.txt", max_bytes=1 << 30)
    assert whole is not None
    assert whole[0] == expected
    assert store.find("out.txt.errors.jsonl") is not None
    assert not uploads_with_parts(s3, bucket)
    statistics.add("empty uploads left by a kill before their note", len(open_uploads(s3, bucket)))
    assert not [path for path in (tmp_path / "uploads").rglob("*") if path.is_file()]


@pytest.mark.timeout(2400)
def test_a_service_goes_on_after_kill_9(
    serve: Callable[..., Service],
    s3: S3Server,
    source: Path,
    expected: bytes,
    scale: Scale,
    statistics: BatchStatistics,
) -> None:
    chance = random.Random(SEED)
    bucket = s3.new_bucket()
    store = ObjectStore(bucket)
    store.upload(source, "in.txt")
    kills = max(2, scale.kills // 4)
    statistics.require("kill -9 of a service", kills)
    service = serve(batch_prefixes=bucket, checkpoint_interval_s=0.2)
    job = service.submit(f"{bucket}/in.txt", f"{bucket}/out.txt", on_bad_row="nan")
    while statistics["kill -9 of a service"] < kills:
        time.sleep(chance.uniform(0.2, 1.2))
        if service.status(job)["phase"] == "COMPLETED":
            store.delete(["out.txt", "out.txt.errors.jsonl"])
            job = service.submit(f"{bucket}/in.txt", f"{bucket}/out.txt", on_bad_row="nan")
        service.restart(signal.SIGKILL)
        statistics.add("kill -9 of a service")
    assert service.final(job)["phase"] == "COMPLETED"
    found = store.read("out.txt", max_bytes=1 << 30)
    assert found is not None
    assert found[0] == expected
    assert not uploads_with_parts(s3, bucket)
    statistics.add("empty uploads left by a kill before their note", len(open_uploads(s3, bucket)))
