"""Pages are run: what they show is what happens. A test module names its page in `PAGE`.

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

All blocks run in the order of the page, in one working folder of their own (the fixture `place` of the
test's module), with `.venv/bin` first in PATH. Where the page says `127.0.0.1:8000` or `localhost:8000`, the
free port of a real service is put in, and taken out of the output.

A block is left out only by the line before its fence: ``<!-- not run: REASON -->``. That is for commands
that other tests run (`make demo`, `make dev`), that stay in the foreground (`embup serve`), or that need
what a test has not got.
"""

from __future__ import annotations

import doctest
import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

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
            raise ValueError(f"line {number}: a console block begins with a command: `$ …`")
        elif not found[-1][2] and line.startswith("> "):
            found[-1][1].append(line[2:])
        elif not found[-1][2] and found[-1][1][-1].endswith("\\"):
            found[-1][1].append(line)
        else:
            found[-1][2].append(line)
    return tuple(
        Step(number, "\n".join(command), "\n".join(printed).strip()) for number, command, printed in found
    )


PYTHON = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\n```text\n(?P<printed>.*?)^```$)?", re.MULTILINE | re.DOTALL
)


def run_session(page: Path, session: dict[str, Any], place: Place) -> None:
    """Run a page's Python blocks in order; a text block is what the block before it prints."""
    text = page.read_text()
    for block in PYTHON.finditer(text):
        line = text.count("\n", 0, block.start("code"))
        code = block["code"].replace("http://127.0.0.1:8000", f"http://127.0.0.1:{place.port}")
        printed = io.StringIO()
        with redirect_stdout(printed):
            exec(compile("\n" * line + code, page.name, "exec"), session)  # noqa: S102  the page is tested
        if block["printed"] is not None:
            found = difference(Step(line, code, block["printed"].strip()), printed.getvalue(), place)
            assert not found, f"{page.name}:{line}\n{found}"


def run(step: Step, place: Place) -> subprocess.CompletedProcess[str]:
    """Run one command where the page's commands run."""
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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for a `block` is run on each of its page's blocks that is to be run."""
    if "block" in metafunc.fixturenames:
        blocks = [block for block in parse_blocks(metafunc.module.PAGE.read_text()) if block.reason is None]
        metafunc.parametrize("block", blocks, ids=lambda block: f"line{block.line}")


@pytest.fixture(scope="session")
def pages() -> SimpleNamespace:
    """What reads and runs pages."""
    return SimpleNamespace(
        Place=Place,
        Step=Step,
        parse_blocks=parse_blocks,
        run=run,
        difference=difference,
        check=check,
        run_session=run_session,
    )


def check(page: Path, block: Block, place: Place) -> None:
    """Run a block and compare what it prints."""
    for step in block.steps:
        result = run(step, place)
        where = f"{page.name}:{step.line}: $ {step.command}"
        assert result.returncode == 0, (
            f"{where}\nended with {result.returncode}\n{result.stdout}{result.stderr}"
        )
        found = difference(step, result.stdout, place)
        assert not found, f"{where}\n{found}"
