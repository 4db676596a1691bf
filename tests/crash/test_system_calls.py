"""The system calls of a batch: in which order they come, and what becomes of it when one of them fails.

strace watches the service and all processes below it, and makes one call on the batch's own files fail.
"""

from __future__ import annotations

import re
import shutil
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from tests.tracing import traced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import psutil

    from tests.crash.conftest import BatchStatistics, Case, Scale, Watcher
    from tests.serving.conftest import Service

CALLS = (
    "write",
    "pwrite64",
    "writev",
    "pwritev",
    "fdatasync",
    "fsync",
    "rename",
    "renameat",
    "renameat2",
    "link",
    "linkat",
    "unlink",
    "unlinkat",
    "ftruncate",
)
Fault = Literal["KILL", "ENOSPC", "EIO"]
FAULTS: dict[Fault, str] = {"KILL": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}
CODES = {"ENOSPC": ("no_space",), "EIO": ("output_unusable",)}
Story = Literal["new", "overwrite", "cancel", "resume"]
STORIES: tuple[Story, ...] = ("new", "overwrite", "cancel", "resume")
OLD = b"what was there before\n"
FAULT_WITHIN_S = 15.0
LINE = re.compile(r"^(?P<pid>\d+) +(?P<resumed><\.\.\. )?(?P<name>\w+)(?: resumed>|\()(?P<rest>.*)$")


@dataclass
class Call:
    """One system call: its text, and the lines of the log at which it began and ended."""

    pid: int
    name: str
    text: str
    began: int
    ended: int

    @property
    def where(self) -> str:
        """The path of the descriptor it is about, or nothing."""
        found = re.match(r"\d+<([^>]*)>", self.text)
        return found[1] if found else ""

    @property
    def span(self) -> tuple[int, int]:
        """Bytes written by a pwrite64: first and end."""
        size, offset = re.findall(r", (\d+), (\d+)\)? ", self.text)[-1]
        return int(offset), int(offset) + int(size)


def strace_command(paths: Sequence[Path], log: Path, *, inject: str = "", strings: int = 32) -> list[str]:
    """Give the command that traces calls on these paths, all threads and children included."""
    command = ["strace", "-f", "-y", "-s", str(strings), "-o", str(log), "-e", f"trace={','.join(CALLS)}"]
    command += [part for path in paths for part in ("-P", str(path))]
    return [*command, *(["-e", f"inject={inject}"] if inject else [])]


def calls_of(log: Path) -> list[Call]:
    """Read a log of strace, in the order of the log."""
    found: list[Call] = []
    open_calls: dict[int, Call] = {}
    for i, line in enumerate(log.read_text(errors="replace").splitlines()):
        match = LINE.match(line)
        if match is None:
            continue
        pid = int(match["pid"])
        if match["resumed"]:
            call = open_calls.pop(pid)
            call.text += match["rest"]
            call.ended = i
            continue
        call = Call(pid, match["name"], match["rest"], i, i)
        found.append(call)
        if match["rest"].endswith("<unfinished ...>"):
            call.text = match["rest"].removesuffix("<unfinished ...>")
            open_calls[pid] = call
    return found


def attached(
    service: Service, family: Sequence[psutil.Process], command: list[str]
) -> AbstractContextManager[None]:
    """Trace the running service and what is below it."""
    # Killed, not asked to end: it may then wait for threads that a kill took away from it.
    return traced([service.process.pid, *(child.pid for child in family)], command, end=signal.SIGKILL)


@pytest.fixture
def _with_strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")


