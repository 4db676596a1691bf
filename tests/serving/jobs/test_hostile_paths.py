"""Paths of batch requests that mean harm: what is answered, and that nothing outside the roots is opened.

strace watches the service and its worker while they are asked. Once more with a kernel that has no openat2.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import pytest

from tests.tracing import traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import httpx

AT_LEAST = 60
NO_OPENAT2 = "openat2:error=ENOSYS"
ROW = ",".join(["0.5"] * 32) + "\n"


class Ground(NamedTuple):
    """Where the paths lead.

    Attributes
    ----------
    inside
        The one root.
    outside
        A folder beside it that no request may reach.
    """

    inside: Path
    outside: Path


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """A root full of traps, and a folder outside with one thing of each kind."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "sub", outside / "folder", tmp_path / "inside-not"):
        folder.mkdir(parents=True)
    (inside / "good.txt").write_text(ROW)
    for name in ("secret.txt", "unreadable.txt", "hard.txt", "folder/secret.txt"):
        (outside / name).write_text(ROW)
    (tmp_path / "inside-not" / "secret.txt").write_text(ROW)
    (outside / "unreadable.txt").chmod(0)
    (outside / "second.txt").hardlink_to(outside / "hard.txt")
    (outside / "link.txt").symlink_to(inside / "good.txt")
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        for bound, folder in ((one, outside), (other, inside)):
            here = Path.cwd()
            os.chdir(folder)  # a socket's path is at most 108 bytes
            bound.bind("socket")
            os.chdir(here)
        for folder in (inside, outside):
            os.mkfifo(folder / "fifo")
            with suppress(PermissionError):  # for root alone; /dev/full, which answers writes with an error
                os.mknod(folder / "device", stat.S_IFCHR | 0o666, os.makedev(1, 7))
        (inside / "hard.txt").hardlink_to(outside / "hard.txt")
        links: dict[str, Path | str] = {
            "to file": outside / "secret.txt",
            "to nothing": outside / "missing.txt",
            "to folder": outside / "folder",
            "to fifo": outside / "fifo",
            "to device": outside / "device",
            "to relative": "../outside/secret.txt",
            "to link": "to file",
            "to etc": "/etc",
            "to root": "/",
            "to proc": "/proc/self",
            "to descriptor": "/proc/self/fd/0",
            "to itself": "to itself",
            "to inside": "good.txt",
            "to here": ".",
            "to above": "..",
            "to state": "../data/jobs",
        }
        for name, target in links.items():
            (inside / name).symlink_to(target)
        (inside / "sub" / "deep").symlink_to("../../outside/folder")
        yield Ground(inside, outside)


def outside_paths(ground: Ground, pid: int) -> list[str]:
    """Paths that must all get one answer, whatever is there."""
    inside, outside = ground
    return [
        # What exists, what does not, and of every kind.
        f"{outside}/secret.txt", f"{outside}/missing.txt", f"{outside}", f"{outside}/folder",
        f"{outside}/folder/", f"{outside}/secret.txt/", f"{outside}/missing/", f"{outside}/unreadable.txt",
        f"{outside}/fifo", f"{outside}/socket", f"{outside}/device", f"{outside}/secret.txt/below",
        f"{outside}/missing/below.txt", f"{outside}/second.txt", f"{outside}/link.txt", f"{outside}/.",
        f"{outside}/..", f"{outside}/{'x' * 300}", f"{outside}/{'y/' * 3000}z", f"{outside}/a\0b",
        f"{outside}/new.txt", f"{inside}-not/secret.txt", f"{inside}.txt", str(inside.parent),
        # The system's own.
        "/", "//", "/.", "/..", "/etc/passwd", "//etc/passwd", "///etc/passwd", "/etc/shadow", "/etc/nothing",
        "/etc", "/etc/passwd\0.txt", "/dev/full", "/dev/zero", "/dev/stdin", "/dev/fd/0", "/dev/shm/x.txt",
        "/sys/kernel/notes", "/proc/self/environ", "/proc/self/fd/0", "/proc/self/fd/7",
        "/proc/self/cwd/x.txt",
        "/proc/self/root/etc/passwd", f"/proc/self/root{inside}/good.txt", f"/proc/{pid}/root/etc/passwd",
        f"/proc/{pid}/cwd/good.txt", "/proc/1/environ", "/proc/self/task/self/fd/0", "/proc/kcore",
        # Up and out.
        "..", "../", "../..", "../outside/secret.txt", "../outside/missing.txt", "./../outside/secret.txt",
        "sub/../../outside/secret.txt", "missing/../../outside/secret.txt", "../../../../../../../etc/passwd",
        f"{inside}/..", f"{inside}/../outside/secret.txt", f"{inside}/./sub/.././../outside/secret.txt",
        f"{inside}//..//outside//secret.txt", f"{'../' * 200}etc/passwd",
        f"{inside}/../inside-not/secret.txt",
        # Over links.
        "to file", "to nothing", "to folder/secret.txt", "to folder/missing.txt", "to folder/folder/x.txt",
        "to fifo", "to device", "to relative", "to link", "to etc/passwd", "to etc/nothing",
        "to root/etc/passwd",
        "to proc/environ", "to proc/fd/0", "to proc/root/etc/passwd", "to descriptor", "to itself",
        "to itself/x.txt", "to inside", "to here/good.txt", "to above/outside/secret.txt",
        "to state/jobs.duckdb", "sub/deep/secret.txt", f"{inside}/to file", f"{inside}/sub/deep/missing.txt",
        "to here/to here/to file", "sub/../to file", f"to folder/{'x' * 200}",
    ]  # fmt: skip


