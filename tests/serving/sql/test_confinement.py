"""What the process of a statement has given up, tried by code that is already in it, without DuckDB."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

CONFINED = """
import ctypes, json, os, signal, socket, sys
from serving.sql.confinement import limit_resources, open_nothing_more
file, parent = sys.argv[1], int(sys.argv[2])
kept = open(file)
limit_resources(memory_bytes=1 << 30, cpu_s=2)
open_nothing_more()
def tried(what, *arguments):
    try:
        what(*arguments)
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"
found = {
    "read": tried(os.open, "/etc/passwd", os.O_RDONLY),
    "write": tried(os.open, file + ".new", os.O_WRONLY | os.O_CREAT),
    "truncate": tried(os.truncate, file, 0),
    "remove": tried(os.unlink, file),
    "rename": tried(os.rename, file, file + ".new"),
    "folder": tried(os.mkdir, file + ".new"),
    "list": tried(os.listdir, "/"),
    "socket": tried(socket.socket),
    "pipe": tried(os.pipe),
    "run": tried(os.execv, "/bin/true", ["true"]),
    "signal": tried(os.kill, parent, 0),
    "memory": tried(bytearray, 1 << 31),
    "kept": kept.read(),
}
print(json.dumps(found), flush=True)
while sys.argv[3] == "spin":
    pass
"""


def landlock_version() -> int:
    """Version of the kernel's interface; negative where there is none."""
    version: int = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)
    return version


def confined(folder: Path, then: str) -> subprocess.CompletedProcess[str]:
    file = folder / "file"
    file.write_text("kept")
    return subprocess.run(
        [sys.executable, "-c", CONFINED, file, str(os.getpid()), then],
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_can_be_opened_or_taken_but_what_is_open_can_be_read(tmp_path: Path) -> None:
    result = confined(tmp_path, "end")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["kept"] == "kept"
    assert found["memory"] == "MemoryError"
    for name in ("read", "write", "list", "socket", "pipe"):
        assert found[name] in {"OSError", "PermissionError"}, name


@pytest.mark.skipif(landlock_version() < 3, reason="the kernel has no Landlock, or one that is too old")
def test_nothing_can_be_changed_or_run_by_its_path(tmp_path: Path) -> None:
    found = json.loads(confined(tmp_path, "end").stdout)
    for name in ("truncate", "remove", "rename", "folder", "run"):
        assert found[name] == "PermissionError", name
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(landlock_version() < 6, reason="the kernel's Landlock knows no signals")
def test_no_other_process_can_be_signalled(tmp_path: Path) -> None:
    assert json.loads(confined(tmp_path, "end").stdout)["signal"] == "PermissionError"


def test_a_process_that_nobody_watches_ends_by_itself(tmp_path: Path) -> None:
    assert confined(tmp_path, "spin").returncode < 0
