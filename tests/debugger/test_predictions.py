"""Predictions over HTTP and from files: every row asked until answered, no row twice, no fault fatal."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from debugger.predictions.asking import HOPELESS, PredictReport, predict
from debugger.predictions.client import PredictionClient, parse_answer
from debugger.predictions.from_file import import_predictions
from debugger.predictions.limits import AskLimits, read_key
from debugger.predictions.stored import load_predictions, predicted_rows, publish, record_answers
from debugger.reading import open_dataset
from debugger.store.names import find_dataset
from embup_core.errors import InputError
from tests.debugger.prediction_api import Answer, PredictionApi, entry_of
from tests.debugger.test_import import write

if TYPE_CHECKING:
    from pathlib import Path

FAST = AskLimits(requests_per_s=10_000, timeout_s=2)


def ask(data: Path, api: PredictionApi, *, key: str | None = None, limits: AskLimits = FAST) -> PredictReport:
    with PredictionClient(api.url, key=key, limits=limits) as client:
        return predict(data, "few", client)


def stored(data: Path) -> list[dict[str, Any]]:
    with open_dataset(data, "few") as opened:
        return opened.query("FROM predictions ORDER BY row")


def failures(data: Path) -> dict[int, str]:
    with open_dataset(data, "few") as opened:
        return {one["row"]: one["reason"] for one in opened.query("FROM prediction_failures")}


def test_all_rows_are_asked_in_twenties_and_none_twice(data: Path, texts: list[str]) -> None:
    seen: list[tuple[float, float | None]] = []
    with PredictionApi() as api:
        with PredictionClient(api.url, key="secret-key", limits=FAST) as client:
            report = predict(data, "few", client, progress=lambda _, done, total: seen.append((done, total)))
        assert (report.rows, report.answered, report.failed, report.not_asked) == (49, 49, 0, 0)
        assert sorted(api.sizes) == [9, 20, 20]
        assert set(api.keys) == {"secret-key"}
        assert seen[-1] == (49, 49)
        again = ask(data, api)
        assert (again.known, again.answered, len(api.sizes)) == (49, 0, 3)
        assert set(api.asked.values()) == {1}
    rows = stored(data)
    assert [row["label"] for row in rows] == [text.split()[0] for text in texts]
    assert rows[3]["candidates"] == [
        {"label": "word3", "confidence": 0.75},
        {"label": "other", "confidence": 0.125},
    ]
    assert [row["in_sample"] for row in rows] == [row < 10 for row in range(49)]


def test_requests_that_fail_now_and_then_are_repeated(data: Path, texts: list[str]) -> None:
    """Busy, broken, cut off, of another count, no JSON: each once."""
    faults: dict[int, Answer] = {
        1: (429, {"Retry-After": "0.3"}, b"slow down"),
        2: (500, {}, b"oops"),
        3: (200, {}, json.dumps([entry_of("a")] * 3).encode()),
        5: (200, {}, b'[{"predictions": [{"va'),
        6: (200, {}, b'{"detail": "no list"}'),
        7: (503, {}, b""),
        9: (200, {"Content-Length": "100000"}, b"[]"),
    }
    with PredictionApi(lambda _, number: faults.get(number)) as api:
        report = ask(data, api, limits=AskLimits(requests_per_s=10_000, timeout_s=1, concurrency=1))
        assert (report.answered, report.failed, report.stopped) == (49, 0, "")
        assert set(api.asked.values()) == {1}
        assert max(api.sizes) <= 20


def test_retry_after_is_waited_for(data: Path, texts: list[str]) -> None:
    times: list[float] = []

    def busy(_: list[str], number: int) -> Answer | None:
        times.append(time.monotonic())
        return (429, {"Retry-After": "1"}, b"") if number == 1 else None

    with PredictionApi(busy) as api:
        ask(data, api, limits=AskLimits(requests_per_s=10_000, concurrency=1))
    assert times[1] - times[0] >= 1


@pytest.mark.parametrize("status", [400, 413, 500])
def test_a_bad_text_costs_its_own_row_only(status: int, data: Path, texts: list[str]) -> None:
    def poisoned(asked: list[str], _: int) -> Answer | None:
        return (status, {}, b"no") if texts[7] in asked or texts[30] in asked else None

    with PredictionApi(poisoned) as api:
        report = ask(data, api, limits=AskLimits(requests_per_s=10_000, attempts=1))
        assert (report.answered, report.failed) == (47, 2)
        assert report.reasons == {f"the API answers {status}": 2}
        assert set(failures(data)) == {7, 30}
        assert set(api.asked.values()) == {1}
    with PredictionApi() as api:  # it is well again: only the two are asked
        assert ask(data, api).answered == 2
        assert sorted(api.asked) == sorted([texts[7], texts[30]])
    assert failures(data) == {}


@pytest.mark.parametrize(
    "value",
    [
        [],
        None,
        [{"confidence": 0.5}],
        [{"label": "", "confidence": 0.5}],
        [{"label": 3, "confidence": 0.5}],
        [{"label": "a"}],
        [{"label": "a", "confidence": "high"}],
        [{"label": "a", "confidence": True}],
        [{"label": "a", "confidence": -0.1}],
        [{"label": "a", "confidence": 1.5}],
        [{"label": "a", "confidence": float("nan")}],
        [{"label": "a", "confidence": 0.9}, {"label": "b", "confidence": 0.9}],
        [{"label": "a", "confidence": 0.4}, {"label": "a", "confidence": 0.4}],
        [{"label": "x" * 1001, "confidence": 0.4}],
        [{"label": "half \ud800", "confidence": 0.4}],
        [{"label": "a", "confidence": 10**400}],
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_row_without_a_usable_value_is_a_failure(value: Any) -> None:
    assert parse_answer(entry_of("a", value=value)).candidates == ()
    assert parse_answer(entry_of("a", value=value)).reason


@pytest.mark.parametrize(
    "entry", [None, 3, {}, {"predictions": []}, {"predictions": [{}]}, {"predictions": "a"}]
)
def test_answers_of_another_shape_are_failures(entry: Any) -> None:
    assert parse_answer(entry).reason


def test_missing_values_are_told_and_asked_again(data: Path, texts: list[str]) -> None:
    def holes(asked: list[str], number: int) -> Answer | None:
        if number > 3:
            return None
        entries = [entry_of(text, value=[]) if text == texts[5] else entry_of(text) for text in asked]
        return 200, {}, json.dumps(entries).encode()

    with PredictionApi(holes) as api:
        report = ask(data, api)
        assert (report.answered, report.failed) == (48, 1)
        assert failures(data) == {5: "the answer has no value"}
        assert ask(data, api).answered == 1


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405])
def test_an_api_that_refuses_everything_is_asked_no_further(
    status: int, data: Path, texts: list[str]
) -> None:
    with PredictionApi(lambda *_: (status, {"Location": "http://127.0.0.1:1/"}, b"")) as api:
        report = ask(data, api, key="secret-key")
        assert len(api.sizes) <= 2
    assert (report.answered, report.failed, report.not_asked) == (0, 0, 49)
    assert str(status) in report.stopped
    assert "secret-key" not in report.stopped


def test_an_api_that_is_out_of_order_is_given_up(data: Path, texts: list[str]) -> None:
    with PredictionApi(lambda *_: (503, {}, b"")) as api:
        limits = AskLimits(requests_per_s=10_000, attempts=1, batch_rows=2)
        report = ask(data, api, limits=limits)
        assert len(api.sizes) <= HOPELESS + limits.concurrency
    assert report.stopped
    assert report.answered == 0
    assert report.failed + report.not_asked == 49


def test_nobody_listening_is_told(data: Path, texts: list[str]) -> None:
    with PredictionApi() as api:
        pass
    report = ask(data, api, limits=AskLimits(requests_per_s=10_000, attempts=1, batch_rows=5))
    assert "nothing answers" in report.stopped


def test_answers_without_an_end_are_cut_off(data: Path, texts: list[str]) -> None:
    long = json.dumps([entry_of("a")] * 20).encode().ljust(3_000_000)
    with PredictionApi(lambda *_: (200, {}, long)) as api:
        limits = AskLimits(requests_per_s=10_000, attempts=1, answer_bytes=100_000, batch_rows=20)
        report = ask(data, api, limits=limits)
    assert report.answered == 0
    assert any("longer" in reason for reason in report.reasons)


def test_an_answer_of_a_byte_now_and_then_ends_at_the_time_limit(data: Path, texts: list[str]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def drip() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not ended.wait(0.1):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    limits = AskLimits(timeout_s=1, deadline_s=1.5, attempts=1, concurrency=1)
    started_s = time.monotonic()
    with PredictionClient(url, limits=limits) as client:
        report = predict(data, "few", client)
    ended.set()
    assert time.monotonic() - started_s < 5
    assert report.answered == 0
    assert "deadline" in report.stopped


def test_compressed_answers_are_refused(data: Path, texts: list[str]) -> None:
    with PredictionApi(
        lambda *_: (200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 10_000_000))
    ) as api:
        report = ask(data, api, limits=AskLimits(requests_per_s=10_000, batch_rows=20))
    assert report.answered == 0


def test_at_most_so_many_requests_at_once_and_in_a_second(data: Path, texts: list[str]) -> None:
    with PredictionApi() as api:
        api.slow_s = 0.1
        started_s = time.monotonic()
        report = ask(data, api, limits=AskLimits(batch_rows=5, requests_per_s=10, concurrency=2))
        assert report.answered == 49
        assert api.most_at_once <= 2
        assert time.monotonic() - started_s >= 0.9  # 10 requests, 9 gaps


def test_neither_log_nor_store_holds_the_key(
    data: Path, texts: list[str], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("  very-secret\n")
    caplog.set_level(logging.DEBUG)
    with PredictionApi(lambda _, number: (500, {}, b"") if number == 1 else None) as api:
        ask(data, api, key=read_key(key_file))
        assert set(api.keys) == {"very-secret"}
    assert "very-secret" not in caplog.text
    for path in (data / "debug" / "few").iterdir():
        assert b"very-secret" not in path.read_bytes()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://user:pass@127.0.0.1/",
        "http://",
        "nonsense",
        "http://no-such-host.invalid/",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError) as caught:
        PredictionClient(url)
    assert "pass" not in caught.value.message.replace("password", "")


def test_keys_and_limits_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBUP_PREDICT_KEY", raising=False)
    assert read_key(None) is None
    monkeypatch.setenv("EMBUP_PREDICT_KEY", "from-a-variable")
    assert read_key(None) == "from-a-variable"
    (tmp_path / "key").write_text("two words")
    for bad in (tmp_path / "key", tmp_path / "none"):
        with pytest.raises(InputError) as caught:
            read_key(bad)
        assert "two words" not in str(caught.value)
    for limits in ({"batch_rows": 21}, {"n_best": 0}, {"timeout_s": 0}, {"deadline_s": float("nan")}):
        with pytest.raises(InputError):
            AskLimits(**limits)
    with pytest.raises(InputError):
        PredictionClient("http://127.0.0.1/", key_header="X: y\r\nEvil")


def test_predictions_become_probabilities_of_all_classes(data: Path, texts: list[str]) -> None:
    folder = find_dataset(data, "few")
    record_answers(folder, "api", [(0, [("a", 0.6), ("b", 0.2)]), (2, [("c", 1.0)])], [(3, "no value")])
    record_answers(folder, "api", [(0, [("b", 0.8), ("a", 0.1)])])
    assert predicted_rows(folder, "api") == {0, 2}
    publish(folder)
    record_answers(folder, "api", [(2, [("b", 0.5)])])
    assert predicted_rows(folder, "api") == {0, 2}
    publish(folder)
    assert folder.prediction_log.read_bytes() == b""
    with open_dataset(data, "few") as opened:
        (found,) = load_predictions(opened)
        assert opened.query("SELECT row, reason FROM prediction_failures") == [
            {"row": 3, "reason": "no value"}
        ]
    assert found.classes == ("a", "b")
    np.testing.assert_allclose(found.probabilities[0], [0.1 / 0.9, 0.8 / 0.9], rtol=1e-6)
    np.testing.assert_allclose(found.probabilities[2], [0.5, 0.5])
    assert np.isnan(found.probabilities[1]).all()
    assert found.in_sample[:3].tolist() == [True, False, True]


def test_of_very_many_classes_the_most_frequent_are_loaded(
    data: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = find_dataset(data, "few")
    answers = [(row, [("usual", 0.5), (f"rare{row}", 0.25)]) for row in range(10)]
    record_answers(folder, "api", [*answers, (20, [("lonely", 1.0)]), (21, [("usual", 0.0)])])
    publish(folder)
    monkeypatch.setattr("debugger.predictions.stored.MOST_CELLS", 3 * 50)
    with open_dataset(data, "few") as opened:
        (found,) = load_predictions(opened)
    assert found.classes == ("lonely", "rare0", "usual")
    np.testing.assert_allclose(found.probabilities[5], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(found.probabilities[[0, 21]], [[0.25, 0.25, 0.5], [0.5, 0.5, 0]])
    monkeypatch.setattr("debugger.predictions.stored.MOST_CELLS", 50)
    with open_dataset(data, "few") as opened:
        (found,) = load_predictions(opened)
    assert found.classes == ("usual",)
    np.testing.assert_array_equal(found.probabilities[[0, 20, 21, 30]], [[1], [np.nan], [np.nan], [np.nan]])


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet"])
def test_predictions_come_from_files(ending: str, data: Path, texts: list[str], tmp_path: Path) -> None:
    records = [{"id": i, "label": f"l{i % 2}", "confidence": 0.5 + i / 1000} for i in range(49)]
    report = import_predictions(write(tmp_path / f"p{ending}", records), data, "few", source="mine")
    assert (report.stored, report.refused) == (49, 0)
    rows = stored(data)
    assert [(row["row"], row["label"], row["confidence"]) for row in rows] == [
        (record["id"], record["label"], record["confidence"]) for record in records
    ]
    assert {row["source"] for row in rows} == {"mine"}


def test_probabilities_and_answers_of_an_api_come_from_files_too(
    data: Path, texts: list[str], tmp_path: Path
) -> None:
    records = [
        {"row": 0, "probabilities": {"a": 0.25, "b": 0.75}},
        {"row": 12, **entry_of("word12")},
        {"row": 13, "label": "sure"},
    ]
    import_predictions(write(tmp_path / "p.json", records), data, "few", source="s", held_out=True)
    first, second, third = stored(data)
    assert (first["label"], first["in_sample"]) == ("b", False)
    assert (second["label"], third["confidence"]) == ("word12", 1.0)


def test_records_that_predict_nothing_are_listed(data: Path, texts: list[str], tmp_path: Path) -> None:
    good = {"row": 1, "label": "a", "confidence": 0.5}
    bad: list[dict[str, Any]] = [
        {"row": 50, "label": "a"},
        {"row": -1, "label": "a"},
        {"id": "unknown", "label": "a"},
        {"label": "a"},
        {"row": 2},
        {"row": 2, "label": "a", "confidence": "high"},
        {"row": 2, "label": "a", "confidence": 2},
        {"row": 2, "probabilities": {"a": 0.9, "b": 0.9}},
        {"row": 2, "probabilities": [1, 2]},
    ]
    file = write(tmp_path / "p.json", [good, *bad])
    with pytest.raises(InputError) as caught:
        import_predictions(file, data, "few", source="s")
    assert len(caught.value.message.splitlines()) == 1 + len(bad)
    assert stored(data) == []
    report = import_predictions(file, data, "few", source="s", skip_bad_rows=True)
    assert (report.stored, report.refused) == (1, len(bad))
