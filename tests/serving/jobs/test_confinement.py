"""Folders beneath roots: what may be opened, by openat2 and, where there is none, component by component."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.batch import BatchRun, check_request, run_to_completion
from embup_core.batch.inputs.input_file import open_input
from embup_core.errors import EmbupError, InputFileError, InvalidArgumentError, OutputError
from embup_core.files.held_folder import RefusedPathError
from embup_core.files.readable import close_file
from serving.jobs import confinement
from serving.jobs.confinement import Buckets, Confinement, open_beneath
from serving.services import Services
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.embup_core.batch.conftest import RandomMapUpsampler, WriteRows
    from tests.s3 import S3Server


def refused_call(code: int) -> Any:
    """A system call that fails."""

    def fail(*_: Any) -> int:
        ctypes.set_errno(code)
        return -1

    return lambda: fail


@pytest.fixture(params=["openat2", "ENOSYS", "EPERM", "no function"], autouse=True)
def _resolver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel that has the call, that has not, that forbids it, and where it cannot be made."""
    if request.param == "no function":
        monkeypatch.setattr(confinement, "_openat2", lambda: None)
    elif request.param != "openat2":
        monkeypatch.setattr(confinement, "_openat2", refused_call(getattr(errno, request.param)))


@pytest.fixture
def confine(tmp_path: Path) -> Iterator[Callable[..., Confinement]]:
    """Confine to some folders of the test's: ``confine("inside", reserved=["inside/jobs"])``."""
    made: list[Confinement] = []

    def start(*roots: str, reserved: Sequence[str] = ()) -> Confinement:
        confined = Confinement([tmp_path / name for name in reserved])
        for name in roots:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
        confined.open([tmp_path / name for name in roots])
        made.append(confined)
        return confined

    yield start
    for confined in made:
        confined.close()


def test_folders_are_made_beneath_a_root_alone(confine: Callable[..., Confinement], tmp_path: Path) -> None:
    inside = confine("inside", reserved=["inside/jobs"])
    for _ in range(2):
        inside.make_folder(tmp_path / "inside" / "a" / "b")
        assert (tmp_path / "inside" / "a" / "b").is_dir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside" / "jobs").mkdir()
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "outside")
    (tmp_path / "inside" / "hidden").symlink_to(tmp_path / "inside" / "jobs")
    for path in ("outside/c", "inside/../outside/c", "inside/link/c", "inside/jobs/c", "inside/hidden/c"):
        with pytest.raises(RefusedPathError):
            inside.make_folder(tmp_path / path)
    (tmp_path / "inside" / "file").touch()
    with pytest.raises(NotADirectoryError):
        inside.make_folder(tmp_path / "inside" / "file" / "c")
    assert not list((tmp_path / "outside").iterdir())
    assert not list((tmp_path / "inside" / "jobs").iterdir())


def test_folders_beneath_a_root_are_opened(confine: Callable[..., Confinement], tmp_path: Path) -> None:
    inside = confine("inside")
    (tmp_path / "inside" / "a" / "b").mkdir(parents=True)
    for below in (".", "a", "a/b", "a/../a/b", "a//b/"):
        path = tmp_path / "inside" / below
        with inside.open_folder(path) as folder:
            assert folder.confined
            assert os.path.samestat(os.fstat(folder.descriptor), path.stat())


@pytest.mark.parametrize(
    ("below", "code"),
    [
        ("a/link", errno.ELOOP),
        ("a/link/b", errno.ELOOP),
        ("a/dangling", errno.ELOOP),
        ("a/loop", errno.ELOOP),
        ("a/to itself/a", errno.ELOOP),
        ("..", errno.EXDEV),
        ("a/../../outside", errno.EXDEV),
        ("a/file", errno.ENOTDIR),
        ("a/file/b", errno.ENOTDIR),
        ("a/nothing", errno.ENOENT),
        ("x" * 300, errno.ENAMETOOLONG),
    ],
)
def test_what_leads_away_is_refused_as_what_it_is(tmp_path: Path, below: str, code: int) -> None:
    inside = tmp_path / "inside" / "a"
    inside.mkdir(parents=True)
    (tmp_path / "outside" / "b").mkdir(parents=True)
    (inside / "link").symlink_to(tmp_path / "outside")
    (inside / "dangling").symlink_to(tmp_path / "nothing")
    (inside / "loop").symlink_to("loop")
    (inside / "to itself").symlink_to("..")
    (inside / "file").write_text("")
    root = os.open(tmp_path / "inside", os.O_PATH)
    before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        with pytest.raises(OSError, match=os.strerror(code)) as caught:
            open_beneath(root, below)
        assert caught.value.errno == code
        assert len(list(Path("/proc/self/fd").iterdir())) == before, "no folder stays open"
    finally:
        os.close(root)