@pytest.mark.usefixtures("_with_strace")
def test_what_the_database_says_is_true_of_the_files_before_it_says_so(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    family: Callable[[Service], list[psutil.Process]],
    statistics: BatchStatistics,
    tmp_path: Path,
) -> None:
    """Rows, fdatasync, folder, checkpoint in the database; …; rename, folder, COMPLETED in the database."""
    some = case(4000, bad=7)
    service = serve()
    log = tmp_path / "log"
    target = service.data / "out" / "o.txt"
    part, report = target.with_name("o.txt.part"), target.with_name("o.txt.errors.jsonl")
    wal = service.data / "jobs" / "jobs.duckdb.wal"
    paths = [target, part, target.parent, wal, report, report.with_name(report.name + ".part")]
    with attached(service, family(service), strace_command(paths, log, strings=16_384)):
        job = service.submit(some.source, target, on_bad_row=some.on_bad_row)
        assert service.final(job)["phase"] == "COMPLETED"
    some.check(target)
    calls = [call for call in calls_of(log) if " = -1 " not in call.text]

    def of(path: Path, *names: str) -> list[Call]:
        return [call for call in calls if call.name in names and call.where == str(path)]

    writes = of(part, "write", "pwrite64", "writev", "pwritev")
    assert {call.name for call in writes} == {"pwrite64"}
    syncs = of(part, "fdatasync", "fsync")
    folder_syncs = of(target.parent, "fsync")
    commits = of(wal, "fdatasync", "fsync")
    said = of(wal, "write", "pwrite64")

    def durable(call: Call) -> Call:
        """The sync that brings a write to the database's log to disk."""
        return next(commit for commit in commits if commit.began > call.ended)

    checkpoints = [
        (call, int(found[1])) for call in said if (found := re.search(r'output_bytes\\":(\d+)', call.text))
    ]
    assert len(checkpoints) >= 2
    for call, output_bytes in checkpoints:
        assert any(
            sync.ended < call.began
            and all(write.ended < sync.began for write in writes if write.span[0] < output_bytes)
            for sync in syncs
        ), f"a checkpoint of {output_bytes} bytes was stored before they were on disk"
        assert any(sync.ended < call.began for sync in folder_syncs), "the part's name was not on disk"
        statistics.add("checkpoints checked")

    def named(path: Path) -> Call:
        """The call that gives a file its final name, in the folder that is held."""
        moves = (call for call in calls if call.name in {"renameat", "renameat2", "linkat"})
        return next(call for call in moves if f'<{path.parent}>, "{path.name}"' in call.text)

    rename = named(target)
    last, output_bytes = checkpoints[-1]
    assert output_bytes == some.size_bytes
    assert durable(last).ended < rename.began
    finalizing = next(call for call in said if "FINALIZING" in call.text)
    assert durable(finalizing).ended < rename.began
    assert max(write.ended for write in writes) < max(sync.began for sync in syncs) < rename.began
    assert not of(target, "write", "pwrite64", "ftruncate"), "nothing is written under the final name"
    completed = next(call for call in said if "COMPLETED" in call.text)
    assert any(rename.ended < sync.began and sync.ended < completed.began for sync in folder_syncs)
    assert named(report).ended < rename.began, "who sees the output sees what it says about it"
    statistics.require("checkpoints checked", 2)


@pytest.mark.usefixtures("_with_strace")
def test_a_batch_whose_system_call_fails_ends_whole_or_failed_with_the_reason(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    family: Callable[[Service], list[psutil.Process]],
    hold_the_gate: Callable[[Service], Any],
    check_code: Callable[..., None],
    watcher: Watcher,
    statistics: BatchStatistics,
    scale: Scale,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(serve(), case, family, hold_the_gate, watcher, monkeypatch, tmp_path)
    every: list[tuple[Story, str, int, Fault]] = []
    for story in STORIES if scale.every_fault else ():
        for name, count in bench.count_calls(story).items():
            if (story, name) == ("cancel", "pwrite64"):
                continue  # whether it still writes before it hears of the cancellation is a matter of luck
            # How much a batch writes before a cancellation, and after a kill, differs from time to time.
            varies = story in {"cancel", "resume"} and name not in {"ftruncate", "renameat", "renameat2"}
            numbers = range(1, 2 if varies else count + 1)
            every += [(story, name, number, fault) for number in numbers for fault in FAULTS]
    few: list[tuple[Story, str, int, Fault]] = [
        ("new", "pwrite64", 2, "KILL"),
        ("new", "pwrite64", 1, "ENOSPC"),
        ("new", "fdatasync", 1, "EIO"),
        ("new", "renameat2", 2, "KILL"),
        ("new", "fsync", 2, "KILL"),
        ("overwrite", "renameat", 1, "EIO"),
    ]
    points = every or few
    statistics.require("faults injected", max(len(points), len(few)))
    wrong: list[str] = []
    for story, name, number, fault in points:
        try:
            outcome = bench.inject(story, name, number, fault, check_code)
        except AssertionError as error:  # the others are looked at too
            wrong.append(f"{story}, {name} number {number}, {fault}: {error}")
            bench.service.restart(signal.SIGKILL)
        else:
            statistics.add(f"{fault}: {outcome}")
        statistics.add("faults injected")
    assert not wrong, "\n\n".join([f"{len(wrong)} of {len(points)}", *wrong])
    assert "Traceback" not in bench.service.log.read_text()


class Bench:
    """Tells one of four stories of a batch while a system call fails."""

    def __init__(
        self,
        service: Service,
        case: Callable[..., Case],
        family: Callable[[Service], list[psutil.Process]],
        hold_the_gate: Callable[[Service], Any],
        watcher: Watcher,
        monkeypatch: pytest.MonkeyPatch,
        folder: Path,
    ) -> None:
        self.service = service
        # One checkpoint, at the end: then the calls of a story are the same each time.
        self._once = {"checkpoint_interval_s": 60}
        self._often = {"checkpoint_interval_s": 0.05}
        good = case(60)
        self._cases: dict[Story, Case] = {
            "new": case(400, bad=3),
            "overwrite": good,
            "cancel": case(4000),
            "resume": case(4000),
        }
        self._family, self._hold, self._watcher = family, hold_the_gate, watcher
        self._monkeypatch, self._folder = monkeypatch, folder
        self._told = 0

    def count_calls(self, story: Story) -> dict[str, int]:
        """Tell a story in peace; give the most calls of each name that one thread makes on its files."""
        with self._told_under_strace(story, "") as (job, _, log, _):
            self.service.final(job)
        self.service.restart(signal.SIGKILL)  # rid of its tracer
        counts: Counter[tuple[int, str]] = Counter((call.pid, call.name) for call in calls_of(log))
        most: dict[str, int] = {}
        for (_, name), count in counts.items():
            most[name] = max(count, most.get(name, 0))
        return most

    def inject(
        self, story: Story, name: str, number: int, fault: Fault, check_code: Callable[..., None]
    ) -> str:
        """Tell a story, make a call fail, start anew without faults; give the job's end."""
        what = f"{story}, {name} number {number}: {fault}"
        inject = f"{name}:{FAULTS[fault]}:when={number}"
        with self._told_under_strace(story, inject) as (job, target, log, some):
            mark = "killed by SIGKILL" if fault == "KILL" else "(INJECTED)"
            self._wait_for(mark, log, what)
            before = None if fault == "KILL" else self.service.final(job)
        self.service.restart(signal.SIGKILL)
        final = self.service.final(job)
        assert before is None or final["phase"] == before["phase"], what
        report = target.with_name(target.name + ".errors.jsonl")
        if final["phase"] == "COMPLETED":
            assert story != "cancel", what
            some.check(target)
        elif final["phase"] == "CANCELLED":
            assert story == "cancel", what
        else:
            assert fault != "KILL", (what, final)
            check_code(final, *CODES[fault])
        if final["phase"] != "COMPLETED" and (not target.exists() or target.read_bytes() == OLD):
            assert target.exists() == (story == "overwrite"), what
            assert story == "overwrite" or not report.exists(), f"{what}: a report without its output"
        elif final["phase"] != "COMPLETED":  # the folder could not be synced after the rename
            assert name == "fsync", what
            some.check(target)
        if not name.startswith("unlink") or fault == "KILL":
            assert not list(target.parent.glob("*.part*")), f"{what}: a part stays behind"
        shutil.rmtree(target.parent)
        return str(final["phase"])

    @contextmanager
    def _told_under_strace(self, story: Story, inject: str) -> Iterator[tuple[str, Path, Path, Case]]:
        """Tell a story up to its batch's work; give the job, its output, the log and what must come out."""
        self._told += 1
        service, folder = self.service, self.service.data / "out" / str(self._told)
        folder.mkdir()
        target, log = folder / "o.txt", self._folder / f"log{self._told}"
        names = ("", ".part", ".errors.jsonl", ".errors.jsonl.part")
        paths = [folder, *(folder / f"o.txt{ending}" for ending in names)]
        command = strace_command(paths, log, inject=inject)
        some = self._cases[story]
        wanted = some.wanted(target, overwrite=story == "overwrite")
        if story == "overwrite":
            for path in (target, target.with_name("o.txt.errors.jsonl")):
                path.write_bytes(OLD)
        self._watcher.watch(target, some.size_bytes, *([len(OLD)] if story == "overwrite" else []))
        self._settle(self._often if story in {"cancel", "resume"} else self._once)
        with ExitStack() as stack:
            if story in {"new", "overwrite"}:
                stack.enter_context(attached(service, self._family(service), command))
            job = self._submit(wanted)
            if story in {"cancel", "resume"}:
                service.until(lambda: service.status(job)["num_records_processed"])
            if story == "resume":
                service.end(signal.SIGKILL)
                service.settings |= self._once
                self._start_under(command)
            elif story == "cancel":
                with self._hold(service):
                    stack.enter_context(attached(service, self._family(service), command))
                    service.http.post(f"/v1/batches/{job}/cancel")
            yield job, target, log, some
        self._watcher.forget(target)

    @staticmethod
    def _wait_for(mark: str, log: Path, what: str) -> None:
        deadline = time.monotonic() + FAULT_WITHIN_S
        while mark not in (text := log.read_text(errors="replace")):
            assert time.monotonic() < deadline, f"{what} never happened:\n{text}"
            time.sleep(0.01)

    def _submit(self, wanted: dict[str, Any]) -> str:
        answer = self.service.http.post("/v1/batches", json=wanted)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["batch_request_id"])

    def _settle(self, settings: dict[str, Any]) -> None:
        """Have the service run with these settings."""
        if not settings.items() <= self.service.settings.items():
            self.service.restart_with(**settings)

    def _start_under(self, command: list[str]) -> None:
        """Start the service under strace: a batch that is to go on does so at once."""
        python = self._folder / "python"
        # As a grandchild, so that the process that is started is the service itself.
        words = " ".join(f"'{word}'" for word in [*command, "-D", sys.executable])
        python.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        python.chmod(0o755)
        with self._monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(python))
            try:
                self.service.start()
            except AssertionError:  # killed at once: that is the story
                assert self.service.process.poll() == -signal.SIGKILL
