"""What a call leaves alone: results that it cannot replace, files of others, outputs of another run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import numpy as np
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.batch.parts import upsample_parts, work
from embup_core.batch.parts.place import FolderPlace, StorePlace, open_place
from embup_core.batch.parts.plan import MANIFEST, Plan, from_json, to_json
from embup_core.batch.parts.run import PartsRun, new_id
from embup_core.batch.parts.work import PLAN, PartWork
from embup_core.errors import (
    ArtifactError,
    BadRowError,
    InputError,
    InputFileError,
    JobConflictError,
    NoAnchorsError,
    OutputError,
)
from tests.embup_core.batch.parts.conftest import KilledError, killed, rows_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.batch.parts import PartsSummary
    from tests.s3 import S3Server

    Run = Callable[..., PartsSummary]
    DiesAt = Callable[[str], None]


def content_of(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"version": "20000101-000000-00000000"}, ArtifactError),
        ({"basis": "original"}, NoAnchorsError),
        ({"engine": "ray", "address": "127.0.0.1:1"}, InputError),
        ({"on_bad_row": "fail", "max_bad_rows": 1}, InputError),
    ],
)
def test_an_overwriting_call_that_is_refused_keeps_the_result(
    run: Run, target: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    if "engine" in options:
        pytest.importorskip("ray")
    run()
    before = content_of(target)
    with pytest.raises(error):
        run(overwrite=True, **options)
    assert content_of(target) == before


@pytest.mark.parametrize("stops_at", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_overwriting_call_that_is_cut_off_is_done_again(
    run: Run, target: Path, monkeypatch: pytest.MonkeyPatch, stops_at: int, overwrite: bool
) -> None:
    run()
    steps = 0

    def counted(name: str) -> None:
        real = getattr(FolderPlace, name)

        def call(place: FolderPlace, *arguments: Any) -> None:
            nonlocal steps
            steps += 1
            if steps > stops_at:
                raise KilledError
            real(place, *arguments)

        monkeypatch.setattr(FolderPlace, name, call)

    for name in ("remove", "remove_folder"):
        counted(name)
    killed(lambda: run(overwrite=True))
    monkeypatch.undo()
    assert run(overwrite=overwrite).manifest.rows == 390
    assert {path.name for path in target.iterdir()} == {"a.parquet", "b.parquet", "c.parquet", MANIFEST}


def test_a_link_that_leads_nowhere_does_not_make_a_folder_look_empty(run: Run, target: Path) -> None:
    target.mkdir()
    (target / "link").symlink_to(target / "nowhere")
    (target / "a.parquet").write_text("precious")
    with pytest.raises(OutputError):
        run()
    assert (target / "a.parquet").read_text() == "precious"
    (target / "a.parquet").unlink()
    with pytest.raises(OutputError):
        run()


def test_a_folder_of_others_with_an_underscore_is_kept(run: Run, target: Path) -> None:
    (target / "_run").mkdir(parents=True)
    (target / "_run/precious.csv").write_text("precious")
    with pytest.raises(OutputError):
        run()
    assert (target / "_run/precious.csv").read_text() == "precious"


def another_call(target: Path) -> None:
    """Have another call take the run over, as one on a machine without this one's lock can."""
    place = open_place(str(target))
    content = place.read(PLAN)
    assert content is not None
    plan = msgspec.structs.replace(from_json(content, Plan, ""), run_id=new_id())
    place.exchange(PLAN, to_json(plan), instead_of=content)