def test_a_magic_link_is_a_link(tmp_path: Path) -> None:
    root = os.open("/proc/self", os.O_PATH)
    try:
        for below in ("cwd", "root", "root/etc", f"fd/{root}"):
            with pytest.raises(OSError, match="symbolic links"):
                open_beneath(root, below)
    finally:
        os.close(root)


def test_what_lies_outside_is_refused_without_a_look(
    confine: Callable[..., Confinement], tmp_path: Path
) -> None:
    inside = confine("inside")
    (tmp_path / "insider").mkdir()
    said = set()
    for outside in ("outside", "insider", "inside/../outside", "outside/" + "x" * 300, "outside/a\0b", ""):
        for look in (inside.open_folder, inside.locate):
            with pytest.raises(RefusedPathError, match="outside the folders of batch files") as caught:
                look(tmp_path / outside)
            said.add((str(caught.value), caught.value.remedy))
    (tmp_path / "inside" / "link").symlink_to(tmp_path / "insider")
    with pytest.raises(RefusedPathError) as caught:
        inside.open_folder(tmp_path / "inside" / "link")
    said.add((str(caught.value), caught.value.remedy))
    assert len(said) == 1, "one answer for all of them"


def test_a_root_may_be_a_link_and_is_followed_once(
    confine: Callable[..., Confinement], tmp_path: Path
) -> None:
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "other" / "a").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    linked = confine("link")
    for spelled in ("link", "real"):
        assert linked.locate(tmp_path / spelled / "a" / "in.txt") == tmp_path / "real" / "a" / "in.txt"
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("other")
    with linked.open_folder(tmp_path / "link" / "a") as folder:
        assert os.path.samestat(os.fstat(folder.descriptor), (tmp_path / "real" / "a").stat())


def test_the_innermost_root_counts(confine: Callable[..., Confinement], tmp_path: Path) -> None:
    """The outer one would meet the link that the inner one was followed over."""
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "data").symlink_to(tmp_path / "real")
    both = confine("outer", "outer/data")
    with both.open_folder(tmp_path / "outer" / "data" / "a") as folder:
        assert os.path.samestat(os.fstat(folder.descriptor), (tmp_path / "real" / "a").stat())


def test_reserved_folders_are_refused_by_whatever_name(
    confine: Callable[..., Confinement], tmp_path: Path
) -> None:
    inside = confine("inside", reserved=["inside/jobs", "elsewhere", "inside/not yet"])
    (tmp_path / "inside" / "jobs" / "a").mkdir(parents=True)
    for below in ("jobs", "jobs/a"):
        with pytest.raises(RefusedPathError, match="the service's own state"):
            inside.open_folder(tmp_path / "inside" / below)
    for below in ("jobs", "jobs/x.txt", "not yet", "not yet/x.txt"):
        with pytest.raises(RefusedPathError, match="the service's own state"):
            inside.locate(tmp_path / "inside" / below)
    (tmp_path / "elsewhere" / "a").mkdir(parents=True)
    (tmp_path / "inside" / "bound").mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "--bind", str(tmp_path / "elsewhere"), str(tmp_path / "inside" / "bound")]
    if mount is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow mounting a folder at another place")
    try:
        for below in ("bound", "bound/a"):
            with pytest.raises(RefusedPathError, match="the service's own state"):
                inside.open_folder(tmp_path / "inside" / below)
    finally:
        subprocess.run(["umount", "--lazy", command[-1]], check=True)


def test_a_folder_that_is_moved_away_while_it_is_opened_is_refused(
    confine: Callable[..., Confinement], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = confine("inside")
    (tmp_path / "inside" / "a" / "b").mkdir(parents=True)
    (tmp_path / "outside").mkdir()

    def opened_then_moved(root: int, below: str) -> int:
        descriptor = open_beneath(root, below)
        (tmp_path / "inside" / "a").rename(tmp_path / "outside" / "a")
        return descriptor

    monkeypatch.setattr(confinement, "open_beneath", opened_then_moved)
    with pytest.raises(RefusedPathError, match="outside the folders"):
        inside.open_folder(tmp_path / "inside" / "a" / "b")


def test_a_root_that_is_no_folder_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name, said in (("file", "Not a directory"), ("nothing", "No such file")):
        with pytest.raises(EmbupError, match=rf"{name} cannot be opened: {said}.*EMBUP_BATCH_ROOTS"):
            Confinement([]).open([tmp_path, tmp_path / name])


def test_a_root_is_opened_once(confine: Callable[..., Confinement], tmp_path: Path) -> None:
    inside = confine("inside")
    roots = inside.roots
    inside.open([tmp_path])
    assert inside.roots == roots
    inside.close()
    inside.close()
    assert not inside.roots


def test_an_input_with_two_names_is_refused(confine: Callable[..., Confinement], tmp_path: Path) -> None:
    """The other name may be that of a file outside."""
    inside = confine("inside")
    path = tmp_path / "inside" / "in.txt"
    (tmp_path / "secret.txt").write_text("secret")
    path.hardlink_to(tmp_path / "secret.txt")
    with pytest.raises(InputFileError, match=r"has 2 names \(hard links\), expected one"):
        open_input(path, inside.open_folder)
    close_file(open_input(path))  # whoever runs the command may read what he may read


@pytest.mark.parametrize("name", ["out.txt", "out.txt.errors.jsonl"])
def test_an_output_with_two_names_is_not_replaced(
    confine: Callable[..., Confinement], write_rows: WriteRows, tmp_path: Path, name: str
) -> None:
    inside = confine(".")
    spec = write_rows(3, overwrite=True, on_bad_row="nan")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / name).hardlink_to(tmp_path / "secret.txt")
    with pytest.raises(OutputError, match=r"has 2 names \(hard links\), expected one"):
        check_request(spec, input_dims=32, output_dims=48, open_folder=inside.open_folder)


