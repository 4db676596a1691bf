"""A folder of parts in, a folder of parts and a manifest out: across crashes, changes and other versions."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow.parquet
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.batch import parts
from embup_core.batch.parts import PartsSummary, upsample_parts
from embup_core.batch.parts.place import open_place
from embup_core.batch.parts.plan import Plan, from_json
from embup_core.batch.parts.work import PLAN, Attempt, PartWork
from embup_core.errors import (
    BadRowError,
    EmbupError,
    InputError,
    InputFileError,
    InvalidArtifactError,
    JobConflictError,
    OutputError,
)
from tests.embup_core.batch.parts.conftest import ROWS, killed, rows_of, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.upsampler import Upsampler
    from tests.s3 import S3Server


def manifest_of(target: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((target / "_MANIFEST.json").read_text())
    return found


def visible(target: Path) -> set[str]:
    return {path.name for path in target.iterdir()}


def test_each_part_is_answered_and_the_manifest_says_so(
    run: Callable[..., PartsSummary], target: Path, upsampler: Upsampler, registry: Registry
) -> None:
    done = run(output_format="npy")
    assert visible(target) == {"a.npy", "b.npy", "c.npy", "_MANIFEST.json"}
    manifest = manifest_of(target)
    assert [one["part"] for one in manifest["parts"]] == list(ROWS)
    assert [one["rows"] for one in manifest["parts"]] == list(ROWS.values())
    assert (manifest["rows"], manifest["failed_rows"]) == (390, 0)
    assert manifest["plan"]["model_version"] == registry.current_version()
    published = registry.info(registry.current_version()).manifest
    assert manifest["plan"]["content_hash"] == published["content_hash"]
    assert manifest["plan"]["basis_id"] == upsampler.basis_id
    for one in manifest["parts"]:
        content = (target / one["output"]).read_bytes()
        assert one["size_bytes"] == len(content)
        assert one["sha256"] == hashlib.sha256(content).hexdigest()
        expected = upsampler.upsample(rows_of(one["part"]))[0]
        np.testing.assert_allclose(np.load(target / one["output"]), expected, atol=1e-6)
    assert (done.decoded_parts, done.decoded_rows) == (3, 390)


@pytest.mark.parametrize("output_format", ["parquet", "npy", "txt"])
def test_the_bytes_are_those_of_the_batch_engine(
    run: Callable[..., PartsSummary],
    source: Path,
    target: Path,
    tmp_path: Path,
    upsampler: Upsampler,
    output_format: str,
) -> None:
    run(output_format=output_format)
    for name in ROWS:
        alone = tmp_path / f"{Path(name).stem}.{output_format}"
        upsampler.upsample_file(source / name, alone)
        assert (target / alone.name).read_bytes() == alone.read_bytes()


def test_a_reader_of_the_folder_finds_parquet_alone(
    run: Callable[..., PartsSummary], source: Path, target: Path
) -> None:
    with (source / "b.txt").open("a") as file:
        file.write("no row\n")
    run(on_bad_row="nan")
    assert pyarrow.parquet.read_table(target).num_rows == 391


def test_a_second_call_has_nothing_to_do(run: Callable[..., PartsSummary], target: Path) -> None:
    first = run()
    before = {path: path.stat() for path in target.iterdir()}
    second = run()
    assert (second.decoded_parts, second.manifest) == (0, first.manifest)
    assert {path: path.stat() for path in target.iterdir()} == before


def test_before_the_last_part_there_is_no_manifest_and_a_second_call_decodes_the_rest(
    run: Callable[..., PartsSummary],
    target: Path,
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_at("c.npy")
    killed(run)
    assert not (target / "_MANIFEST.json").exists()
    monkeypatch.undo()
    finished = (target / "a.parquet").stat()
    done = run()
    assert (done.decoded_parts, done.decoded_rows) == (1, ROWS["c.npy"])
    assert (target / "a.parquet").stat() == finished
    assert visible(target) == {"a.parquet", "b.parquet", "c.parquet", "_MANIFEST.json"}
    assert manifest_of(target)["rows"] == 390


def test_a_kill_between_an_output_and_its_record_costs_that_part(
    run: Callable[..., PartsSummary],
    target: Path,
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_at("c.npy")
    killed(run)
    monkeypatch.undo()
    (target / "_embup/finished/b.parquet.json").unlink()
    assert run().decoded_parts == 2


def test_a_kill_after_the_manifest_leaves_a_whole_result(
    run: Callable[..., PartsSummary], target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    from embup_core.batch.parts.place import FolderPlace

    monkeypatch.setattr(FolderPlace, "remove_folder", stop)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    assert run().decoded_parts == 0
    assert "_embup" not in visible(target)


def test_a_part_that_changed_before_the_manifest_is_decoded_anew(
    run: Callable[..., PartsSummary],
    source: Path,
    target: Path,
    upsampler: Upsampler,
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_at("c.npy")
    killed(lambda: run(output_format="npy"))
    monkeypatch.undo()
    np.save(source / "a.npy", rows_of("a.npy")[::-1])
    assert run(output_format="npy").decoded_parts == 2
    expected = upsampler.upsample(rows_of("a.npy")[::-1])[0]
    np.testing.assert_allclose(np.load(target / "a.npy"), expected, atol=1e-6)


def test_a_part_that_changed_after_the_manifest_is_refused(
    run: Callable[..., PartsSummary], source: Path, target: Path
) -> None:
    run()
    os.utime(source / "b.txt", ns=(1, 1))
    with pytest.raises(InputFileError) as refused:
        run()
    assert "b.txt" in str(refused.value)
    assert run(overwrite=True).decoded_parts == 3


def test_an_output_that_somebody_changed_is_refused_and_before_the_manifest_decoded_anew(
    run: Callable[..., PartsSummary],
    target: Path,
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_at("c.npy")
    killed(run)
    monkeypatch.undo()
    (target / "a.parquet").write_bytes(b"no Parquet")
    assert run().decoded_parts == 2
    (target / "a.parquet").write_bytes(b"no Parquet")
    with pytest.raises(OutputError) as refused:
        run()
    assert "a.parquet" in str(refused.value)


def test_a_part_that_changes_during_the_run_ends_it_without_a_manifest(
    run: Callable[..., PartsSummary], source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PartWork.__call__

    def call(work: PartWork, part: str) -> Any:
        if part == "c.npy":
            write(source, "a.npy")
        return real(work, part)

    monkeypatch.setattr(PartWork, "__call__", call)
    with pytest.raises(InputFileError) as refused:
        run()
    assert "a.npy" in str(refused.value)
    assert not (target / "_MANIFEST.json").exists()
    monkeypatch.undo()
    assert run().decoded_parts == 1


def test_other_parts_or_options_are_refused(
    run: Callable[..., PartsSummary],
    source: Path,
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_at("c.npy")
    killed(run)
    monkeypatch.undo()
    with pytest.raises(OutputError):
        run(output_format="npy")
    with pytest.raises(OutputError):
        run(on_bad_row="nan")
    (source / "b.txt").rename(source / "d.txt")
    with pytest.raises(OutputError) as refused:
        run()
    assert "without b.txt and with d.txt" in str(refused.value)


def test_all_parts_have_the_version_that_the_first_call_found(
    source: Path,
    target: Path,
    registry: Registry,
    tmp_path: Path,
    publish_another: Callable[[Registry, int], str],
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Registry(tmp_path / "registry")
    first = publish_another(own, 1)
    dies_at("b.txt")
    killed(lambda: upsample_parts(source, target, registry=own.root))
    monkeypatch.undo()
    second = publish_another(own, 2)
    assert own.current_version() == second
    with pytest.raises(OutputError) as refused:
        upsample_parts(source, target, registry=own.root, version=second)
    assert first in str(refused.value)
    assert upsample_parts(source, target, registry=own.root).manifest.plan.model_version == first


def test_overwriting_begins_with_the_manifest_and_takes_the_version_in_service(
    source: Path,
    target: Path,
    tmp_path: Path,
    publish_another: Callable[[Registry, int], str],
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Registry(tmp_path / "registry")
    publish_another(own, 1)
    upsample_parts(source, target, registry=own.root, output_format="npy")
    second = publish_another(own, 2)
    dies_at("b.txt")
    killed(lambda: upsample_parts(source, target, registry=own.root, overwrite=True))
    monkeypatch.undo()
    assert not (target / "_MANIFEST.json").exists()
    assert visible(target) == {"a.parquet", "_embup"}  # nothing of the earlier result
    done = upsample_parts(source, target, registry=own.root)  # resumes, and need not begin again
    assert (done.decoded_parts, done.manifest.plan.model_version) == (2, second)


def test_bad_rows_are_counted_and_reported_apart(
    run: Callable[..., PartsSummary], source: Path, target: Path
) -> None:
    with (source / "b.txt").open("a") as file:
        file.write("no row\n")
    with pytest.raises(BadRowError) as refused:
        run()
    assert (refused.value.line, str(source / "b.txt") in str(refused.value)) == (4, True)
    assert not (target / "_MANIFEST.json").exists()
    with pytest.raises(OutputError):  # of the request that stops at a bad row
        run(on_bad_row="nan")
    run(on_bad_row="nan", overwrite=True)
    manifest = manifest_of(target)
    assert [one["failed_rows"] for one in manifest["parts"]] == [0, 1, 0]
    [problem] = (target / "_errors/b.parquet.errors.jsonl").read_text().splitlines()
    assert json.loads(problem)["line"] == 4
    with pytest.raises(InputError):
        run(on_bad_row="nan", max_bad_rows=0, overwrite=True)


def test_a_report_goes_with_the_state_of_a_part_that_it_was_of(
    run: Callable[..., PartsSummary],
    source: Path,
    target: Path,
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with (source / "b.txt").open("a") as file:
        file.write("no row\n")
    dies_at("c.npy")
    killed(lambda: run(on_bad_row="nan"))
    monkeypatch.undo()
    write(source, "b.txt")
    run(on_bad_row="nan")
    assert not list((target / "_errors").iterdir())
    assert manifest_of(target)["failed_rows"] == 0


@pytest.mark.parametrize("options", [{"on_bad_row": "fail", "max_bad_rows": 1}, {"workers": 0}])
def test_options_that_cannot_be_are_refused_before_anything_is_written(
    run: Callable[..., PartsSummary], target: Path, options: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        run(**options)
    assert not target.exists()


def test_a_folder_with_files_of_others_is_left_as_it_is(
    run: Callable[..., PartsSummary], target: Path
) -> None:
    target.mkdir()
    (target / "precious.txt").write_text("precious")
    for overwrite in (False, True):
        with pytest.raises(OutputError) as refused:
            run(overwrite=overwrite)
        assert "precious.txt" in str(refused.value)
    assert visible(target) == {"precious.txt"}


def test_an_output_in_the_input_is_refused(source: Path, registry: Registry) -> None:
    for target in (source, source / "out"):
        with pytest.raises(OutputError):
            upsample_parts(source, target, registry=registry.root)
    assert visible(source) == set(ROWS)


def test_two_drivers_do_not_write_at_once(run: Callable[..., PartsSummary], target: Path) -> None:
    with open_place(str(target)).held(), pytest.raises(JobConflictError):
        run()
    assert run().decoded_parts == 3


def test_a_worker_refuses_what_is_not_the_drivers(
    run: Callable[..., PartsSummary],
    target: Path,
    tmp_path: Path,
    registry: Registry,
    dies_at: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dies_at("a.npy")
    killed(run)
    monkeypatch.undo()
    plan = from_json((target / PLAN).read_bytes(), Plan, "")
    other = msgspec.structs.replace(plan, content_hash="f" * 64)
    where, stamp = str(registry.root), open_place(str(target)).stamp(PLAN) or ""
    assert isinstance(PartWork(plan, stamp, str(tmp_path / "unseen"), where)("a.npy"), OutputError)
    assert isinstance(PartWork(plan, stamp, str(target), where)("gone.npy"), InputFileError)
    assert isinstance(PartWork(other, stamp, str(target), where)("a.npy"), InvalidArtifactError)
    assert isinstance(PartWork(plan, "of another run", str(target), where)("a.npy"), JobConflictError)
    assert isinstance(PartWork(plan, stamp, str(target), where)("a.npy"), Attempt)


def test_an_attempt_that_lives_on_changes_no_output(
    run: Callable[..., PartsSummary],
    source: Path,
    target: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that was held for dead decodes a part once more, after another one's was taken."""
    real = PartWork.__call__

    def twice(work: PartWork, part: str) -> Any:
        attempt = real(work, part)
        if part == "c.npy":
            before = (target / "a.parquet").stat()
            assert not isinstance(real(work, "a.npy"), EmbupError)
            assert (target / "a.parquet").stat() == before
        return attempt

    monkeypatch.setattr(PartWork, "__call__", twice)
    run()
    assert visible(target) == {"a.parquet", "b.parquet", "c.parquet", "_MANIFEST.json"}


