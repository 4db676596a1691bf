"""Decisions: stored one after the other, undone by another one, never lost or torn."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from debugger.reading import open_dataset
from debugger.reviews import Action, Review, add_reviews, decisions, label_after, read_reviews
from debugger.runs import run
from debugger.store import log
from debugger.store.names import find_dataset
from embup_core.errors import InputError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.debugger.chatbot import Chat


def review(row: int, action: Action, **values: Any) -> Review:
    return Review(**{"row": row, "action": action, "reviewer": "ann", **values})


def test_the_last_decision_holds_and_each_undo_takes_one_back(imported: Path) -> None:
    folder = find_dataset(imported, "chat")
    add_reviews(folder, [review(1, "relabel", label="a"), review(1, "drop"), review(2, "confirm")], rows=400)
    assert decisions(read_reviews(folder))[1].action == "drop"
    add_reviews(folder, [review(1, "undo")], rows=400)
    held = decisions(read_reviews(folder))
    assert (held[1].action, held[1].label, held[2].action) == ("relabel", "a", "confirm")
    add_reviews(folder, [review(1, "undo")], rows=400)
    assert set(decisions(read_reviews(folder))) == {2}
    with pytest.raises(InputError):
        add_reviews(folder, [review(1, "undo")], rows=400)
    assert [one.seq for one in read_reviews(folder)] == [1, 2, 3, 4, 5]


def test_labels_after_decisions() -> None:
    assert label_after("a", None) == "a"
    assert label_after("a", review(0, "relabel", label="b")) == "b"
    assert label_after("a", review(0, "drop")) is None
    assert label_after("a", review(0, "confirm")) == "a"


@pytest.mark.parametrize(
    "bad",
    [
        {"action": "relabel"},
        {"action": "relabel", "label": "  "},
        {"action": "relabel", "label": "x" * 1001},
        {"action": "relabel", "label": "\ud800"},
        {"action": "confirm", "label": "a"},
        {"action": "burn"},
        {"action": "drop", "row": 400},
        {"action": "drop", "row": -1},
        {"action": "drop", "note": "x" * 10_001},
    ],
    ids=str,
)
def test_incomplete_reviews_are_refused_and_none_of_their_company_is_stored(
    bad: dict[str, Any], imported: Path
) -> None:
    folder = find_dataset(imported, "chat")
    with pytest.raises(InputError):
        add_reviews(folder, [review(1, "drop"), review(**{"row": 2, **bad})], rows=400)
    assert list(read_reviews(folder)) == []


def test_a_row_that_was_reviewed_meanwhile_is_a_conflict(imported: Path) -> None:
    folder = find_dataset(imported, "chat")
    add_reviews(folder, [review(1, "drop")], rows=400)
    add_reviews(folder, [review(2, "drop")], rows=400, unchanged_since=0)
    with pytest.raises(InputError) as caught:
        add_reviews(folder, [review(1, "confirm")], rows=400, unchanged_since=0)
    assert caught.value.code == "conflict"
    add_reviews(folder, [review(1, "confirm")], rows=400, unchanged_since=1)


def test_a_torn_line_was_never_acknowledged_and_goes(imported: Path) -> None:
    folder = find_dataset(imported, "chat")
    add_reviews(folder, [review(1, "drop"), review(2, "drop")], rows=400)
    whole = folder.review_log.read_bytes()
    folder.review_log.write_bytes(whole + b'{"seq": 3, "row": 3, "act')
    assert [one.row for one in read_reviews(folder)] == [1, 2]
    with open_dataset(imported, "chat") as opened:
        assert set(opened.decisions) == {1, 2}
    add_reviews(folder, [review(4, "drop")], rows=400)
    assert [(one.seq, one.row) for one in read_reviews(folder)] == [(1, 1), (2, 2), (3, 4)]
    assert folder.review_log.read_bytes().startswith(whole)


def test_writers_take_turns_and_no_number_is_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"

    def write(writer: int) -> None:
        for entry in range(50):
            log.append(path, [{"writer": writer, "entry": entry}, {"writer": writer, "entry": entry + 0.5}])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = list(log.entries(path))
    assert [entry["seq"] for entry in entries] == list(range(1, 401))
    assert len({(entry["writer"], entry["entry"]) for entry in entries}) == 400
    assert log.last_number(path) == 400


def test_long_entries_are_found_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for size in (10, 300_000, 70_000):
        log.append(path, [{"note": "x" * size}])
    assert log.last_number(path) == 3
    assert log.last_number(tmp_path / "none") == 0


def test_a_full_disk_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    log.append(path, [{"a": 1}])
    before = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OutputError):
            log.append(path, [{"a": 2}])
    assert path.read_bytes() == before
    assert log.append(path, [{"a": 3}]) == 2


def test_a_log_is_emptied_only_where_nothing_came_since(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log.append(path, [{"a": 1}, {"a": 2}])
    log.clear(path, up_to=1)
    assert len(list(log.entries(path))) == 2
    log.clear(path, up_to=2)
    assert path.read_bytes() == b""


def test_reviews_are_a_table_that_others_read(imported: Path) -> None:
    folder = find_dataset(imported, "chat")
    add_reviews(folder, [review(1, "relabel", label="é\u202e\x00", note="why"), review(3, "keep")], rows=400)
    assert json.loads(folder.review_log.read_text().splitlines()[0])["label"] == "é\u202e\x00"
    with open_dataset(imported, "chat") as opened:
        first, second = opened.query("SELECT * FROM reviews ORDER BY seq")
        assert (first["row"], first["action"], first["label"], first["note"]) == (
            1,
            "relabel",
            "é\u202e\x00",
            "why",
        )
        assert first["reviewed_at"].year >= 2025
        assert (second["label"], second["reviewer"]) == (None, "ann")
        assert opened.count("decisions") == 2


@pytest.mark.parametrize("before", [0, 2])
def test_of_entries_that_were_added_together_all_are_stored_or_none(tmp_path: Path, before: int) -> None:
    """A log cut at any byte of a write, as a kill leaves it."""
    path = tmp_path / "log"
    if before:
        log.append(path, [{"a": number} for number in range(before)])
    known = path.stat().st_size if before else 0
    log.append(path, [{"b": number} for number in range(3)])
    whole = path.read_bytes()
    for size in range(known, len(whole)):
        path.write_bytes(whole[:size])
        assert log.last_number(path) == before
        assert [entry["seq"] for entry in log.entries(path)] == list(range(1, before + 1))
    assert log.append(path, [{"c": 1}]) == before + 1
    *_, added = log.entries(path)
    assert added == {"seq": before + 1, "c": 1}
    assert path.read_bytes().startswith(whole[:known])


def test_what_decisions_are_worth_is_told_by_the_next_run(chat: Chat, imported: Path) -> None:
    """All wrong labels are mended, and some rows dropped: a classifier is right more often."""
    folder = find_dataset(imported, "chat")
    mended, dropped = chat.wrong[2:], chat.wrong[:2]
    decided = [Review(row=row, action="relabel", label=chat.truth[row], reviewer="a") for row in mended]
    decided += [Review(row=row, action="drop", reviewer="a") for row in dropped]
    add_reviews(folder, decided, rows=400)
    effect = run(imported, "chat").summary["review_effect"]
    assert effect["judged_on"] == "test rows"
    assert effect["after"]["rows"] == effect["before"]["rows"] > 30
    assert effect["after"]["accuracy"] >= effect["before"]["accuracy"]
    assert effect["after"]["accuracy"] > 0.8
