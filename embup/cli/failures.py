"""How a command ends when it cannot do what was asked: exit codes, and errors as a sentence and a remedy.

Nothing here raises errors of its own; `embup_core.errors` has the tree.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from embup_core.errors import (
    EmbupError,
    InvalidArtifactError,
    JobConflictError,
    JobError,
    TrainingError,
    UnknownJobError,
)
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from typing import Never

FAILED = 1  # a job or a check failed
BAD_INPUT = 2  # usage, or something handed in; typer's own usage errors have the same code
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
TRACEBACK_VARIABLE = "EMBUP_TRACEBACK"


def exit_code(error: EmbupError) -> int:
    """Tell failed work (1) from input that must change before a second try makes sense (2)."""
    if isinstance(error, JobError):
        return BAD_INPUT if isinstance(error, UnknownJobError | JobConflictError) else FAILED
    return FAILED if isinstance(error, TrainingError | InvalidArtifactError) else BAD_INPUT


def print_error(message: str, remedy: str = "") -> None:
    """Print one error on stderr: what happened, and on a line of its own what to do."""
    print(f"error: {message}", file=sys.stderr)
    if remedy:
        print(f"  {remedy}", file=sys.stderr)


class PlainErrors(TyperGroup):
    """A command group whose commands end with a message and an exit code, never with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command; turn what it raises into a message and an exit code."""
        try:
            with extra_required():
                return super().invoke(ctx)
        except EmbupError as error:
            print_error(error.message, error.remedy)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt as interrupt:
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from interrupt
        except BrokenPipeError:
            self._end_quietly()
        except (typer.Exit, typer.Abort):
            raise
        except OSError as error:
            print_error(str(error))
            raise typer.Exit(BAD_INPUT) from error
        except Exception as error:
            if hasattr(error, "exit_code"):  # typer's usage errors, which it prints itself
                raise
            if os.environ.get(TRACEBACK_VARIABLE):
                traceback.print_exc()
            print_error(
                f"this is a fault of embup itself: {type(error).__name__}: {error}",
                f"Run it again with {TRACEBACK_VARIABLE}=1 to see where it happened.",
            )
            raise typer.Exit(FAILED) from error

    @staticmethod
    def _end_quietly() -> Never:
        """End when the reader of stdout has gone (`embup list | head`), without a second error at exit."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED)