INSIDE: dict[str, tuple[str, str]] = {
    "": ("found nothing", "found nothing"),
    "   ": ("found nothing", "found nothing"),
    "good.txt\0": ("NUL character", "NUL character"),
    "a\0/../../outside/secret.txt": ("outside the folders", "outside the folders"),
    "good.txt/": ("that of a folder", "that of a folder"),
    "sub/.": ("that of a folder", "that of a folder"),
    "sub/..": ("that of a folder", "that of a folder"),
    ".": ("that of a folder", "that of a folder"),
    "sub": ("is not a regular file", "is not a regular file"),
    "good.txt/below.txt": ("Not a directory", "is not a folder"),
    "missing/new.txt": ("does not exist", "does not exist"),
    "~/.ssh/id_rsa": ("does not exist", "does not exist"),
    "file:///etc/passwd": ("does not exist", "does not exist"),
    "%2e%2e/outside/secret.txt": ("does not exist", "does not exist"),
    "..\\outside/secret.txt": ("does not exist", "does not exist"),
    "\u2025/outside/secret.txt": ("does not exist", "does not exist"),
    " ../outside/secret.txt": ("does not exist", "does not exist"),
    "$HOME/x.txt": ("does not exist", "does not exist"),
    "x" * 300: ("too long", "too long"),
    "hard.txt": ("has 3 names (hard links)", "has 3 names (hard links)"),
    "fifo": ("is not a regular file", "is not a regular file"),
    "socket": ("is not a regular file", "is not a regular file"),
    "device": ("is not a regular file", "is not a regular file"),
    "good.txt.part": ("does not exist", "are those of files that grow"),
}
"""Hostile paths beneath the root, and what is said of them as input and as output."""


def watched(service: Any, log: Path, *, inject: str = "") -> AbstractContextManager[None]:
    """Write down every call on a file that the service and the processes below it make."""
    process = psutil.Process(service.process.pid)
    pids = [process.pid, *(child.pid for child in process.children(recursive=True))]
    command = ["strace", "-f", "-y", "-s", "8192", "-e", "trace=%file", "-o", str(log)]
    return traced(pids, command + (["-e", f"inject={inject}"] if inject else []), end=signal.SIGINT)


def opened_in(log: Path) -> list[str]:
    """The real path of everything that was opened, be it to hold it or to read it."""
    opening = re.compile(r"(?:open|openat|openat2|creat)(?: resumed>|\().* = \d+<(?P<path>[^>]*)>$")
    return [found["path"] for line in log.read_text().splitlines() if (found := opening.search(line))]


def untouched(outside: Path) -> dict[Path, tuple[int, ...]]:
    """What changes when something outside is written, made, linked or removed."""
    found = {path: path.lstat() for path in [outside, *outside.rglob("*")]}
    return {
        path: (status.st_ino, status.st_nlink, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for path, status in found.items()
    }


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("inject", ["", NO_OPENAT2], ids=["openat2", "component by component"])
def test_hostile_paths_are_refused_alike_and_lead_nowhere(
    serve: Callable[..., Any],
    check: Callable[..., dict[str, Any]],
    ground: Ground,
    tmp_path: Path,
    inject: str,
) -> None:
    inside, outside = ground
    service = serve(batch_roots=inside, batch_processes=2)
    first = service.submit("good.txt", "first.out.txt")  # the worker is there
    assert service.final(first)["phase"] == "COMPLETED"
    before = untouched(outside)
    hostile = outside_paths(ground, service.process.pid)
    assert min(len(hostile), len(set(hostile))) >= AT_LEAST
    log = tmp_path / "log"
    with watched(service, log, inject=inject):
        for field, kind in (("input_filepath", 0), ("output_filepath", 1)):

            def answer(given: str, field: str = field) -> httpx.Response:
                body = {"input_filepath": "good.txt", "output_filepath": "new.txt", "overwrite": True}
                found: httpx.Response = service.http.post("/v1/batches", json=body | {field: given})
                return found

            said = set()
            for given in hostile:
                problem = check(answer(given), 422)
                detail = problem["detail"].replace(repr(given), "...")
                assert str(outside) not in detail, problem
                said.add((detail, problem["remedy"], problem["type"]))
            assert len(said) == 1, said
            [(detail, remedy, _)] = said
            assert detail.startswith(f"{field} ...: the path lies outside the folders of batch files")
            assert f"({inside}), or leads over a link" in detail
            assert str(inside) in remedy
            for given, wanted in INSIDE.items():
                if given == "device" and not (inside / "device").exists():
                    continue
                problem = check(answer(given), 422)
                assert wanted[kind] in problem["detail"], (given, problem)
                assert str(outside) not in problem["detail"].replace(repr(given), ""), problem
        last = service.submit("good.txt", "last.out.txt")
        assert service.final(last)["phase"] == "COMPLETED"
    opened = opened_in(log)
    assert f"{inside}/good.txt" in opened, "strace saw what was opened"
    assert "openat2(" in log.read_text(), "the confined call was asked for"
    allowed = (str(inside), str(service.data), str(service.registry))
    strange = {path for path in opened if not path.startswith(tuple(f"{start}/" for start in allowed))}
    # Python gives a forked worker /dev/null to read from; the C library looks up where a stack lies.
    own_stack = {path for path in strange if re.fullmatch(r"/proc/(self|\d+)/maps", path)}
    assert strange - own_stack <= {str(inside), "/dev/null"}, "what was opened outside"
    assert not [line for line in log.read_text().splitlines() if f'"{outside}' in line or '"/etc' in line]
    assert untouched(outside) == before
    left = {path.name for path in inside.iterdir()} - {"first.out.txt", "last.out.txt"}
    assert not [name for name in left if "new" in name or name.endswith(".part")]
