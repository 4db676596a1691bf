"""A race: files and folders of batches are swapped for links that lead outside, as fast as it goes.

A process swaps while batches are submitted and run. inotify on what lies outside says whether anybody opened
or changed it, at whatever moment. `EMBUP_SWAP_S` is how many seconds the race lasts.
"""

from __future__ import annotations

import ctypes
import gzip
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECONDS = float(os.environ.get("EMBUP_SWAP_S", "3"))
LONGEST_S = 60.0
ROWS = 300
INPUTS = ("in.txt", "in.npy", "in.parquet", "in.txt.gz")
OUTPUTS = (".txt", ".npy", ".parquet")
SAME = "same.txt"  # an output that is replaced again and again

SWAPPER = """
import ctypes, json, random, sys, time
from pathlib import Path
stop, pairs = Path(sys.argv[1]), json.loads(sys.argv[2])
rename = ctypes.CDLL(None, use_errno=True).renameat2
pairs = [(here.encode(), link.encode()) for here, link in pairs]
def swap(here, link):
    return rename(-100, here, -100, link, 2) == 0  # RENAME_EXCHANGE: neither name is ever free
count, choose = 0, random.Random(0)
while not stop.exists():
    for _ in range(200):
        here, link = choose.choice(pairs)
        if swap(here, link):
            if choose.random() < 0.05:
                time.sleep(choose.random() / 1e3)
            while not swap(here, link):
                pass
            count += 2
    # Now and then a batch is to come through.
    if choose.random() < 0.5:
        time.sleep(choose.random() / 5)
print(count)
"""


class Watch:
    """Counts what anybody opens, reads or changes: files, and folders with what is in them."""

    EVERYTHING = 0x00000FFF

    def __init__(self, paths: list[Path]) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._descriptor >= 0
        self._names = {
            library.inotify_add_watch(self._descriptor, os.fsencode(path), self.EVERYTHING): path
            for path in paths
        }
        assert min(self._names) > 0

    def seen(self) -> list[str]:
        """Tell the events since the last call."""
        found: list[str] = []
        try:
            while data := os.read(self._descriptor, 1 << 16):
                while data:
                    watch, mask, _, length = struct.unpack_from("iIII", data)
                    name = data[16 : 16 + length].rstrip(b"\0").decode()
                    found.append(f"{mask:#x} {self._names.get(watch)} {name}")
                    data = data[16 + length :]
        except BlockingIOError:
            return found
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._descriptor)


def write_inputs(folder: Path, rows: Any) -> None:
    """Write the same rows in every format."""
    folder.mkdir(parents=True)
    text = "".join(",".join(f"{value:.8f}" for value in row) + "\n" for row in rows)
    (folder / "in.txt").write_text(text)
    (folder / "in.txt.gz").write_bytes(gzip.compress(text.encode()))
    np.save(folder / "in.npy", rows.astype(np.float64))
    pq.write_table(pa.table({"embedding": [list(map(float, row)) for row in rows]}), folder / "in.parquet")


@contextmanager
def swapping(pairs: list[tuple[Path, Path]], stop: Path) -> Iterator[Callable[[], int]]:
    """Swap the two names of each pair until the end; then what was there is there again. Gives the count."""
    spelled = json.dumps([[str(here), str(link)] for here, link in pairs])
    swapper = subprocess.Popen(
        [sys.executable, "-c", SWAPPER, str(stop), spelled], stdout=subprocess.PIPE, text=True
    )

    def end() -> int:
        stop.touch()
        told, _ = swapper.communicate(timeout=30)
        assert swapper.returncode == 0
        return int(told)

    try:
        yield end
    finally:
        swapper.kill()
        swapper.wait()


