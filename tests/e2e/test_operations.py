"""docs/how-to/operations.md is run, on the history of real batches. `conftest.py` has the convention.

Of these batches two end well, one with lines of nan, one fails, one is cancelled, one is paused by a realtime
request and resumed by the next start, and the last is unfinished when the service stops for good.
"""

from __future__ import annotations

import re
import shutil
import socket
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import httpx
import numpy as np
import pytest

from embup.cli.service_process import service_process
from embup_client import Client
from serving.jobs.history.published import EVENTS, JOBS
from serving.jobs.model import EventKind, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import SimpleNamespace

    from embup_core.artifacts.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "operations.md"
WAIT_S = 60.0
PAUSE_S = 0.5


@pytest.fixture(scope="module")
def place(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, pages: SimpleNamespace
) -> Iterator[Any]:
    """A working folder with the history in `data/`; the service that made it has stopped."""
    if (now := datetime.now(UTC)).strftime("%H:%M") == "23:59":
        time.sleep(60 - now.second)  # the page counts by day
    folder = tmp_path_factory.mktemp("operations")
    data = folder / "data"
    shutil.copytree(registry.root, data / "registry", symlinks=True)
    write_inputs(data)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EMBUP_CHECKPOINT_INTERVAL_S", "0.1")
        with service(folder) as url, Client(url) as client:
            for name, more in (
                ("monday", {}),
                ("tuesday", {}),
                ("wednesday", {"on_bad_row": "nan"}),
                ("thursday", {}),
            ):
                until_final(client, submit(client, data, name, **more))
            with realtime_request(url):
                paused = submit(client, data, "friday")
                until(lambda: client.batch(paused).phase == "PAUSED")
                client.cancel(submit(client, data, "saturday"))
                unfinished = submit(client, data, "sunday")
                time.sleep(PAUSE_S)  # what is asked for is a pause that lasted
            until(lambda: client.batch(paused).num_records_processed > 0)
        with service(folder) as url, Client(url) as client:
            until_final(client, paused)
            until(lambda: client.batch(unfinished).num_records_processed > 0)
    yield pages.Place(folder, 1)
    shutil.rmtree(data / "batches")


def write_inputs(data: Path) -> None:
    (data / "batches").mkdir()
    rows = np.random.default_rng(0).normal(size=(1000, 32))
    lines = [",".join(f"{value:.6f}" for value in row) + "\n" for row in rows]
    bad = "0.1,0.2,oops\n"
    contents = {
        "monday": lines,
        "tuesday": lines[:400],
        "wednesday": [*lines[:10], bad, *lines[10:20], bad, *lines[20:98]],
        "thursday": [*lines, bad],
        "friday": 30 * lines,
        "saturday": lines,
        "sunday": 100 * lines,
    }
    for name, content in contents.items():
        (data / "batches" / f"{name}.txt").write_text("".join(content))


@contextmanager
def service(folder: Path) -> Iterator[str]:
    data = folder / "data"
    with service_process(registry=data / "registry", data=data, log=folder / "service.log") as url:
        yield url


def submit(client: Client, data: Path, name: str, **more: Any) -> str:
    folder = data / "batches"
    return client.submit_batch(folder / f"{name}.txt", folder / f"{name}.out.txt", **more)


def until(ready: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not ready():
        assert time.monotonic() < deadline_s, "nothing came of it"
        time.sleep(0.01)


def until_final(client: Client, batch: str) -> None:
    until(lambda: client.batch(batch).is_final)


@contextmanager
def realtime_request(url: str) -> Iterator[None]:
    """A realtime request in flight: its body has begun, and ends with the block."""
    body = b'{"embedding": [' + b"0.5, " * 31 + b"0.5]}"
    address = httpx.URL(url)
    head = (
        f"POST /v1/upsample HTTP/1.1\r\nHost: {address.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    assert address.port is not None
    with closing(socket.create_connection((address.host, address.port), timeout=20)) as connection:
        connection.sendall(head.encode() + body[:10])
        yield
        connection.sendall(body[10:])
        assert connection.recv(12) == b"HTTP/1.1 200"


@pytest.mark.timeout(300)
def test_a_block_of_the_page_does_what_it_shows(block: Any, place: Any, pages: SimpleNamespace) -> None:
    pages.check(PAGE, block, place)


@pytest.mark.timeout(300)
def test_the_batches_are_what_they_are_meant_to_be(place: Any) -> None:
    """Else the page's queries would show nothing."""
    with duckdb.connect(place.folder / "data" / "history" / "history.duckdb", read_only=True) as history:
        found = history.execute(
            "SELECT parse_filename(input_filepath, true), phase, failed_rows, attempts FROM batch_jobs"
        ).fetchall()
    assert found == [
        ("monday", "COMPLETED", 0, 1),
        ("tuesday", "COMPLETED", 0, 1),
        ("wednesday", "COMPLETED", 2, 1),
        ("thursday", "FAILED", 0, 1),
        ("friday", "COMPLETED", 0, 2),
        ("saturday", "CANCELLED", 0, 0),
        ("sunday", "RUNNING", 0, 1),
    ]


def test_every_column_phase_and_event_stands_on_the_page() -> None:
    page = PAGE.read_text()
    for table in (JOBS, EVENTS):
        for column in table.columns:
            assert f"| `{column.name}` | {column.meaning} |" in page
    for word in (*Phase, *EventKind):
        assert re.search(rf"^\| `{word}` \| \S", page, re.MULTILINE), f"{word} is not explained"


@pytest.mark.parametrize(
    "code",
    [
        "bad_row",
        "too_many_bad_rows",
        "no_good_row",
        "input_changed",
        "input_unusable",
        "output_unusable",
        "no_space",
        "conflict",
        "no_decoder",
        "worker_killed",
        "cancelled",
        "internal",
    ],
)
def test_every_error_code_stands_on_the_page_with_what_to_do(code: str) -> None:
    assert re.search(rf"^\| `{code}` \| \S.* \| \S.* \|$", PAGE.read_text(), re.MULTILINE)
