"""Formats of batch files over HTTP: told by the ending, answered as text is, refused when unusable."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embup_core.errors import InputFileError
from serving.jobs import checking
from serving.jobs.confinement import Confinement
from serving.jobs.model import JobRequest

if TYPE_CHECKING:
    from collections.abc import Callable

COUNT = 300
BAD = 417 % COUNT


@pytest.fixture(scope="module")
def answered(shared_service: Any, rows: Callable[..., Any]) -> tuple[Any, bytes]:
    """Rows with a bad one, and the text that answers them."""
    z = rows(COUNT, seed=5)
    z[BAD - 1, 2] = np.nan
    source = shared_service.data / "formats.txt"
    source.write_bytes(as_text(z))
    target = shared_service.data / "formats.out.txt"
    final = shared_service.final(shared_service.submit(source, target, on_bad_row="nan"))
    assert (final["status"], final["failed_rows"]) == ("COMPLETED", 1)
    return z, target.read_bytes()


def as_text(z: Any) -> bytes:
    return b"".join(",".join(f"{value:.8f}" for value in row).encode() + b"\n" for row in z)


def write_zst(path: Path, z: Any) -> None:
    with pa.OSFile(str(path), "wb") as file, pa.CompressedOutputStream(file, "zstd") as packed:
        packed.write(as_text(z))


def write_parquet(path: Path, z: Any) -> None:
    pq.write_table(pa.table({"z": pa.array(z.tolist(), pa.list_(pa.float64()))}), path)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("formats.txt.gz", lambda path, z: path.write_bytes(gzip.compress(as_text(z)))),
        ("formats.csv.zst", write_zst),
        ("formats.npy", np.save),
        ("formats.parquet", write_parquet),
    ],
    ids=["gz", "zst", "npy", "parquet"],
)
def test_an_input_of_any_format_is_answered_as_text_is(
    shared_service: Any, answered: tuple[Any, bytes], name: str, write: Callable[..., Any]
) -> None:
    z, expected = answered
    write(shared_service.data / name, z)
    job = shared_service.submit(name, f"{name}.out.txt", on_bad_row="nan")
    final = shared_service.final(job)
    assert (final["status"], final["num_records_processed"], final["failed_rows"]) == ("COMPLETED", COUNT, 1)
    assert final["bytes_done"] == final["bytes_total"] == (shared_service.data / name).stat().st_size
    assert final["percent"] == 100.0
    assert (shared_service.data / f"{name}.out.txt").read_bytes() == expected
    report = (shared_service.data / f"{name}.out.txt.errors.jsonl").read_text()
    assert report.startswith(f'{{"line":{BAD},"reason":"value 3: nan is not finite","raw":')


@pytest.mark.parametrize("name", ["formats.out.npy", "formats.out.parquet"])
def test_an_output_of_any_format_holds_what_the_text_does(
    shared_service: Any, answered: tuple[Any, bytes], output_of: Callable[..., Any], name: str
) -> None:
    job = shared_service.submit("formats.txt", name, on_bad_row="nan")
    final = shared_service.final(job)
    assert (final["status"], final["num_records_processed"], final["failed_rows"]) == ("COMPLETED", COUNT, 1)
    path = shared_service.data / name
    if name.endswith(".npy"):
        found = np.load(path, mmap_mode="r")
    else:
        found = pq.read_table(path)["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 1536)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, output_of(shared_service.data / "formats.out.txt"), atol=6e-9)
    assert {one.name for one in shared_service.data.glob(f"{name}.*")} == {f"{name}.errors.jsonl"}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("broken.txt.gz", b"0.1,0.2\n", "expected gzip data"),
        ("broken.txt.zst", b"0.1,0.2\n", "expected Zstandard data"),
        ("broken.npy", b"0.1,0.2\n", "expected a NumPy file"),
        ("broken.parquet", b"0.1,0.2\n", "expected a whole Parquet file"),
    ],
    ids=["gz", "zst", "npy", "parquet"],
)
def test_an_input_that_is_not_what_its_ending_says_is_refused_at_once(
    shared_service: Any, check: Callable[..., dict[str, Any]], name: str, content: bytes, said: str
) -> None:
    (shared_service.data / name).write_bytes(content)
    wanted = {"input_filepath": name, "output_filepath": f"{name}.out.txt"}
    problem = check(shared_service.http.post("/v1/batches", json=wanted), 422)
    assert said in problem["detail"]
    assert name in problem["detail"]
    assert problem["remedy"]


def test_a_compressed_output_is_refused_at_once(
    shared_service: Any, answered: tuple[Any, bytes], check: Callable[..., dict[str, Any]]
) -> None:
    wanted = {"input_filepath": "formats.txt", "output_filepath": "formats.out.gz", "on_bad_row": "nan"}
    problem = check(shared_service.http.post("/v1/batches", json=wanted), 422)
    assert "outputs are not compressed" in problem["detail"]


def test_a_truncated_input_fails_its_batch_with_a_code(shared_service: Any, rows: Callable[..., Any]) -> None:
    path = shared_service.data / "truncated.txt.gz"
    packed = gzip.compress(as_text(rows(20_000)))
    path.write_bytes(packed[:-100_000])  # farther than what is looked at at once
    final = shared_service.final(shared_service.submit(path, "truncated.out.npy"))
    assert (final["status"], final["error"]["code"]) == ("FAILED", "input_unusable")
    assert "is cut off: its gzip data end in the middle" in final["error"]["detail"]
    assert not list(shared_service.data.glob("truncated.out.*"))


# One list of 150,000,000 zeros, which Arrow would need 2 GB for; making it takes as much.
BOMB = base64.b64decode(
    "UEFSMRUEFQgVGkwVAhUAEgAAKLUv/SAEIQAAAAAAABUAFToVTCwVgMaGjwEVEBUGFQYcGAQAAAAAGAQAAACAFgAoBAAAAAAY"
    "BAAAAIAREQAAACi1L/0gHekAAAgAAAAD/vDFho8BAQYAAACAxoaPAQMBgMaGjwEAFQQZTDUAGAZzY2hlbWEVAgA1AhgBehUC"
    "FQZMPAAAADUEGARsaXN0FQIAFQglAhgHZWxlbWVudAAWAhkcGRwmABwVCBk1AAYQGTgBegRsaXN0B2VsZW1lbnQVDBaAxoaP"
    "ARbEARboASY+JggcGAQAAAAAGAQAAACAFgAoBAAAAAAYBAAAAIAREQAZLBUEFQAVAgAVABUQFQIAPCkmAv7Fho8BGUYAAACA"
    "xoaPAQAAABbEARYCJggW6AEAKCBwYXJxdWV0LWNwcC1hcnJvdyB2ZXJzaW9uIDI2LjAuMRkcHAAAAOIAAABQQVIx"
)


def peak_bytes(service: Any) -> int:
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is bounded on Linux")
def test_a_small_parquet_file_that_stands_for_gigabytes_does_not_fill_the_service(
    serve: Callable[..., Any], rows: Callable[..., Any], check: Callable[..., dict[str, Any]]
) -> None:
    service = serve()
    (service.data / "bomb.parquet").write_bytes(BOMB)
    before = peak_bytes(service)
    wanted = {"input_filepath": "bomb.parquet", "output_filepath": "bomb.out.txt", "on_bad_row": "nan"}
    problem = check(service.http.post("/v1/batches", json=wanted), 422)
    assert problem["type"] == "/problems/bad-input", problem
    assert peak_bytes(service) - before < 100 << 20
    write_parquet(service.data / "good.parquet", rows(10))
    service.submit("good.parquet", "good.txt")


def test_a_gzip_head_without_an_end_is_given_up(
    shared_service: Any, upsampler: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name alone takes Python some microseconds a byte, and holds up whoever reads it."""
    path = shared_service.data / "endless.gz"
    path.write_bytes(b"\x1f\x8b\x08\x08" + bytes(5) + b"\x03" + b"a" * 5_000_000)
    monkeypatch.setattr(checking, "DEADLINE_S", 1.5)
    confinement = Confinement([])
    confinement.open([shared_service.data])
    with pytest.raises(InputFileError, match="more memory or time"):
        checking.check_job(JobRequest(str(path), str(path.with_suffix(".txt"))), upsampler, confinement)
    confinement.close()
