"""Asking a service in SQL, and looking at the processes that it starts for that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

ENDLESS = "select count(*) from range(1000000) a, range(1000000) b where a.range * b.range % 7 = 3"


def ask(service: Any, statement: str) -> httpx.Response:
    """Send a statement."""
    answer: httpx.Response = service.http.post("/v1/sql", json={"statement": statement}, timeout=90)
    return answer


def published(service: Any) -> Any:
    """Wait for a service's first snapshot; give the service."""
    service.until((service.data / "history" / "events.parquet").exists)  # the last of its files
    return service


def statement_processes(service: Any) -> list[int]:
    """Process ids of the statements under a service, while they live."""
    return [pid for pid in _children(service.process.pid) if _runs_statement(pid)]


def is_alive(pid: int) -> bool:
    """Whether a process is there and not only its name."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(parent: int) -> Iterator[int]:
    for children in Path(f"/proc/{parent}/task").glob("*/children"):
        try:
            yield from map(int, children.read_text().split())
        except OSError:  # the thread has ended
            continue


def _runs_statement(pid: int) -> bool:
    try:
        return b"serving.sql.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
