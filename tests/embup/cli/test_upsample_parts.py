"""`embup upsample` of a folder: the same bytes on this machine and on Ray, and errors as of a file."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from tests.s3 import S3Server

    Run = Callable[..., subprocess.CompletedProcess[str]]

PARTS = 5


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(PARTS):
        rows = np.random.default_rng(number).standard_normal((100 + number, 32))
        np.save(folder / f"part-{number}.npy", rows.astype(np.float32))
    return folder


def test_ray_writes_the_bytes_of_a_batch_of_each_part(
    embup: Run, registry: Registry, source: Path, tmp_path: Path
) -> None:
    target, where = tmp_path / "out", ("--registry", registry.root)
    options = ("--engine", "ray", "--workers", 2, "--json", *where)
    result = embup("upsample", source, target, *options)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["parts"], answer["rows"]) == (PARTS, 510)
    for part in source.iterdir():
        alone = tmp_path / f"{part.stem}.parquet"
        assert embup("upsample", part, alone, *where).returncode == 0
        assert (target / alone.name).read_bytes() == alone.read_bytes()
    assert json.loads((target / "_MANIFEST.json").read_text())["rows"] == 510
    again = embup("upsample", source, target, *options)
    assert json.loads(again.stdout)["decoded_parts"] == 0


def test_ray_ends_with_the_error_of_a_part_and_resumes(
    embup: Run, registry: Registry, source: Path, tmp_path: Path
) -> None:
    (source / "part-9.txt").write_text("0.5,0.5\n")
    options = ("--engine", "ray", "--workers", 1, "--json", "--registry", registry.root)
    result = embup("upsample", source, tmp_path / "out", *options)
    assert result.returncode == 2
    assert f"{source / 'part-9.txt'}, line 1" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out/_MANIFEST.json").exists()
    (source / "part-9.txt").write_text(",".join(["0.5"] * 32) + "\n")
    answer = json.loads(embup("upsample", source, tmp_path / "out", *options).stdout)
    assert (answer["parts"], answer["rows"], answer["decoded_parts"]) == (PARTS + 1, 511, 1)


def test_this_machine_decodes_a_folder_and_resumes_after_an_interrupt(
    script: Path, embup: Run, registry: Registry, source: Path, tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).standard_normal((20_000, 32))
    np.save(source / "part-8.npy", rows.astype(np.float32))
    target = tmp_path / "out"
    command = [
        *map(str, (script, "upsample", source, target, "--registry", registry.root)),
        "--format",
        "npy",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        deadline_s = time.monotonic() + 60
        while not (target / "_embup/finished/part-4.npy.json").exists() and time.monotonic() < deadline_s:
            time.sleep(0.01)
        child.terminate()
        _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (130, "interrupted\n")
    assert not (target / "_MANIFEST.json").exists()
    result = embup("upsample", source, target, "--format", "npy", "--registry", registry.root)
    assert result.returncode == 0, result.stderr
    assert "6 (1 decoded now)" in result.stdout
    assert {path.name for path in target.iterdir()} == {
        "_MANIFEST.json",
        *(f"part-{number}.npy" for number in (0, 1, 2, 3, 4, 8)),
    }


def test_a_prefix_of_a_bucket_is_decoded_by_several_processes(
    embup: Run, registry: Registry, source: Path, tmp_path: Path, s3: S3Server
) -> None:
    from embup_core.object_store import ObjectStore

    bucket = s3.new_bucket()
    store = ObjectStore(bucket)
    for part in source.iterdir():
        store.upload(part, f"in/{part.name}")
    options = ("--workers", 2, "--format", "npy", "--json", "--registry", registry.root)
    result = embup("upsample", f"{bucket}/in/", f"{bucket}/out/", *options)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["rows"] == 510
    assert embup("upsample", source, tmp_path / "out", *options).returncode == 0
    for path in (tmp_path / "out").glob("*.npy"):
        found = store.read(f"out/{path.name}", max_bytes=1 << 30)
        assert found is not None
        assert found[0] == path.read_bytes()


def test_an_engine_for_folders_is_not_for_a_file(
    embup: Run, registry: Registry, source: Path, tmp_path: Path
) -> None:
    options = ("--engine", "ray", "--registry", registry.root)
    result = embup("upsample", source / "part-0.npy", tmp_path / "out.npy", *options)
    assert result.returncode == 2
    assert "--engine" in result.stderr


def test_a_cluster_that_does_not_answer_is_named(
    embup: Run, registry: Registry, source: Path, tmp_path: Path
) -> None:
    options = ("--engine", "ray", "--address", "127.0.0.1:1", "--registry", registry.root)
    result = embup("upsample", source, tmp_path / "out", *options)
    assert result.returncode == 2, result.stderr
    assert "127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr
