"""Lines far over the limit: refused in little memory, their neighbours answered; wherever a line stands.

With `EMBUP_CRASH_SCALE=full` the line has a gigabyte, else 64 MB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embup_core.batch import BatchRun, BatchSpec, run_to_completion

if TYPE_CHECKING:
    from tests.embup_core.batch.conftest import RandomMapUpsampler

LONG_LINE_BYTES = 1_000_000_000 if os.environ.get("EMBUP_CRASH_SCALE") == "full" else 64_000_000
GROWTH_KIB = 16 * 1024
GOOD = ",".join(f"{0.25 * value:.4f}" for value in range(-16, 16)).encode()

BATCH_IN_A_PROCESS = """
import json, runpy, sys
from pathlib import Path
from embup_core.batch import BatchRun, BatchSpec, run_to_completion
from embup_core.errors import BadRowError
upsampler = runpy.run_path(sys.argv[1])["RandomMapUpsampler"]()
folder, policy = Path(sys.argv[2]), sys.argv[3]
def peak_kib():
    # VmHWM and not ru_maxrss, which a child takes over from the process that started it.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0])
def answer(name):
    try:
        run_to_completion(BatchRun(BatchSpec(folder / name, folder / (name + ".out"), policy), upsampler))
    except BadRowError as error:
        return [error.line, error.reason, len(error.raw)]
answer("small.txt")
before = peak_kib()
error = answer("large.txt")
print(json.dumps([error, peak_kib() - before]))
"""


def write_with_long_line(path: Path, place: int, filling: bytes, length: int, *, ended: bool) -> None:
    """Two hundred good lines and, at a place among them, one that is filled in blocks."""
    block = filling * (100_000 // len(filling))
    with path.open("wb") as file:
        file.write((GOOD + b"\n") * (place - 1))
        for _ in range(length // len(block)):
            file.write(block)
        if ended:
            file.write(b"\n" + (GOOD + b"\n") * (200 - place + 1))


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("place", "filling", "ended"),
    [
        pytest.param(1, b"7", True, id="digits at the start"),
        pytest.param(150, b"1.5,", True, id="values in the middle"),
        pytest.param(150, b" ", True, id="spaces in the middle"),
        pytest.param(201, b"\x00", False, id="zero bytes at the end, not ended"),
    ],
)
def test_a_line_of_a_gigabyte_is_refused_in_little_memory(
    tmp_path: Path, place: int, filling: bytes, ended: bool
) -> None:
    conftest = Path(__file__).with_name("conftest.py")
    large = tmp_path / "large.txt"
    write_with_long_line(tmp_path / "small.txt", place, filling, 100_000, ended=ended)
    write_with_long_line(large, place, filling, LONG_LINE_BYTES, ended=ended)
    try:
        for policy in ("fail", "nan"):
            result = subprocess.run(
                [sys.executable, "-c", BATCH_IN_A_PROCESS, str(conftest), str(tmp_path), policy],
                capture_output=True,
                text=True,
                check=True,
            )
            error, growth_kib = json.loads(result.stdout)
            print(policy, growth_kib, "KiB more")  # noqa: T201 - shown by -rP
            assert error == (None if policy == "nan" else [place, "longer than 65536 bytes", 1024])
            assert growth_kib < GROWTH_KIB
    finally:
        large.unlink()
    rows = (tmp_path / "large.txt.out").read_text().splitlines()
    assert rows == (tmp_path / "small.txt.out").read_text().splitlines()
    assert [number for number, row in enumerate(rows, start=1) if "nan" in row] == [place]
    assert len(rows) == (201 if ended else place)
    report = json.loads((tmp_path / "large.txt.out.errors.jsonl").read_text())
    assert (report["line"], len(report["raw"])) == (place, 1024)


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"\r\r", id="two carriage returns"),
        pytest.param(b"\r \r", id="a carriage return and a space"),
        pytest.param(b",x \t", id="a refused value and spaces"),
        pytest.param(b" " * 65_536, id="spaces over the limit"),
    ],
)
def test_a_line_is_refused_at_the_end_of_the_file_as_before_it(
    tmp_path: Path, random_map: RandomMapUpsampler, tail: bytes
) -> None:
    """Blank lines at the end are no rows; what is blank at the end of a row still is that row's."""
    reports: list[bytes] = []
    for name, behind in (("end", b""), ("middle", b"\n" + GOOD)):
        (tmp_path / name).write_bytes(GOOD + b"\n" + GOOD + tail + behind)
        spec = BatchSpec(tmp_path / name, tmp_path / f"{name}.out", "nan")
        run_to_completion(BatchRun(spec, random_map))
        rows = spec.output_path.read_text().splitlines()
        assert ["nan" in row for row in rows] == [False, True, False][: len(rows)]
        reports.append(spec.errors_path.read_bytes())
    assert reports[0] == reports[1]