def test_a_part_with_two_names_is_nobody_s_leftover(
    confine: Callable[..., Confinement],
    write_rows: WriteRows,
    random_map: RandomMapUpsampler,
    tmp_path: Path,
) -> None:
    """It may be the second name of a file outside, and is neither opened nor taken away."""
    inside = confine(".")
    spec = write_rows(3)
    (tmp_path / "secret.txt").write_text("secret")
    spec.part_path.hardlink_to(tmp_path / "secret.txt")
    with pytest.raises(OutputError, match="part exists"):
        BatchRun(spec, random_map, open_folder=inside.open_folder)
    assert spec.part_path.read_text() == "secret"
    run_to_completion(BatchRun(spec, random_map))  # the command may


@pytest.mark.parametrize("swapped", ["input", "input folder", "output folder"])
def test_a_run_whose_paths_lead_elsewhere_by_now_ends_and_writes_nothing_there(
    confine: Callable[..., Confinement],
    write_rows: WriteRows,
    random_map: RandomMapUpsampler,
    tmp_path: Path,
    swapped: str,
) -> None:
    """Between two checkpoints what is open is read and written on; the next one tells."""
    spec = write_rows(600)
    inside = confine("inside", "inside/in", "inside/out")
    (tmp_path / "outside").mkdir()
    spec = replace(
        spec,
        input_path=spec.input_path.rename(tmp_path / "inside" / "in" / "in.txt"),
        output_path=tmp_path / "inside" / "out" / "out.txt",
    )
    run = BatchRun(spec, random_map, open_folder=confine("inside").open_folder)
    assert run.step()
    run.sync()
    path = {
        "input": spec.input_path,
        "input folder": spec.input_path.parent,
        "output folder": spec.output_path.parent,
    }[swapped]
    moved = path.rename(tmp_path / "inside" / "moved")
    path.symlink_to(moved)
    with pytest.raises((InputFileError, OutputError), match=r"link|gone|replaced"):
        run_to_completion(run, checkpoint_every_s=0.0)
    path.unlink()
    moved.rename(path)
    assert not list((tmp_path / "outside").iterdir())
    assert not list(spec.output_path.parent.iterdir()), "its own part is found where it was moved"
    assert inside.roots


def test_a_first_run_takes_nobody_s_file_for_its_leftover(
    write_rows: WriteRows, random_map: RandomMapUpsampler
) -> None:
    spec = write_rows(3)
    spec.part_path.write_text("precious")
    check = partial(check_request, input_dims=random_map.input_dims, output_dims=random_map.output_dims)
    for attempt in (check, lambda spec, **options: BatchRun(spec, random_map, **options)):
        with pytest.raises(OutputError, match="part exists"):
            attempt(spec, replace_parts=False)
    assert spec.part_path.read_text() == "precious"
    spec.part_path.unlink()
    spec.errors_part_path.write_text("precious")  # not a name of a batch that fails on its first bad row
    run_to_completion(BatchRun(spec, random_map, replace_parts=False))
    assert spec.errors_part_path.read_text() == "precious"


def test_a_registry_in_a_bucket_is_reserved(tmp_path: Path, s3: S3Server) -> None:
    del s3  # sets the environment
    settings = ServingSettings(registry="s3://b/registry/", data=tmp_path, batch_prefixes=("s3://b",))
    buckets = Buckets(settings.batch_prefixes, "", settings.reserved_addresses)
    for address in ("s3://b/registry/CURRENT", "s3://b//registry/v1/manifest.json", "S3://b/registry"):
        with pytest.raises((RefusedPathError, InvalidArgumentError)):
            buckets.locate(address)
    assert str(buckets.locate("s3://b/registry2/out.npy")) == "s3://b/registry2/out.npy"
    assert Services(settings).confinement.buckets.reserved == ("s3://b/registry",)