@pytest.mark.parametrize("when", ["before the part", "during the part", "after the part", "at the end"])
def test_a_run_that_another_one_has_taken_over_writes_nothing_more(
    run: Run, target: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    real, sha256 = PartWork.__call__, work._sha256

    def call(one: PartWork, part: str) -> Any:
        last = part == "c.npy"
        if last and when == "before the part":
            another_call(target)
        attempt = real(one, part)
        if last and when == "after the part":
            another_call(target)
        return attempt

    def hashed(path: Path) -> str:
        if when == "during the part" and path.name == "c.parquet":
            another_call(target)
        return sha256(path)

    monkeypatch.setattr(PartWork, "__call__", call)
    monkeypatch.setattr(work, "_sha256", hashed)
    if when == "at the end":
        take = PartsRun.take

        def taken(one: PartsRun, attempt: Any) -> Any:
            record = take(one, attempt)
            if record.part == "c.npy":
                another_call(target)
            return record

        monkeypatch.setattr(PartsRun, "take", taken)
    with pytest.raises(JobConflictError):
        run()
    assert not (target / MANIFEST).exists()
    assert (target / "c.parquet").exists() == (when == "at the end")
    monkeypatch.undo()
    assert run().manifest.rows == 390


def test_a_lock_that_its_holder_has_removed_is_none(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    place, real = open_place(str(target)), fcntl.flock

    def late(file: Any, how: int) -> None:
        place.remove(["_embup/lock"])
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(JobConflictError), place.held():
        pass


def test_of_two_runs_that_begin_in_a_bucket_one_is_refused(s3: S3Server) -> None:
    pytest.importorskip("obstore")
    place = StorePlace(f"{s3.new_bucket()}/out")
    place.exchange(PLAN, b"one", instead_of=None)
    with pytest.raises(JobConflictError):
        place.exchange(PLAN, b"two", instead_of=None)
    stamp = place.exchange(PLAN, b"three", instead_of=b"one")
    assert (place.read(PLAN), place.stamp(PLAN)) == (b"three", stamp)
    with pytest.raises(JobConflictError):
        place.exchange(PLAN, b"four", instead_of=b"one")


def test_between_a_look_and_a_write_another_run_may_begin_in_a_bucket(
    s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore")
    from embup_core.object_store import ObjectStore

    place, write_object = StorePlace(f"{s3.new_bucket()}/out"), ObjectStore.write

    def late(store: ObjectStore, key: str, content: bytes, **options: Any) -> Any:
        write_object(store, key, b"of another run")
        return write_object(store, key, content, **options)

    monkeypatch.setattr(ObjectStore, "write", late)
    with pytest.raises(JobConflictError):
        place.exchange(PLAN, b"mine", instead_of=None)
    assert place.read(PLAN) == b"of another run"


@pytest.mark.parametrize("made_by_a_console", [False, True])
def test_a_bad_row_in_a_bucket_is_named_by_its_address(
    s3: S3Server, registry: Registry, made_by_a_console: bool
) -> None:
    pytest.importorskip("obstore")
    from embup_core.object_store import ObjectStore

    bucket = s3.new_bucket()
    store = ObjectStore(bucket)
    store.write("in/a.txt", b"no row\n")
    if made_by_a_console:  # an empty object for the folder itself
        httpx.put(f"{s3.endpoint}/{bucket.removeprefix('s3://')}/in/").raise_for_status()
    with pytest.raises(BadRowError) as refused:
        upsample_parts(f"{bucket}/in/", f"{bucket}/out/", registry=registry.root)
    assert str(refused.value).startswith(f"{bucket}/in/a.txt, line 1: ")


def test_a_decoder_is_loaded_once_for_driver_and_workers(
    source: Path, target: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    work.loaded.cache_clear()
    loads, load = [], Registry.load

    def counted(one: Registry, version: str | None = None) -> Any:
        loads.append(version)
        return load(one, version)

    monkeypatch.setattr(Registry, "load", counted)
    monkeypatch.chdir(registry.root.parent)
    upsample_parts(source, target, registry=registry.root.name)
    assert len(loads) == 1


@pytest.mark.parametrize("name", ["in", "out"])
def test_a_file_in_place_of_a_folder_is_refused(
    tmp_path: Path, source: Path, registry: Registry, name: str
) -> None:
    (tmp_path / "file").write_text("precious")
    places = {"in": source, "out": tmp_path / "out"} | {name: tmp_path / "file"}
    with pytest.raises(InputError):
        upsample_parts(places["in"], places["out"], registry=registry.root)


def test_a_finished_result_needs_no_right_to_write(
    run: Run, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    before = {path: path.stat() for path in (target, *target.iterdir())}
    for name in ("write", "exchange", "held", "remove", "remove_folder"):
        monkeypatch.setattr(FolderPlace, name, None)
    assert run().decoded_parts == 0
    with pytest.raises(OutputError):
        run(on_bad_row="nan")
    assert {path: path.stat() for path in (target, *target.iterdir())} == before


def test_a_manifest_of_another_format_is_refused(run: Run, target: Path) -> None:
    run()
    path = target / MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(OutputError):
        run()


def test_another_version_of_embup_does_not_resume_and_leaves_a_finished_result(
    run: Run, target: Path, dies_at: DiesAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embup_core.batch import parts

    dies_at("c.npy")
    killed(run)
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.setattr(parts, "installed_version", lambda _: "999")
        with pytest.raises(OutputError) as refused:
            run()
        assert "999" in str(refused.value)
    run()
    monkeypatch.setattr(parts, "installed_version", lambda _: "999")
    assert run().decoded_parts == 0


def test_a_resumed_run_removes_attempts_of_the_one_before(
    run: Run, target: Path, dies_at: DiesAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_at("b.txt")
    killed(run)
    left = target / "_embup/attempts/dead/a.parquet"
    left.parent.mkdir()
    left.touch()
    killed(run)
    assert not left.parent.exists()


@pytest.mark.skipif(os.name != "posix", reason="names are bytes there alone")
def test_a_name_that_is_not_utf8_is_refused(run: Run, source: Path) -> None:
    np.save(source / os.fsdecode(b"\xff.npy"), rows_of("a.npy"))
    with pytest.raises(InputFileError) as refused:
        run()
    str(refused.value).encode()


def test_a_part_without_rows_can_be_left_out(run: Run, source: Path) -> None:
    (source / "b.txt").write_text("")
    with pytest.raises(InputFileError) as refused:
        run()
    assert "underscore" in str(refused.value)