def without_openat2(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have services start on a kernel that has no openat2, as strace makes it look."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    python = folder / "python"
    options = "-D -f --seccomp-bpf -qq -o /dev/null -e trace=openat2 -e inject=openat2:error=ENOSYS"
    python.write_text(f'#!/bin/sh\nexec strace {options} "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))


def whole_outputs(service: Any, inside: Path, folder: Path) -> dict[str, bytes]:
    """What batches make of any of a folder's inputs when nobody disturbs them, by the output's ending."""
    found = {}
    shutil.copy(folder / INPUTS[0], inside / INPUTS[0])
    for ending in OUTPUTS:
        job = service.submit(INPUTS[0], f"whole{ending}")
        assert service.final(job)["phase"] == "COMPLETED"
        found[ending] = (inside / f"whole{ending}").read_bytes()
        (inside / f"whole{ending}").unlink()
    (inside / INPUTS[0]).unlink()
    return found


class Race:
    """Submits batches and waits for their ends, whatever these are."""

    def __init__(self, service: Any, outside: Path) -> None:
        self._service = service
        self._outside = str(outside)
        self._choose = random.Random(1)
        self._number = 0
        self.done: Counter[str] = Counter()
        self.completed: dict[str, str] = {}

    def run(self, count: int) -> None:
        """Submit some batches, and wait for those that were accepted."""
        jobs = {}
        for _ in range(count):
            self._number += 1
            source, ending = self._choose.choice(INPUTS), self._choose.choice(OUTPUTS)
            name = SAME if ending == ".txt" and self._number % 2 else f"{self._number}{ending}"
            body = {"input_filepath": f"in/{source}", "output_filepath": f"out/{name}", "overwrite": True}
            answer = self._service.http.post("/v1/batches", json=body)
            assert answer.status_code in {202, 409, 422}, answer.text
            assert self._outside not in answer.text
            self.done["submissions"] += 1
            self.done[f"answered {answer.status_code}"] += 1
            if answer.status_code == 202:
                jobs[answer.json()["batch_request_id"]] = name, ending
        for job, (name, ending) in jobs.items():
            final = self._service.final(job)
            assert self._outside not in json.dumps(final)
            assert final["phase"] == "COMPLETED" or final["error"]["code"] != "internal", final
            self.done[final["phase"].lower()] += 1
            if final["phase"] == "COMPLETED" and name != SAME:
                self.completed[name] = ending


def contents(folder: Path) -> dict[Path, bytes]:
    """The files below a folder, links left out."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return {path: path.read_bytes() for path in files}


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize("kernel", ["with openat2", "without openat2"])
def test_links_swapped_in_at_any_moment_lead_nobody_outside(
    serve: Callable[..., Any],
    rows: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kernel: str,
) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    write_inputs(inside / "in", rows(ROWS, seed=1))
    write_inputs(outside / "in", rows(ROWS, seed=2))
    for folder in (inside / "out", outside / "out"):
        folder.mkdir()
    (outside / "out" / "canary.txt").write_text("canary")
    with monkeypatch.context() as patched:
        if kernel == "without openat2":
            without_openat2(patched, tmp_path)
        service = serve(batch_roots=inside, checkpoint_interval_s=0.05)
    whole = whole_outputs(service, inside, inside / "in")
    leaked = [output[-6000:-1000] for output in whole_outputs(service, inside, outside / "in").values()]

    # Each name that a batch uses, and what a link that takes its place leads to.
    (inside / "out" / SAME).write_text("old")
    targets = {
        inside / "in": outside / "in",
        inside / "out": outside / "out",
        **{inside / "in" / source: outside / "in" / source for source in INPUTS},
        inside / "out" / SAME: outside / "out" / "canary.txt",
        inside / "out" / f"{SAME}.part": outside / "out" / "canary.txt",
    }
    pairs = [(here, inside / f"link{i}") for i, here in enumerate(targets)]
    for here, link in pairs:
        link.symlink_to(targets[here])
    before = contents(outside)
    with Watch([outside, *outside.rglob("*")]) as watch:
        race = Race(service, outside)
        begun = time.monotonic()
        with swapping(pairs, tmp_path / "stop") as end:
            while (lasted_s := time.monotonic() - begun) < SECONDS or (
                not race.done["completed"] and lasted_s < LONGEST_S
            ):
                race.run(4)
            swaps = end()
        assert not (seen := watch.seen()), seen[:20]
        assert contents(outside) == before
        assert watch.seen(), "it sees what is opened"

    for path, content in contents(inside).items():
        assert not any(some in content for some in leaked), path
    for name, ending in race.completed.items():
        assert (inside / "out" / name).read_bytes() == whole[ending], name
    assert swaps > 0
    assert race.done["completed"], race.done
    assert race.done["answered 422"] + race.done["failed"], race.done
    assert "Traceback" not in service.log.read_text()
    told = ", ".join(f"{count} {what}" for what, count in sorted(race.done.items()))
    with capsys.disabled():
        sys.stdout.write(f"\n{kernel}: {swaps} swaps in {lasted_s:.1f} s; {told}\n")
