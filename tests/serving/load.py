"""Realtime requests at a steady rate, whatever happens to the service meanwhile."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import TYPE_CHECKING, Self

import numpy as np

from benchmarks.service.client import OpenLoop

if TYPE_CHECKING:
    from benchmarks.service.client import Answered
    from embup_core.artifacts.registry import Registry
    from tests.serving.conftest import Service

RATE = 200.0  # requests a second


class Load:
    """Requests at a steady rate, half of them for JSON, half for bytes; every answer is compared."""

    def __init__(self, service: Service, registry: Registry, rows: np.ndarray, *, rate: float = RATE) -> None:
        self._rate = rate
        self._service = service
        self._registry = registry
        self._rows = {
            json.dumps({"embedding": row.tolist()}).encode(): row[None].astype(np.float32) for row in rows
        }
        self._expected: dict[tuple[str, bytes], np.ndarray] = {}
        self._done = threading.Event()
        self._answers: list[tuple[bytes, bytes, bytes]] = []
        self.answered: list[Answered] = []
        self.failed: list[str] = []
        self._threads = [
            threading.Thread(target=self._send, args=(accept, seed))
            for seed, accept in enumerate(("application/json", "application/octet-stream"))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _send(self, accept: str, seed: int) -> None:
        loop = OpenLoop(
            self._service.port,
            "/v1/upsample",
            accept=accept,
            on_answer=lambda *answer: self._answers.append(answer),
        )
        bodies = list(self._rows)
        try:
            for part in range(10_000):
                if self._done.is_set():
                    break
                self.answered += loop.send(bodies, rate=self._rate / 2, seconds=2, seed=2 * part + seed)
        except BaseException as error:  # noqa: BLE001 - one failed request is a failed test
            self.failed.append(repr(error))
        finally:
            loop.close()

    @property
    def answers(self) -> int:
        """How many there are by now."""
        return len(self._answers)

    def versions(self) -> Counter[str]:
        """Compare every answer with what the version that it names answers; count the versions."""
        found: Counter[str] = Counter()
        loaded = {version: self._registry.load(version) for version in self._registry.version_names()}
        for body, head, content in self._answers:
            if b"application/octet-stream" in head:
                (line,) = [
                    one for one in head.split(b"\r\n") if one.lower().startswith(b"embup-model-version")
                ]
                version = line.partition(b":")[2].strip().decode()
                vector = np.frombuffer(content, "<f4")
            else:
                answer = json.loads(content)
                version, vector = answer["model_version"], np.array(answer["embedding"])
            if (version, body) not in self._expected:
                self._expected[version, body] = loaded[version].upsample(self._rows[body])[0][0]
            assert np.abs(vector - self._expected[version, body]).max() < 1e-6, version
            found[version] += 1
        return found
