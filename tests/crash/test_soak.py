"""Hours in small: requests of every kind beside batches, and what the service holds does not grow."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import psutil
import pytest
from scipy.stats import theilslopes

from tests.memory import anonymous_mb

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.crash.conftest import BatchStatistics, Case, Scale
    from tests.serving.conftest import Service

REALTIME_EVERY_S = 0.02
SAMPLE_EVERY_S = 2.0
WARM_UP_SHARE = 1 / 3
LONG_ENOUGH_S = 600.0  # below, what is allocated once is more than any slope
MOST_MB_IN_10_MIN = 1.0


class Load:
    """Clients, each a thread with a connection of its own; the first answer that is wrong ends the test."""

    def __init__(self, service: Service, case: Case, statistics: BatchStatistics) -> None:
        self.service = service
        self.case = case
        self.statistics = statistics
        self.stop = threading.Event()
        self.wrong: list[str] = []
        self._counting = threading.Lock()
        tasks = (self.ask, self.ask_wrongly, self.look, self.work, self.follow, self.reload)
        self.threads = [threading.Thread(target=self.run, args=(task,)) for task in tasks]

    def run(self, task: Callable[[httpx.Client, random.Random], None]) -> None:
        """Do one task again and again."""
        dice = random.Random(task.__name__)
        with httpx.Client(base_url=self.service.http.base_url, timeout=60) as http:
            while not self.stop.is_set():
                try:
                    task(http, dice)
                except Exception as error:  # noqa: BLE001 - told by the test
                    self.wrong.append(f"{task.__name__}: {error!r}")
                    self.stop.set()

    def count(self, what: str, answer: httpx.Response, status: int) -> Any:
        """Check and count an answer; give its content."""
        assert answer.status_code == status, f"{what}: {answer.status_code} {answer.text[:300]}"
        with self._counting:
            self.statistics.add(what)
        return answer

    def ask(self, http: httpx.Client, dice: random.Random) -> None:
        """Send realtime requests of one row, and now and then of many."""
        rows = dice.choice([1] * 20 + [4, 16, 64])
        body = {"embeddings": [[dice.gauss(0, 1) for _ in range(32)] for _ in range(rows)]}
        self.count("realtime requests", http.post("/v1/upsample", json=body), 200)
        self.stop.wait(dice.expovariate(1 / REALTIME_EVERY_S))

    def ask_wrongly(self, http: httpx.Client, dice: random.Random) -> None:
        """Send what is refused."""
        what = dice.randrange(4)
        if what == 0:
            self.count("refused requests", http.post("/v1/upsample", json={"embedding": [1]}), 400)
        elif what == 1:
            self.count("refused requests", http.get(f"/{dice.random()}"), 404)
        elif what == 2:
            paths = {"input_filepath": "/etc/passwd", "output_filepath": "out.txt"}
            self.count("refused requests", http.post("/v1/batches", json=paths), 422)
        else:
            self.count("refused requests", http.get("/", headers={"Host": f"{dice.random()}.org"}), 421)
        self.stop.wait(0.1)

    def look(self, http: httpx.Client, dice: random.Random) -> None:
        """Look at what is offered to look at."""
        path = dice.choice(["/v1/batches", "/v1/models", "/metrics", "/health/ready", "/", "/docs"])
        self.count("looks", http.get(path), 200)
        self.stop.wait(0.1)

    def work(self, http: httpx.Client, dice: random.Random) -> None:
        """Have a batch done, whole or cancelled, and remove its output."""
        target = self.service.data / "out" / f"{dice.random()}.txt"
        answer = self.count("batches", http.post("/v1/batches", json=self.case.wanted(target)), 202)
        job = answer.json()["batch_request_id"]
        cancelled = dice.random() < 0.2 and http.post(f"/v1/batches/{job}/cancel").is_success
        while (status := http.get(f"/v1/batches/{job}").json())["status"] == "IN PROGRESS":
            time.sleep(0.1)
        if not cancelled:
            assert status["phase"] == "COMPLETED", status
            self.case.check(target)
            target.unlink()

    def follow(self, http: httpx.Client, dice: random.Random) -> None:
        """Follow the newest batch for a while, and leave."""
        newest = http.get("/v1/batches", params={"limit": 1}).json()["batches"]
        for batch in newest:
            with http.stream("GET", f"/v1/batches/{batch['batch_request_id']}/events") as events:
                with self._counting:
                    self.statistics.add("streams followed")
                for _ in zip(events.iter_lines(), range(dice.randrange(6)), strict=False):
                    pass
        self.stop.wait(0.5)

    def reload(self, http: httpx.Client, dice: random.Random) -> None:
        """Ask for the latest decoder."""
        self.count("reloads", http.post("/v1/models/reload"), 200)
        self.stop.wait(dice.uniform(1, 5))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_under_mixed_load_memory_and_open_files_stay_where_they_are(
    serve: Callable[..., Service], case: Callable[..., Case], statistics: BatchStatistics, scale: Scale
) -> None:
    service = serve(checkpoint_interval_s=1, access_log=True)
    process = psutil.Process(service.process.pid)
    long = scale.soak_s >= LONG_ENOUGH_S
    # Each batch stays in the job database, of which DuckDB keeps about a kilobyte a batch in memory.
    load = Load(service, case(24_000 if long else 3000), statistics)
    for thread in load.threads:
        thread.start()
    began = time.monotonic()
    seconds, megabytes, descriptors, threads = [], [], [], []
    while (now := time.monotonic() - began) < scale.soak_s and not load.stop.is_set():
        if now > scale.soak_s * WARM_UP_SHARE:
            seconds.append(now)
            megabytes.append(anonymous_mb(process.pid))
            descriptors.append(process.num_fds())
            threads.append(process.num_threads())
        load.stop.wait(min(SAMPLE_EVERY_S, scale.soak_s / 20))
    load.stop.set()
    for thread in load.threads:
        thread.join()
    assert not load.wrong, load.wrong
    fitted = float(np.polyfit(seconds, megabytes, 1)[0]) * 600
    # Peaks of a moment, of ten MB and more, sway a fitted line; the median of all slopes less so.
    median = float(theilslopes(megabytes, seconds).slope) * 600
    half = len(seconds) // 2
    statistics.add("MB held after the warm-up", round(megabytes[0]))
    statistics.add("MB held at most", round(max(megabytes)))
    statistics.add("MB held at the end", round(megabytes[-1]))
    statistics.add("most open files in the first half", max(descriptors[:half]))
    statistics.add("most open files in the second half", max(descriptors[half:]))
    assert max(descriptors[half:]) <= max(descriptors[:half]) + 4, (
        "a few connections more or less at a moment"
    )
    assert max(threads[half:]) <= max(threads[:half]) + 1
    if long:
        statistics.add("kB of growth in 10 minutes, fitted", round(fitted * 1000))
        statistics.add("kB of growth in 10 minutes, median", round(median * 1000))
        assert fitted < MOST_MB_IN_10_MIN, "MB in 10 minutes"
        assert median < MOST_MB_IN_10_MIN, "MB in 10 minutes"
    assert process.is_running()
    assert "Traceback" not in service.log.read_text()
