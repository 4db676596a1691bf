"""Predictions that no table holds, and waits that end with a deadline or an interrupt."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from debugger.predictions.asking import predict
from debugger.predictions.client import PredictionClient
from debugger.predictions.from_file import import_predictions
from debugger.predictions.limits import AskLimits
from debugger.predictions.stored import publish, record_answers
from debugger.store.names import find_dataset
from embup_core.errors import InputError
from tests.debugger.prediction_api import Answer, PredictionApi
from tests.debugger.test_import import write
from tests.debugger.test_predictions import FAST, ask, stored

if TYPE_CHECKING:
    from pathlib import Path


def test_names_and_labels_that_no_table_holds_are_refused_before_they_are_stored(
    data: Path, texts: list[str], tmp_path: Path
) -> None:
    with PredictionApi() as api:
        ask(data, api)
        with PredictionClient(api.url, limits=FAST) as client, pytest.raises(InputError):
            predict(data, "few", client, source="half \udc80")
    folder = find_dataset(data, "few")
    for source, label in (("half \ud800", "a"), ("", "a"), ("mine", "half \ud800")):
        with pytest.raises(InputError):
            record_answers(folder, source, [(1, [(label, 0.5)])])
    records: list[dict[str, Any]] = [
        {"row": 1, "label": "half \ud800"},
        {"row": 2, "probabilities": {"a": 10**400}},
        {"row": "9" * 5000},
    ]
    with pytest.raises(InputError) as caught:
        import_predictions(write(tmp_path / "p.json", records), data, "few", source="mine")
    assert len(caught.value.message.splitlines()) == 1 + len(records)
    record_answers(folder, "mine", [(1, [("a", 0.5)])])
    publish(folder)
    assert {row["source"] for row in stored(data)} == {"api", "mine"}


def test_waits_end_at_the_deadline(data: Path, texts: list[str]) -> None:
    with PredictionApi(lambda *_: (429, {"Retry-After": "300"}, b"")) as api:
        started_s = time.monotonic()
        report = ask(data, api, limits=AskLimits(requests_per_s=1, batch_rows=5, deadline_s=1.5))
    assert time.monotonic() - started_s < 60  # far from the 300 s that it was told to wait
    assert report.answered == 0
    assert report.stopped


def test_an_interrupt_ends_waits(data: Path, texts: list[str]) -> None:
    main = threading.get_ident()

    def busy(*_: object) -> Answer:
        threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
        return 429, {"Retry-After": "300"}, b""

    with PredictionApi(busy) as api:
        started_s = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            ask(data, api, limits=AskLimits(requests_per_s=10_000, concurrency=1))
        assert time.monotonic() - started_s < 60  # far from the 300 s that it was told to wait
    with PredictionApi() as api:
        assert ask(data, api).answered == 49
