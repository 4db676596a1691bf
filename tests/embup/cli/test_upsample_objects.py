"""`embup upsample` on objects of a real S3 server: the bytes of a local run, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from embup_core.errors import InvalidArgumentError, ObjectChangedError, OutputError
from embup_core.object_store import ObjectPath, ObjectStore
from embup_core.object_store.multipart import UploadClient
from tests.s3 import KEY_ID, SECRET
from tests.serving.conftest import random_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from embup_core.upsampler import Upsampler
    from tests.s3 import S3Server

COMMAND = (sys.executable, "-m", "embup.cli", "upsample")
ROWS = 3000
MANY_ROWS = 30_000  # so many that a look finds the command at work
PART_BYTES = 16 << 20


class Bucket:
    """A bucket, and a command line that is to work on it."""

    def __init__(self, s3: S3Server, registry: Registry, folder: Path) -> None:
        self.address = s3.new_bucket()
        self.store = ObjectStore(self.address)
        self._endpoint = s3.endpoint
        self.uploads = folder / "uploads"
        self._registry = registry.root

    def start(self, source: str, target: str, *more: str) -> subprocess.Popen[str]:
        """Start the command."""
        return subprocess.Popen(
            [*COMMAND, source, target, *more, "--registry", str(self._registry)],
            env=os.environ | {"EMBUP_UPLOADS": str(self.uploads)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, source: str, target: str, *more: str, code: int = 0) -> str:
        """Run it; give what it wrote."""
        process = self.start(source, target, *more)
        written = "".join(process.communicate(timeout=60))
        assert process.returncode == code, written
        return written

    def open_uploads(self) -> int:
        """How many uploads in parts wait in the bucket."""
        return httpx.get(f"{self._endpoint}/{self.address[5:]}?uploads").text.count("<UploadId>")

    def require_nothing_left(self) -> None:
        """No upload, and no local file."""
        assert self.open_uploads() == 0
        assert not [path for path in self.uploads.rglob("*") if path.is_file()]


@pytest.fixture
def bucket(s3: S3Server, registry: Registry, tmp_path: Path) -> Bucket:
    return Bucket(s3, registry, tmp_path)


@pytest.fixture
def write_input(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, rows: int = ROWS, bad: tuple[int, ...] = ()) -> Path:
        z, path = random_rows(rows).astype(np.float32), tmp_path / name
        if name.endswith(".npy"):
            np.save(path, z)
        elif name.endswith(".parquet"):
            pa.parquet.write_table(pa.table({"embedding": z.tolist()}), path)
        else:
            lines = [",".join(map(str, row)) for row in z.tolist()]
            for row in bad:
                lines[row] = "x,y"
            path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.mark.parametrize(
    ("name", "output"),
    [("in.txt", "out.npy"), ("in.npy", "out.txt"), ("in.parquet", "out.parquet"), ("in.txt.gz", "out.npy")],
)
def test_the_object_has_the_bytes_of_a_local_run(
    bucket: Bucket,
    write_input: Callable[..., Path],
    upsampler: Upsampler,
    tmp_path: Path,
    name: str,
    output: str,
) -> None:
    source = write_input(name.removesuffix(".gz"))
    if name.endswith(".gz"):
        subprocess.run(["gzip", str(source)], check=True)
        source = tmp_path / name
    bucket.store.upload(source, f"in/{name}")
    expected = tmp_path / output
    upsampler.upsample_file(source, expected)
    address = f"{bucket.address}/out/{output}"
    assert address in bucket.run(f"{bucket.address}/in/{name}", address)
    found = bucket.store.find(f"out/{output}")
    assert found is not None
    assert found.size_bytes == expected.stat().st_size > PART_BYTES
    bucket.store.download(found, tmp_path / "found")
    assert (tmp_path / "found").read_bytes() == expected.read_bytes()
    bucket.require_nothing_left()


@pytest.mark.parametrize("target", ["out/", "out"])
def test_an_address_that_may_lack_its_slash_is_named(
    bucket: Bucket, write_input: Callable[..., Path], target: str
) -> None:
    bucket.store.upload(write_input("in.npy", 3), "in/part.npy")
    address = f"{bucket.address}/in"
    assert f"add a slash: {address}/" in bucket.run(address, f"{bucket.address}/{target}", code=2)
    bucket.run(f"{address}/", f"{bucket.address}/{target}")


def test_one_end_may_be_a_file(
    bucket: Bucket, write_input: Callable[..., Path], upsampler: Upsampler, tmp_path: Path
) -> None:
    source = write_input("in.npy", 300)
    bucket.store.upload(source, "in.npy")
    upsampler.upsample_file(source, tmp_path / "expected.npy")
    bucket.run(f"{bucket.address}/in.npy", str(tmp_path / "out.npy"))
    assert (tmp_path / "out.npy").read_bytes() == (tmp_path / "expected.npy").read_bytes()
    bucket.run(str(source), f"{bucket.address}/out.npy")
    found = bucket.store.read("out.npy", max_bytes=1 << 30)
    assert found is not None
    assert found[0] == (tmp_path / "expected.npy").read_bytes()


def test_an_object_is_not_overwritten_unless_asked(
    bucket: Bucket, write_input: Callable[..., Path], s3: S3Server
) -> None:
    bucket.store.write("out.npy", b"mine")
    source, target = str(write_input("in.npy", 200)), f"{bucket.address}/out.npy"
    s3.requests.clear()
    assert "exists" in bucket.run(source, target, code=2)
    assert {method for method, *_ in s3.requests} <= {"HEAD", "GET"}
    assert bucket.store.read("out.npy", max_bytes=10) is not None
    bucket.run(source, target, "--overwrite")
    found = bucket.store.find("out.npy")
    assert found is not None
    assert found.size_bytes == 128 + 200 * 1536 * 4


def test_what_appears_meanwhile_is_not_overwritten_either(bucket: Bucket) -> None:
    path = ObjectPath.parsed(f"{bucket.address}/out.npy")
    client = UploadClient(path)
    upload_id = client.start(path, "token")
    etags = {1: client.put_part(path, upload_id, 1, b"a part")}
    bucket.store.write("out.npy", b"theirs")
    with pytest.raises(ObjectChangedError):
        client.complete(path, upload_id, etags, overwrite=False)
    assert bucket.store.read("out.npy", max_bytes=10) is not None
    client.complete(path, upload_id, etags, overwrite=True)
    found = client.find(path)
    assert found is not None
    assert (found.size_bytes, found.token) == (6, "token")


def test_nothing_is_at_the_key_before_the_object_is_whole(
    bucket: Bucket, write_input: Callable[..., Path]
) -> None:
    process = bucket.start(str(write_input("in.npy", MANY_ROWS)), f"{bucket.address}/out.npy")
    looks = 0
    while process.poll() is None:
        found = bucket.store.find("out.npy")
        if found is not None:
            assert found.size_bytes == 128 + MANY_ROWS * 1536 * 4
            break
        looks += bucket.open_uploads()
        time.sleep(0.02)
    assert looks > 10  # while the upload was there
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_an_input_that_changes_ends_the_run_and_leaves_nothing(
    bucket: Bucket, write_input: Callable[..., Path]
) -> None:
    source = write_input("in.txt", MANY_ROWS)
    bucket.store.upload(source, "in.txt")
    process = bucket.start(f"{bucket.address}/in.txt", f"{bucket.address}/out.npy")
    while not bucket.open_uploads():
        assert process.poll() is None
        time.sleep(0.01)
    bucket.store.write("in.txt", source.read_bytes()[::-1])
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "input changed" in error
    assert bucket.store.find("out.npy") is None
    bucket.require_nothing_left()


def test_bad_rows_are_reported_beside_the_output(
    bucket: Bucket, write_input: Callable[..., Path], upsampler: Upsampler, tmp_path: Path
) -> None:
    source = write_input("in.txt", 500, bad=(3, 400))
    bucket.store.upload(source, "in.txt")
    bucket.run(f"{bucket.address}/in.txt", f"{bucket.address}/out.npy", "--on-bad-row", "nan")
    upsampler.upsample_file(source, tmp_path / "out.npy", on_bad_row="nan")
    for name in ("out.npy", "out.npy.errors.jsonl"):
        found = bucket.store.read(name, max_bytes=1 << 30)
        assert found is not None
        assert found[0] == (tmp_path / name).read_bytes()
    assert "line 4" in bucket.run(f"{bucket.address}/in.txt", f"{bucket.address}/other.npy", code=2)
    assert bucket.store.find("other.npy") is None
    bucket.require_nothing_left()


def test_errors_say_what_to_do_and_no_secret(
    bucket: Bucket, write_input: Callable[..., Path], s3: S3Server, upsampler: Upsampler
) -> None:
    source = str(write_input("in.npy", 200))
    assert "does not exist" in bucket.run(f"{bucket.address}/none.npy", f"{bucket.address}/out.npy", code=2)
    assert "no such bucket" in bucket.run(source, "s3://nobodys/out.npy", code=2)
    assert "expected an output in s3://" in bucket.run(source, "gs://b/out.npy", code=2)
    with s3.failing("denied", method="POST"):
        written = bucket.run(source, f"{bucket.address}/out.npy", code=2)
    assert "may not do that" in written
    assert KEY_ID not in written
    assert SECRET not in written
    bucket.require_nothing_left()
    for wrong in ("s3://b", "s3://user:word@b/out.npy", "s3://b/../out.npy", "s3://b/o.npy?word=1"):
        with pytest.raises(InvalidArgumentError) as caught:
            upsampler.upsample_file(source, wrong)
        assert "word" not in str(caught.value)
    bucket.store.upload(write_input("in.npy", 200), "same.npy")
    with pytest.raises(OutputError, match="is the input itself"):
        upsampler.upsample_file(f"{bucket.address}/same.npy", f"{bucket.address}/same.npy", overwrite=True)
