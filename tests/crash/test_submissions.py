"""An acknowledged submission is never lost: clients log what they were told, and the service is killed."""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb
import httpx

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crash.conftest import BatchStatistics, Case, Scale
    from tests.serving.conftest import Service

SEED = 4
CLIENTS = 3
MOST_A_LIFE = 40  # submissions of one client between two kills
KILLS_A_FOLDER = 50  # then anew with an empty database, so that the test measures kills and not its own jobs


@dataclass
class Log:
    """What clients sent and were told; a request is noted before it is sent, its answer once it is whole."""

    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    acknowledged: dict[str, str] = field(default_factory=dict)
    without_key: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """All ids that were acknowledged."""
        return [*self.acknowledged.values(), *self.without_key]


def test_every_acknowledged_submission_is_known_after_every_kill(
    serve: Callable[..., Service],
    case: Callable[..., Case],
    kill: Callable[[Service, BatchStatistics], None],
    statistics: BatchStatistics,
    scale: Scale,
    tmp_path: Path,
) -> None:
    statistics.require("kill -9 of the service", scale.submission_kills)
    statistics.require("acknowledged submissions", scale.submission_kills)
    chance = random.Random(SEED)
    one_row = case(2)
    while statistics["kill -9 of the service"] < scale.submission_kills:
        data = tmp_path / f"after {statistics['kill -9 of the service']} kills"
        service = serve(data=data, checkpoint_interval_s=1)
        log = Log()
        kills = min(KILLS_A_FOLDER, scale.submission_kills - statistics["kill -9 of the service"])
        for life in range(kills):
            known = len(log.ids)
            submit_until_killed(service, one_row, log, life, chance, partial(kill, service, statistics))
            service.start()
            check_known(service, log, [*log.ids[known:], *chance.sample(log.ids, min(5, len(log.ids)))])
            repeat_keys(service, log, chance, statistics)
        assert service.end(signal.SIGTERM) == 0
        assert not log.unexpected, log.unexpected[:3]
        check_tables(data / "jobs" / "jobs.duckdb", log)
        statistics.add("acknowledged submissions", len(log.ids))
        shutil.rmtree(data)


def submit_until_killed(
    service: Service,
    one_row: Case,
    log: Log,
    life: int,
    chance: random.Random,
    kill: Callable[[], None],
) -> None:
    """Have clients submit as fast as they can, kill the service at a random moment, see the clients end."""
    lock = threading.Lock()
    begun = threading.Event()

    def client(number: int) -> None:
        # Its own connection, and no wait for another client.
        with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", timeout=10) as http:
            for i in range(MOST_A_LIFE):
                name = f"{life}-{number}-{i}"
                body = one_row.wanted(service.data / "out" / f"{name}.txt")
                key = name if i % 2 else None
                headers = {} if key is None else {"Idempotency-Key": key}
                with lock:
                    if key is not None:
                        log.sent[key] = body
                try:
                    answer = http.post("/v1/batches", json=body, headers=headers)
                except httpx.TransportError:  # killed meanwhile
                    return
                finally:
                    begun.set()
                with lock:
                    if answer.status_code != 202:
                        log.unexpected.append(answer.text)
                    elif key is None:
                        log.without_key.append(answer.json()["batch_request_id"])
                    else:
                        log.acknowledged[key] = answer.json()["batch_request_id"]

    clients = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in clients:
        thread.start()
    begun.wait()
    time.sleep(chance.uniform(0, 0.25))  # the random moment
    kill()
    for thread in clients:
        thread.join()


def check_known(service: Service, log: Log, ids: list[str]) -> None:
    """Check that the service knows these jobs, and that none of them failed."""
    for batch_request_id in ids:
        status = service.status(batch_request_id)
        assert status["status"] != "FAILED", status
    newest = service.http.get("/v1/batches", params={"limit": 1000}).json()["batches"]
    listed = [entry["batch_request_id"] for entry in newest]
    assert len(listed) == len(set(listed))
    if len(listed) < 1000:
        assert set(log.ids) <= set(listed)


def repeat_keys(service: Service, log: Log, chance: random.Random, statistics: BatchStatistics) -> None:
    """Send keys again, twice at once: acknowledged ones give their id, those cut off one id."""
    lost = [key for key in log.sent if key not in log.acknowledged]
    chosen = chance.sample(sorted(log.acknowledged), min(3, len(log.acknowledged)))
    with ThreadPoolExecutor(2) as two:
        for key in [*lost, *chosen]:
            send = partial(
                service.http.post, "/v1/batches", json=log.sent[key], headers={"Idempotency-Key": key}
            )
            for answer in [future.result() for future in [two.submit(send), two.submit(send)]]:
                assert answer.status_code == 202, answer.text
                found = answer.json()["batch_request_id"]
                assert log.acknowledged.setdefault(key, found) == found
            statistics.add("keys repeated, twice at once")
            statistics.add("of them cut off by a kill before", int(key in lost))


def check_tables(database: Path, log: Log) -> None:
    """Check the stopped service's database: every acknowledged job, and one job a key."""
    connection = duckdb.connect(str(database), read_only=True)
    rows = connection.execute("SELECT batch_request_id, idempotency_key FROM batch_jobs").fetchall()
    connection.close()
    stored = {row[0] for row in rows}
    assert len(rows) == len(stored)
    assert set(log.ids) <= stored
    keys = [row[1] for row in rows if row[1] is not None]
    assert len(keys) == len(set(keys)), "a key made two jobs"
