"""Runs: what an analysis gets, what is stored of it, and reading while others write."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pytest

from debugger.importing.annotated import import_annotated
from debugger.predictions.asking import predict
from debugger.predictions.client import PredictionClient
from debugger.predictions.limits import AskLimits
from debugger.predictions.stored import publish, record_answers
from debugger.queries import analysis_row, finding_counts, get_row, list_findings, suggest
from debugger.reading import BrokenDatasetError, open_dataset
from debugger.reviews import Review, add_reviews
from debugger.runs import load_rows, run
from debugger.store.database import CONFIG
from debugger.store.locking import exclusive
from debugger.store.names import find_dataset, list_datasets
from embup_core.debugging.analysis import Analysis, AnnotatedRows, Finding
from embup_core.errors import InputError, OutputError
from tests.debugger.conftest import quick_analysis
from tests.debugger.prediction_api import PredictionApi
from tests.debugger.test_import import write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.debugger.chatbot import Chat


def test_an_analysis_gets_the_rows_as_reviews_left_them(imported: Path, chat: Chat) -> None:
    folder = find_dataset(imported, "chat")
    labelled = [row for row, label in enumerate(chat.labels) if label]
    relabelled, dropped = labelled[:2]
    add_reviews(
        folder,
        [
            Review(row=relabelled, action="relabel", label="new", reviewer="a"),
            Review(row=dropped, action="drop", reviewer="a"),
        ],
        rows=400,
    )
    got: list[AnnotatedRows] = []

    def analyse(rows: AnnotatedRows, **options: Any) -> Analysis:
        got.append(rows)
        return quick_analysis(rows, **options)

    report = run(imported, "chat", analyse=analyse)
    (rows,) = got
    expected: list[str | None] = [label or None for label in chat.labels]
    expected[relabelled], expected[dropped] = "new", None
    assert rows.labels == expected
    assert rows.left_out is not None
    assert np.flatnonzero(rows.left_out).tolist() == [dropped]
    assert rows.texts == chat.texts
    assert rows.given_scores is not None
    np.testing.assert_array_equal(rows.given_scores, [record["score"] for record in chat.records])
    assert (report.version, report.rows, report.reviews) == (1, 400, 2)
    with open_dataset(imported, "chat") as opened:
        assert analysis_row(opened)["review_seq"] == 2


def test_vectors_and_absent_fields(tmp_path: Path, data: Path) -> None:
    vectors = [[1.0, 2.0], [3.0, 4.0]]
    import_annotated(write(tmp_path / "a.json", [{"projected": v} for v in vectors]), data, "x")
    with open_dataset(data, "x") as opened:
        rows = load_rows(opened)
    assert (rows.texts, rows.usages, rows.given_scores, rows.labels) == (None, None, None, [None, None])
    np.testing.assert_array_equal(rows.features["projected"], vectors)


def test_all_that_was_found_is_stored(imported: Path) -> None:
    run(imported, "chat", analyse=quick_analysis)
    with open_dataset(imported, "chat") as opened:
        scores = opened.query("SELECT * FROM scores WHERE kind = 'pair_error' ORDER BY row")
        assert [score["value"] for score in scores] == [row / 400 for row in range(400)]
        assert scores[0]["expected"] is None
        assert scores[8]["expected"] == 0.01
        assert {score["version"] for score in scores} == {1}
        assert finding_counts(opened) == {"label_error": 5, "label_next": 1}
        found = list_findings(opened, limit=100)
        assert [one["finding"] for one in found] == [1, 2, 3, 4, 5, 6]
        assert found[0]["evidence"] == {"p": pytest.approx(0.1, abs=1e-6)}
        assert found[5]["evidence"] == {"nan": None}
        (piece,) = opened.query("SELECT * FROM slices")
        assert (piece["name"], piece["worse"], piece["rows"]) == ("visa", True, [0, 1, 2, 3])
        assert opened.count("positions") == 400
        row = get_row(opened, 2)
        assert row["scores"]["margin"] == pytest.approx(1 - 2 / 400)
        assert row["findings"][0]["kind"] == "label_error"
        assert row["neighbours"] == {
            "text": [{"other": 1, "cosine": 0.5, "text": get_row(opened, 1)["text"],
                      "label": get_row(opened, 1)["label"]}]
        }  # fmt: skip
        (own,) = row["predictions"]
        assert (own["source"], len(own["candidates"])) == ("out of fold: text", 5)


def test_findings_are_filtered_paged_and_leave_when_they_are_decided(imported: Path) -> None:
    run(imported, "chat", analyse=quick_analysis)
    with open_dataset(imported, "chat") as opened:
        assert [one["finding"] for one in list_findings(opened, kind="label_error", limit=2, after=1)] == [
            2,
            3,
        ]
        assert [one["kind"] for one in list_findings(opened, severity="note")] == ["label_next"]
        with pytest.raises(InputError):
            list_findings(opened, kind="'; DROP TABLE findings; --")
    folder = find_dataset(imported, "chat")
    add_reviews(folder, [Review(row=1, action="confirm", reviewer="a")], rows=400)
    with open_dataset(imported, "chat") as opened:
        assert [one["rows"] for one in list_findings(opened, kind="label_error")] == [[0], [2], [3], [4]]
        assert len(list_findings(opened, kind="label_error", decided=True)) == 5


def test_versions_are_numbered_and_none_changes(imported: Path) -> None:
    run(imported, "chat", analyse=quick_analysis)
    folder = find_dataset(imported, "chat")
    before = folder.analysis(1).read_bytes()
    assert run(imported, "chat", seed=3, analyse=quick_analysis).version == 2
    assert folder.analysis(1).read_bytes() == before
    with open_dataset(imported, "chat", version=1) as opened:
        assert analysis_row(opened)["seed"] == 0
    with open_dataset(imported, "chat") as opened:
        assert (opened.version, analysis_row(opened)["seed"]) == (2, 3)
        old, new = opened.query("SELECT 1 AS one"), opened.folder.versions()
        assert (old, new) == ([{"one": 1}], [1, 2])
    with pytest.raises(InputError), open_dataset(imported, "chat", version=3):
        pass


def test_before_the_first_run_there_is_nothing_to_look_at_but_rows(imported: Path) -> None:
    with open_dataset(imported, "chat") as opened:
        assert opened.version is None
        assert get_row(opened, 5)["scores"] == {}
        for ask in (list_findings, suggest):
            with pytest.raises(InputError):
                ask(opened)
        with pytest.raises(InputError):
            get_row(opened, 400)


def test_readers_work_while_others_write(imported: Path) -> None:
    run(imported, "chat", analyse=quick_analysis)

    def analyse(rows: AnnotatedRows, **options: Any) -> Analysis:
        with open_dataset(imported, "chat") as opened:  # a run is under way
            assert opened.version == 1
        with pytest.raises(InputError) as caught:
            run(imported, "chat", analyse=quick_analysis)
        assert caught.value.code == "conflict"
        return quick_analysis(rows, **options)

    folder = find_dataset(imported, "chat")
    with open_dataset(imported, "chat") as before:
        run(imported, "chat", analyse=analyse)
        record_answers(folder, "api", [(0, [("visa", 0.75)])])
        publish(folder)
        record_answers(folder, "api", [(1, [("visa", 1.0)])])
        publish(folder)
        assert before.version == 1
        assert len(list_findings(before)) == 6
        assert before.asked_sources() == []
        with exclusive(folder.review_log, wait=True, what="writes"), open_dataset(imported, "chat") as opened:
            assert opened.version == 2
            assert [row["row"] for row in opened.query("FROM asked_predictions")] == [0, 1]


def test_an_open_data_set_can_do_nothing_but_read_it(imported: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with open_dataset(imported, "chat") as opened:
        for statement in (
            f"FROM '{secret}'",
            f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
            f"ATTACH '{tmp_path / 'new.duckdb'}'",
            "SET enable_external_access = true",
            "DELETE FROM imported.rows",
            "INSTALL httpfs",
        ):
            with pytest.raises(duckdb.Error):
                opened.connection.execute(statement)


def test_a_damaged_or_foreign_file_is_named(imported: Path) -> None:
    run(imported, "chat", analyse=quick_analysis)
    folder = find_dataset(imported, "chat")
    folder.analysis(1).write_bytes(b"nonsense" * 1000)
    with pytest.raises(BrokenDatasetError) as caught, open_dataset(imported, "chat"):
        pass
    assert "analysis-1.duckdb" in caught.value.message
    assert caught.value.remedy


def test_a_result_that_cannot_be_written_is_none(imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(imported, "chat", analyse=quick_analysis)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError):
            run(imported, "chat", analyse=quick_analysis)
    folder = find_dataset(imported, "chat")
    assert folder.versions() == [1]
    assert not [path for path in folder.path.iterdir() if ".new" in path.name]


def test_odd_analyses_are_stored(imported: Path) -> None:
    """Texts that are no Unicode, infinite scores, no rows, no classes, thousands of findings."""

    def analyse(rows: AnnotatedRows, **options: Any) -> Analysis:
        found = quick_analysis(rows, **options)
        odd = Finding(
            "odd", "note", np.empty(0, np.int64), "half \ud800", {"deep": {"a": (1, np.nan)}}, "", np.inf
        )
        many = (replace(found.findings[0], score=1.0),) * 30_000
        nothing = replace(found.predictions[0], classes=(), probabilities=np.empty((400, 0), np.float32))
        return replace(
            found,
            findings=(odd, *many),
            positions=None,
            scores={"none": np.full(400, np.inf)},
            slices=(),
            predictions=(nothing,),
        )

    run(imported, "chat", analyse=analyse)
    with open_dataset(imported, "chat") as opened:
        assert opened.count("findings") == 30_001
        assert [one["finding"] for one in list_findings(opened, limit=3, after=20_000)] == [
            20_001,
            20_002,
            20_003,
        ]
        assert [one["finding"] for one in list_findings(opened, kind="odd")] == [1]
        assert len(list_findings(opened, kind="label_error", limit=10_000)) == 10_000
        assert opened.count("scores") == opened.count("predictions") == 0
        assert json.loads(opened.query("SELECT evidence FROM findings")[0]["evidence"]) == {
            "deep": {"a": [1, None]}
        }


def test_data_sets_are_listed_and_others_are_not(imported: Path) -> None:
    (imported / "debug" / ".importing-x-1").mkdir()
    (imported / "debug" / "empty").mkdir()
    assert list_datasets(imported) == ["chat"]
    assert list_datasets(imported / "none") == []
    with pytest.raises(InputError):
        find_dataset(imported, "empty")


def test_texts_may_be_longer_than_the_memory_of_the_database(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{row} ".ljust(20_000, "abcdefgh"[row % 8]) for row in range(6_000)]
    records = [{"text": text, "label": str(row)} for row, text in enumerate(texts)]
    import_annotated(write(tmp_path / "long.jsonl", records), data, "long")
    monkeypatch.setitem(CONFIG, "memory_limit", "100MB")
    with open_dataset(data, "long") as opened:
        rows = load_rows(opened)
        with pytest.raises(BrokenDatasetError) as caught:
            opened.query("SELECT text || '.' AS long FROM rows ORDER BY long")
        assert caught.value.remedy
    assert rows.texts == texts
    assert rows.labels == [str(row) for row in range(6_000)]
    with (
        PredictionApi() as api,
        PredictionClient(api.url, limits=AskLimits(requests_per_s=1000, concurrency=4)) as client,
    ):
        assert predict(data, "long", client).answered == 6_000
