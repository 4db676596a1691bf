"""A data set that stays open shows what was written since, and closes when another one is read."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import duckdb
import pytest

from debugger.importing.annotated import import_annotated
from debugger.kept_open import KeptOpen
from debugger.predictions.stored import publish, record_answers
from debugger.reading import BrokenDatasetError
from debugger.reviews import Review, add_reviews
from debugger.runs import run
from debugger.store.names import find_dataset
from embup_core.errors import InputError
from tests.debugger.conftest import quick_analysis

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_the_same_until_something_is_written(imported: Path, chat_file: Path) -> None:
    kept, folder = KeptOpen(), find_dataset(imported, "chat")
    with kept.open(imported, "chat") as first:
        assert first.version is None
    with kept.open(imported, "chat") as again:
        assert again is first
    run(imported, "chat", analyse=quick_analysis)
    with kept.open(imported, "chat") as analysed:
        assert analysed.version == 1
    add_reviews(folder, [Review(row=1, action="drop", reviewer="a")], rows=400)
    with kept.open(imported, "chat") as reviewed:
        assert list(reviewed.decisions) == [1]
    record_answers(folder, "api", [(0, [("visa", 0.75)])])
    publish(folder)
    with kept.open(imported, "chat") as asked:
        assert asked.asked_sources() == ["api"]
    run(imported, "chat", analyse=quick_analysis, seed=1)
    with pytest.raises(InputError), kept.open(imported, "chat", version=1) as old:
        raise InputError("A caller's own error closes nothing.")
    with kept.open(imported, "chat", version=1) as again:
        assert again is old
        assert again.version == 1
    import_annotated(chat_file, imported, "other")
    with kept.open(imported, "other") as other:
        assert (other.name, other.version) == ("other", None)
    with kept.open(imported, "chat") as back:
        assert (back.name, back.version) == ("chat", 2)
    kept.close()


def test_each_thread_has_its_own(imported: Path) -> None:
    kept, found = KeptOpen(), []

    def read() -> None:
        with kept.open(imported, "chat") as opened:
            found.append(opened)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    assert found[0] is not found[1]


def test_a_broken_one_is_opened_again(imported: Path) -> None:
    kept = KeptOpen()
    with pytest.raises(BrokenDatasetError), kept.open(imported, "chat") as opened:
        raise BrokenDatasetError("A file cannot be read.")
    with kept.open(imported, "chat") as again:
        assert again is not opened
        assert again.count("rows") == 400


def test_one_that_is_not_read_for_long_is_closed(imported: Path) -> None:
    others = set(threading.enumerate())
    kept = KeptOpen(idle_s=0.05)
    with kept.open(imported, "chat") as opened:
        assert opened.count("rows") == 400
    while timers := [one for one in threading.enumerate() if one not in others]:
        for timer in timers:
            timer.join(timeout=60)
    with pytest.raises(duckdb.ConnectionException):
        opened.connection.execute("SELECT 1")
    with kept.open(imported, "chat") as again:
        assert again is not opened
        assert again.count("rows") == 400
    kept.close()
