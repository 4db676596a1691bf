"""The local engine: calls of one function in processes of this machine.

Forked ones inherit the loaded decoder. Where an object store is used they are started anew: its client has
threads of its own, which a fork does not have.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from embup_core.errors import JobError
from embup_core.files.processes import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

T = TypeVar("T")


def forked(
    work: Callable[[str], T], names: Sequence[str], *, workers: int, anew: bool = False
) -> Generator[T]:
    """Call a function with each name in processes of their own; give results as they come.

    Parameters
    ----------
    work
        Its results travel by pickle.
    names
        Handed out in this order.
    workers
        Processes; one calls the function in this process.
    anew
        Whether to start them as new programs, and not by a fork.

    Raises
    ------
    JobError
        A process was killed.
    """
    if workers == 1:
        yield from map(work, names)
        return
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn" if anew else "fork")
    executor = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(os.getpid(),))
    try:
        for future in as_completed([executor.submit(_call, work, name) for name in names]):
            yield future.result()
    except BrokenProcessPool as error:
        raise JobError(
            "A process that decodes was killed.",
            remedy="Free memory, or use fewer --workers; then run it again.",
        ) from error
    finally:
        for child in set(multiprocessing.active_children()) - others:
            child.terminate()  # in the middle of a part, where the caller ends early
        executor.shutdown(cancel_futures=True)


def _begin(parent: int) -> None:
    """An interrupt is the parent's matter."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    end_with_parent(parent)


def _leave(*_: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would cut the clean-up off
    raise SystemExit


def _call(work: Callable[[str], T], name: str) -> T:
    try:
        return work(name)
    except SystemExit:  # its temporary files are removed; the pool would give it the next name
        os._exit(1)
