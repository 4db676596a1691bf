"""The README is run: what it shows is what happens.

The convention
--------------
A fenced block ```` ```console ```` holds commands and what they print::

    $ embup models --registry data/registry
    version                   decoder ...
    20250101-120000-0a1b2c3d  kriging ...

- A line that begins with ``$ `` is a command. It goes on over lines that begin with ``> `` (here documents)
  and after a ``\\`` at a line's end. It has to end with exit code 0; one shown failing ends in
  ``|| echo "exit code $?"``.
- The lines up to the next command are what it prints on stdout (``2>&1`` shows errors too), compared as
  doctest does with ELLIPSIS and NORMALIZE_WHITESPACE: ``...`` stands for anything. A command with no such
  lines may print what it likes.
- In a block ```` ```sh ```` every line is a command, and nothing is compared.

All blocks run in the order of the page, in one working folder of their own whose `data/registry` holds a
small decoder already, with `.venv/bin` first in PATH and a real service on `data/`. Where the page says
`127.0.0.1:8000` or `localhost:8000`, the free port of that service is put in, and taken out of the output.

A block is left out only by the line before its fence: ``<!-- not run: REASON -->``. That is for commands
that other tests run (`make demo`, `make dev`), that stay in the foreground (`embup serve`), or that need
what a test has not got.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from embup_cli.service_process import service_process

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "README.md"
FENCE = re.compile(r"^```(console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run:(.*)-->\s*\Z")
COMMAND_TIMEOUT_S = 240


@dataclass(frozen=True)
class Step:
    """One command of the page, and what the page says it prints."""

    line: int
    command: str
    printed: str


@dataclass(frozen=True)
class Block:
    """One fenced block. `reason` is why it is not run, or None."""

    line: int
    steps: tuple[Step, ...]
    reason: str | None


@dataclass(frozen=True)
class Place:
    """Where the commands run."""

    folder: Path
    port: int


def parse_blocks(text: str) -> list[Block]:
    blocks = []
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        mark = NOT_RUN.search(text[: fence.start()])
        content = fence[2] if fence[1] == "console" else _as_console(fence[2])
        blocks.append(Block(line, _parse_steps(content, line + 1), mark[1].strip() if mark else None))
    return blocks


def _as_console(script: str) -> str:
    lines, goes_on = [], False
    for line in script.splitlines():
        if line.strip() and not line.startswith("#"):
            lines.append(("> " if goes_on else "$ ") + line + "\n")
            goes_on = line.endswith("\\")
    return "".join(lines)


def _parse_steps(content: str, first_line: int) -> tuple[Step, ...]:
    found: list[tuple[int, list[str], list[str]]] = []
    for number, line in enumerate(content.splitlines(), first_line):
        if line.startswith("$ "):
            found.append((number, [line[2:]], []))
        elif not found:
            raise ValueError(f"{PAGE.name}:{number}: a console block begins with a command: `$ …`")
        elif not found[-1][2] and line.startswith("> "):
            found[-1][1].append(line[2:])
        elif not found[-1][2] and found[-1][1][-1].endswith("\\"):
            found[-1][1].append(line)
        else:
            found[-1][2].append(line)
    return tuple(
        Step(number, "\n".join(command), "\n".join(printed).strip()) for number, command, printed in found
    )


BLOCKS = parse_blocks(PAGE.read_text())


@pytest.fixture(scope="module")
def place(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A working folder with a decoder in it and a service beside it."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(registry.root, folder / "data" / "registry", symlinks=True)
    with service_process(
        registry=folder / "data" / "registry", data=folder / "data", log=folder / "service.log"
    ) as url:
        yield Place(folder, int(url.rpartition(":")[2]))


def run(step: Step, place: Place) -> subprocess.CompletedProcess[str]:
    command = re.sub(r"\b(127\.0\.0\.1|localhost):8000\b", rf"\1:{place.port}", step.command)
    binaries = Path(sys.executable).parent
    variables = {name: value for name, value in os.environ.items() if not name.startswith("EMBUP_")}
    variables |= {
        "PATH": f"{binaries}:{variables['PATH']}",
        "VIRTUAL_ENV": str(binaries.parent),
        "EMBUP_SERVICE_URL": f"http://127.0.0.1:{place.port}",
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=place.folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def difference(step: Step, printed: str, place: Place) -> str:
    """What stands between the page and what was printed; empty where they agree."""
    got = re.sub(rf"\b(127\.0\.0\.1|localhost):{place.port}\b", r"\1:8000", printed)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    checker = doctest.OutputChecker()
    if not step.printed or checker.check_output(step.printed + "\n", got.strip() + "\n", options):
        return ""
    example = doctest.Example(step.command, step.printed + "\n")
    return checker.output_difference(example, got.strip() + "\n", options | doctest.REPORT_NDIFF)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.reason is None], ids=lambda b: f"line{b.line}"
)
def test_a_block_of_the_readme_does_what_it_shows(block: Block, place: Place) -> None:
    for step in block.steps:
        result = run(step, place)
        where = f"{PAGE.name}:{step.line}: $ {step.command}"
        assert result.returncode == 0, (
            f"{where}\nended with {result.returncode}\n{result.stdout}{result.stderr}"
        )
        found = difference(step, result.stdout, place)
        assert not found, f"{where}\n{found}"


def test_the_readme_shows_commands_and_gives_a_reason_for_each_block_left_out() -> None:
    assert any(block.reason is None for block in BLOCKS)
    assert all(block.reason for block in BLOCKS if block.reason is not None)


PAGE_OF_ITS_OWN = """\
text
```console
$ echo one \\
  two
one ...
$ cat <<'EOF'
> http://localhost:8000
> EOF
http://localhost:8000
```
<!-- not run: takes a day -->
```sh
sleep 86400
```
```sh
# a comment
true
```
```python
not a command
```
"""


def test_blocks_commands_and_marks_are_found() -> None:
    first, second, third = parse_blocks(PAGE_OF_ITS_OWN)
    assert [(step.line, step.printed) for step in first.steps] == [
        (3, "one ..."),
        (6, "http://localhost:8000"),
    ]
    assert (first.reason, second.reason, third.reason) == (None, "takes a day", None)
    assert [step.command for step in third.steps] == ["true"]


def test_a_page_that_tells_the_truth_passes_and_one_that_does_not_fails(tmp_path: Path) -> None:
    here = Place(tmp_path, 4711)
    for step in parse_blocks(PAGE_OF_ITS_OWN)[0].steps:
        printed = run(step, here).stdout
        assert difference(step, printed, here) == ""
        assert difference(Step(step.line, step.command, "something else"), printed, here)
    assert "4711" in run(Step(1, "echo http://127.0.0.1:8000", ""), here).stdout
