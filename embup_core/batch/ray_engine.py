"""Calls of one function spread over a Ray cluster; the only module that knows Ray.

Tasks, not actors: a worker's process keeps the decoder that it has loaded from task to task, and a task whose
node dies goes to any other node with a free core. An actor's call waits for its actor, which has nowhere to
restart on a full cluster, and the run would wait with it. Ray Data maps with actors, too; its strength is to
move blocks of rows, and here only names of parts travel.
"""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from embup_core.errors import InvalidArgumentError, JobError
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

T = TypeVar("T")

_LOG: Final = logging.getLogger(__name__)

TRIES: Final = 10
"""How often a call is tried that dies with its process or machine; an error that it raises ends the run."""
_OBJECT_STORE_BYTES: Final = (
    100_000_000  # only names and records travel; Ray would take a third of the memory
)
_QUEUED_PER_CORE: Final = 2  # so that no core waits for the driver, and a cluster that grows finds work

_LOOK_EVERY_S: Final = 1.0
_ANSWER_S: Final = 10.0
_NOTICE_S: Final = 30.0
_NO_CORE: Final = (
    f"note: after {_NOTICE_S:.0f} s no part is finished, and no core of the Ray cluster is free; "
    "`ray status` says what takes them."
)


@contextmanager
def cluster(address: str | None, cores: int | None = None) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine, for this block; keep a connection that is there.

    Parameters
    ----------
    address
        Of a cluster; None starts Ray here.
    cores
        Tasks at a time of one that is started here; by default one a core.

    Raises
    ------
    MissingExtraError
        Ray is not installed.
    InvalidArgumentError
        No cluster answers there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it is read on import
    with extra_required():
        import ray
    if ray.is_initialized():  # the program's own connection
        yield
        return
    options: dict[str, Any] = {"address": address}
    if address is not None:
        _require_answer(address)
    else:
        options = {
            "address": "local",  # else it would join one that it finds
            "num_cpus": cores,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def spread(work: Callable[[str], T], names: Sequence[str], *, workers: int | None = None) -> Generator[T]:
    """Call a function with each name on the cluster that is connected; give results as they come.

    Parameters
    ----------
    work
        Travels by pickle. It may run twice for a name, even at the same time, where a machine is lost.
    names
        Handed out in this order.
    workers
        Calls at a time; by default one a core of the cluster, which may grow.

    Raises
    ------
    JobError
        A call died `TRIES` times, or raised what is no error of embup.
    """
    import ray
    from ray.exceptions import RayError

    task: Any = ray.remote(num_cpus=1, max_retries=TRIES - 1, scheduling_strategy="SPREAD")(_call)
    waiting = iter(names)
    running: dict[Any, str] = {}
    most, looked_s, notice_s = 0, -_LOOK_EVERY_S, time.monotonic() + _NOTICE_S
    while True:
        if time.monotonic() - looked_s >= _LOOK_EVERY_S:
            most, looked_s = workers or _QUEUED_PER_CORE * _cores(), time.monotonic()
        while len(running) < most and (name := next(waiting, None)) is not None:
            running[task.remote(work, name)] = name
        if not running:
            return
        ready, _ = ray.wait(list(running), timeout=_LOOK_EVERY_S)
        if ready:
            notice_s = math.inf
        elif time.monotonic() >= notice_s and _free_cores() < 1:
            _LOG.warning(_NO_CORE)
            notice_s = math.inf
        for reference in ready:
            name = running.pop(reference)
            try:
                result: T = ray.get(reference)
            except RayError as error:
                raise _failed(name, error) from error
            yield result


def _require_answer(address: str) -> None:
    """Ray itself tries for minutes, and ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):  # "auto"
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise InvalidArgumentError(
            f"address: no Ray cluster answers at {address} ({error.strerror or error}).",
            remedy="Give the address that `ray start --head` printed, or leave it out to use this machine.",
        ) from error


def _cores() -> int:
    import ray

    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return max(1, int(found.get("CPU", 1)))


def _free_cores() -> float:
    import ray

    found: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return found.get("CPU", 0.0)


def _call(work: Callable[[str], T], name: str) -> T:
    return work(name)


def _failed(name: str, error: Exception) -> JobError:
    cause = getattr(error, "cause", None) or error
    said = (str(cause).strip().splitlines() or ["without a message"])[-1]
    return JobError(
        f"{name}: its worker failed: {type(cause).__name__}: {said}",
        remedy="All machines need the same version of embup, and memory for a decoder a core.",
    )