def test_progress_counts_parts_and_those_of_earlier_calls(
    run: Callable[..., PartsSummary], dies_at: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    dies_at("c.npy")
    seen: list[tuple[float, float | None]] = []
    killed(lambda: run(progress=lambda _, done, total: seen.append((done, total))))
    monkeypatch.undo()
    run(progress=lambda _, done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_parts_in_a_bucket(
    source: Path, registry: Registry, s3: S3Server, upsampler: Upsampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("obstore")
    from embup_core.object_store import ObjectStore

    bucket = s3.new_bucket()
    store = ObjectStore(bucket)
    for name in ROWS:
        store.upload(source / name, f"in/{name}")
    store.write("in/b.txt", (source / "b.txt").read_bytes() + b"no row\n")
    call = {"registry": registry.root, "output_format": "npy", "on_bad_row": "nan"}
    real = PartWork.__call__

    def dying(work: PartWork, part: str) -> Any:
        if part == "c.npy":
            raise KeyboardInterrupt
        return real(work, part)

    monkeypatch.setattr(PartWork, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        upsample_parts(f"{bucket}/in", f"{bucket}/out", **call)  # type: ignore[arg-type]
    monkeypatch.setattr(PartWork, "__call__", real)
    assert store.find("out/_MANIFEST.json") is None
    done = upsample_parts(f"{bucket}/in", f"{bucket}/out", **call)  # type: ignore[arg-type]
    assert done.decoded_parts == 1
    assert (done.manifest.rows, done.manifest.failed_rows) == (391, 1)
    keys = [one.key for one in store.objects("out/")]
    assert [key.removeprefix("out/") for key in keys] == [
        "_MANIFEST.json",
        "_errors/b.npy.errors.jsonl",
        "a.npy",
        "b.npy",
        "c.npy",
    ]
    found = store.read("out/a.npy", max_bytes=1 << 30)
    assert found is not None
    assert done.manifest.parts[0].sha256 == hashlib.sha256(found[0]).hexdigest()
    store.write("out/a.npy", b"of another run")
    with pytest.raises(OutputError):
        upsample_parts(f"{bucket}/in", f"{bucket}/out", **call)  # type: ignore[arg-type]
    store.write("in/a.npy", b"changed")
    with pytest.raises(InputFileError):
        upsample_parts(f"{bucket}/in", f"{bucket}/out", **call)  # type: ignore[arg-type]


def test_the_names_of_the_module_are_exported() -> None:
    assert all(hasattr(parts, name) for name in parts.__all__)
