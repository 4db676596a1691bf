"""No command ends with a traceback: a message, a remedy, and an exit code that means something."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from embup.cli.failures import exit_code
from embup_core.errors import (
    BadRowError,
    EmbupError,
    InputFileError,
    InvalidArtifactError,
    InvalidDataError,
    JobConflictError,
    JobError,
    NoArtifactError,
    OutputError,
    SourceUnavailableError,
    TrainingError,
    UnknownJobError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FAILING = """
import typer
from embup.cli.failures import PlainErrors

app = typer.Typer(cls=PlainErrors, pretty_exceptions_enable=False, rich_markup_mode=None)

@app.command()
def fail():
    {body}

@app.command()
def other():
    pass

app(["fail"])
"""


def _run(body: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FAILING.format(body=body)],
        capture_output=True,
        text=True,
        check=False,
        env=variables or None,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrainingError("x"), 1),
        (InvalidArtifactError("x"), 1),
        (JobError("x"), 1),
        (UnknownJobError("x"), 2),
        (JobConflictError("x"), 2),
        (NoArtifactError("x"), 2),
        (InvalidDataError("x"), 2),
        (SourceUnavailableError("x"), 2),
        (BadRowError(3, "x"), 2),
        (InputFileError("x"), 2),
        (OutputError("x"), 2),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, EmbupError) else str(value),
)
def test_exit_codes_tell_failed_work_from_bad_input(error: EmbupError, code: int) -> None:
    assert exit_code(error) == code


def test_an_error_of_embup_is_a_message_and_a_remedy() -> None:
    result = _run("from embup_core.errors import InputError; raise InputError('it is so', remedy='Do this.')")
    assert (result.returncode, result.stdout, result.stderr) == (2, "", "error: it is so\n  Do this.\n")


def test_an_unexpected_error_is_a_message_that_says_how_to_see_more() -> None:
    result = _run("raise RuntimeError('boom')")
    assert result.returncode == 1
    assert "RuntimeError: boom" in result.stderr
    assert "EMBUP_TRACEBACK=1" in result.stderr
    assert "Traceback" not in result.stderr
    assert "Traceback" in _run("raise RuntimeError('boom')", EMBUP_TRACEBACK="1").stderr


def test_an_interrupt_ends_with_130_and_no_traceback() -> None:
    result = _run("raise KeyboardInterrupt")
    assert (result.returncode, result.stderr) == (128 + signal.SIGINT, "interrupted\n")


def test_a_reader_that_goes_away_is_no_error_message() -> None:
    script = FAILING.format(body="[print('line', flush=True) for _ in range(100_000)]")
    result = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | head -n 1', sys.executable, script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (result.stdout, result.stderr) == ("line\n", "")


def test_an_unknown_command_is_a_usage_error(embup: Callable[..., Any]) -> None:
    result = embup("upsampel")
    assert result.returncode == 2
    assert "upsampel" in result.stderr
