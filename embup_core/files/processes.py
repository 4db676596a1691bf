"""What a process asks of the operating system for itself: to end with its parent, to yield to others."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ONE_MATH_THREAD: Final[Mapping[str, str]] = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"
)
"""Environment of a process that forks helpers: the libraries read it when they are loaded."""

_PR_SET_PDEATHSIG: Final = 1
_NICEST: Final = 19
_OOM_SCORE: Final = "700"


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however that ends (Linux; else does nothing).

    Parameters
    ----------
    parent
        The process id of the parent as it was before this process began.
    """
    if not is_linux():
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def yield_to_others() -> None:
    """Take only the processor time that nobody else wants, and be the first to go when memory runs out."""
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    os.nice(_NICEST)
    be_the_first_to_go()


def be_the_first_to_go() -> None:
    """Have the kernel end this process before the service when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")


def is_linux() -> bool:
    """Whether the kernel has what the service rests on, and forks a process whose libraries are loaded."""
    return sys.platform.startswith("linux")


def spare_cores() -> int:
    """Processes to fork beside this one: one a further core; none where forking is not safe (macOS)."""
    return usable_cores() - 1 if is_linux() else 0


def usable_cores() -> int:
    """Cores that this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
