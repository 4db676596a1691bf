"""A chat bot's annotated texts from their archive to a corrected one: nothing is lost on the way."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from debugger.exports import export
from debugger.importing.annotated import import_annotated
from debugger.predictions.asking import predict
from debugger.predictions.client import PredictionClient
from debugger.predictions.limits import AskLimits
from debugger.queries import list_findings
from debugger.reading import open_dataset
from debugger.reviews import read_reviews
from debugger.runs import run
from debugger.store.names import find_dataset
from tests.debugger.chatbot import Chat, generate_chat
from tests.debugger.prediction_api import Answer, PredictionApi
from tests.serving.debug.conftest import Debugged, serve
from tests.serving.debug.test_browser import address, watched_page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry

pytestmark = pytest.mark.browser

KEYS = ("2", "1", "d", "2", "2")
"""Pressed in turns: take the prediction, confirm, drop."""


def as_archive(path: Path, records: list[dict[str, Any]]) -> Path:
    """A zip archive as macOS makes it of an export."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("chat.json", json.dumps(records))
        archive.writestr("__MACOSX/._chat.json", b"\x00\x05\x16\x07Mac OS X")
    return path


def wise_api(chat: Chat, fails: Callable[[int], bool]) -> PredictionApi:
    """Knows the right label of each text, and fails at some requests."""
    intent_of = dict(zip(chat.texts, chat.truth, strict=True))

    def answer(texts: list[str], number: int) -> Answer | None:
        if fails(number):
            return 503, {"Retry-After": "0"}, b"busy"
        values = [
            [{"label": intent_of[text], "confidence": 0.875}, {"label": "other", "confidence": 0.125}]
            for text in texts
        ]
        return 200, {}, json.dumps([{"predictions": [{"value": value}]} for value in values]).encode()

    return PredictionApi(answer)


def imported_rows(data: Path, name: str) -> list[dict[str, Any]]:
    with open_dataset(data, name) as opened:
        return opened.query(
            "SELECT external_id, text, label, complete, usage, given_score"
            " FROM rows LEFT JOIN labels USING (row) ORDER BY row"
        )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("rows", "decisions", "failing"),
    [(400, 5, 7), pytest.param(10_000, 25, 50, marks=pytest.mark.slow)],
)
def test_nothing_is_lost_from_archive_to_archive(
    rows: int, decisions: int, failing: int, service_class: Any, registry: Registry, tmp_path: Path
) -> None:
    chat, data = generate_chat(rows), tmp_path / "data"
    report = import_annotated(as_archive(tmp_path / "chat.zip", chat.records), data, "chat")
    labelled = sum(bool(label) for label in chat.labels)
    assert (report.rows, report.records, report.labelled) == (rows, rows, labelled)
    assert set(report.usages) == {"train", "validation", "test", None}

    with (
        wise_api(chat, lambda number: number % failing == 3) as api,
        PredictionClient(api.url, limits=AskLimits(requests_per_s=1000)) as client,
    ):
        asked = predict(data, "chat", client)
    assert (asked.answered, asked.failed, asked.not_asked) == (rows, 0, 0)
    assert max(api.sizes) == 20
    assert len(api.sizes) > rows // 20, "some requests were sent again"

    run(data, "chat")
    with open_dataset(data, "chat") as opened:
        suspects = [
            row for one in list_findings(opened, kind="label_error", limit=10_000) for row in one["rows"]
        ]
        found = list_findings(opened, kind="confident_disagreement", limit=10_000)
        assert {row for one in found for row in one["rows"]} <= set(chat.wrong)
    best = suspects[: len(chat.wrong)]
    assert len(set(best) & set(chat.wrong)) > 0.9 * len(best)

    seen, exported = reviewed_in_browser(service_class, registry, data, decisions, chat, tmp_path)

    decided = {one.row: one for one in seen}
    assert len(seen) == len(decided) == decisions
    kept = [row for row in range(rows) if row not in decided or decided[row].action != "drop"]
    with zipfile.ZipFile(exported) if zipfile.is_zipfile(exported) else exported.open() as file:
        written = json.load(file.open(file.namelist()[0]) if isinstance(file, zipfile.ZipFile) else file)
    expected = []
    for row in kept:
        record = dict(chat.records[row])
        if row in decided and decided[row].action == "relabel":
            record["data"] = json.dumps(json.loads(record["data"]) | {"intent": decided[row].label})
        expected.append(record)
    assert [{**one, "data": json.loads(one["data"])} for one in written] == [
        {**one, "data": json.loads(one["data"])} for one in expected
    ]

    again = import_annotated(exported, data, "again")
    assert (again.rows, again.skipped) == (len(kept), 0)
    before, after = imported_rows(data, "chat"), imported_rows(data, "again")
    for old, new in zip((before[row] | {"row": row} for row in kept), after, strict=True):
        decision = decided.get(old.pop("row"))
        relabelled = decision is not None and decision.action == "relabel"
        assert new == (old | {"label": decision.label} if decision and relabelled else old)
    with open_dataset(data, "again") as opened:
        target = tmp_path / "unchanged.json"
        export(opened, "cleaned", target)
    assert json.loads(target.read_text()) == written


def reviewed_in_browser(
    service_class: Any, registry: Registry, data: Path, decisions: int, chat: Chat, folder: Path
) -> tuple[list[Any], Path]:
    """Decide about the first suspects by keyboard, page after page, and download the data set."""
    (exported,) = [
        _review(debugged, decisions, folder) for debugged in serve(service_class, registry, chat, data)
    ]
    return list(read_reviews(find_dataset(data, "chat"))), exported


def _review(debugged: Debugged, decisions: int, folder: Path) -> Path:
    base = "/console/debug/chat"
    done = 0
    with watched_page(debugged) as page:
        while done < decisions:
            page.goto(address(debugged, f"{base}/findings?kind=label_error"))
            rows = [int(row.get_attribute("data-row") or -1) for row in page.locator("[data-row]").all()]
            assert rows, "some suspects are left"
            page.keyboard.press("j")
            for row in rows[: decisions - done]:
                page.keyboard.press(KEYS[done % len(KEYS)])
                page.locator("#stored", has_text=f"Row {row}:").wait_for()
                done += 1
        page.goto(address(debugged, f"{base}/reviews"))
        with page.expect_download() as downloading:
            page.get_by_role("link", name="Data set with the decisions").press("Enter")
        target = folder / downloading.value.suggested_filename
        downloading.value.save_as(target)
    return target
