"""kill -9 at random moments of an import, a run, reviews and predictions: nothing half, nothing lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from debugger.importing.annotated import import_annotated
from debugger.predictions.stored import predicted_rows
from debugger.reading import open_dataset
from debugger.reviews import Review, add_reviews, read_reviews
from debugger.store.names import find_dataset, list_datasets
from tests.debugger.chatbot import generate_chat
from tests.debugger.prediction_api import PredictionApi

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]
KILLS = 50 if os.environ.get("EMBUP_CRASH_SCALE") == "full" else 3
ROOT = Path(__file__).parents[2]
HEAD = "import sys; from pathlib import Path; data = Path(sys.argv[1]); "
IMPORT = (
    HEAD + "from debugger.importing.annotated import import_annotated; print('begun', flush=True); "
    "import_annotated(Path(sys.argv[2]), data, 'killed')"
)
RUN = (
    HEAD + "from debugger.runs import run; from tests.debugger.conftest import quick_analysis; "
    "print('begun', flush=True); run(data, 'chat', analyse=quick_analysis)"
)
REVIEW = (
    HEAD + "from debugger.reviews import Review, add_reviews; "
    "from debugger.store.names import find_dataset; folder = find_dataset(data, 'chat')\n"
    "print('begun', flush=True)\n"
    "for row in range(100_000):\n"
    "    two = [Review(row=row % 400, action='drop', reviewer=str(row)) for _ in range(2)]\n"
    "    print(add_reviews(folder, two, rows=400)[-1].seq, flush=True)"
)
PREDICT = (
    HEAD + "from debugger.predictions.asking import predict; "
    "from debugger.predictions.client import PredictionClient; "
    "from debugger.predictions.limits import AskLimits; "
    "client = PredictionClient(sys.argv[2], limits=AskLimits(requests_per_s=1000)); "
    "print('begun', flush=True); predict(data, 'chat', client)"
)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a process; it has imported what it needs when this returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def duration_s(begin: Callable[[], subprocess.Popen[str]]) -> float:
    """Seconds that it takes when nobody kills it."""
    process = begin()
    started_s = time.monotonic()
    finish(process)
    return time.monotonic() - started_s


def finish(process: subprocess.Popen[str]) -> None:
    """Let a process come to its end."""
    process.communicate(timeout=100)
    assert process.returncode == 0


def kill_at(process: subprocess.Popen[str], after_s: float) -> str:
    """Kill a process at some moment; what it printed until then."""
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    return process.communicate()[0]


def test_no_import_is_half(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(generate_chat(5_000).records))
    whole_s = duration_s(lambda: start(IMPORT, data / "whole", file))
    draw = random.Random(0)
    for _ in range(KILLS):
        kill_at(start(IMPORT, data, file), draw.uniform(0, 1.1 * whole_s))
        if list_datasets(data):
            with open_dataset(data, "killed") as opened:
                assert opened.count("rows") == 5_000
            (data / "debug" / "killed").rename(tmp_path / f"done{time.monotonic_ns()}")
    import_annotated(file, data, "killed")
    assert [path.name for path in (data / "debug").iterdir()] == ["killed"]


def test_no_analysis_is_half(imported: Path) -> None:
    folder = find_dataset(imported, "chat")
    whole_s = duration_s(lambda: start(RUN, imported))
    draw = random.Random(0)
    for _ in range(KILLS):
        kill_at(start(RUN, imported), draw.uniform(0, 1.1 * whole_s))
        for version in folder.versions():
            with open_dataset(imported, "chat", version=version) as opened:
                assert opened.query("SELECT version FROM analysis") == [{"version": version}]
                assert opened.count("findings") == 6
                assert opened.count("scores") == 4 * 400 - 1
    finish(start(RUN, imported))
    assert not [path for path in folder.path.iterdir() if ".new" in path.name]


def test_no_acknowledged_review_is_lost(imported: Path) -> None:
    folder = find_dataset(imported, "chat")
    draw = random.Random(0)
    acknowledged = 0
    for _ in range(KILLS):
        printed = kill_at(start(REVIEW, imported), draw.uniform(0, 0.5)).splitlines()
        acknowledged = max([acknowledged, *(int(line) for line in printed if line)])
        stored = list(read_reviews(folder))
        assert [review.seq for review in stored] == list(range(1, len(stored) + 1))
        assert len(stored) >= acknowledged
    assert acknowledged
    (added,) = add_reviews(folder, [Review(row=1, action="keep", reviewer="after")], rows=400)
    assert list(read_reviews(folder))[-1] == added


def test_no_stored_prediction_is_lost_or_asked_for_again(imported: Path) -> None:
    folder = find_dataset(imported, "chat")
    draw = random.Random(0)
    with PredictionApi() as api:
        api.slow_s = 0.05
        for _ in range(KILLS):
            known = predicted_rows(folder, "api")
            before = api.asked.copy()
            kill_at(start(PREDICT, imported, api.url), draw.uniform(0, 0.6))
            assert predicted_rows(folder, "api") >= known
            with open_dataset(imported, "chat") as opened:
                texts = {row["row"]: row["text"] for row in opened.query("SELECT row, text FROM rows")}
            unknown = [texts[row] for row in texts if row not in known]
            again = (api.asked - before).elements()
            assert not set(again) - set(unknown)
        api.slow_s = 0
        finish(start(PREDICT, imported, api.url))
    assert len(predicted_rows(folder, "api")) == 400
    with open_dataset(imported, "chat") as opened:
        assert opened.count("predictions") == 400
        assert opened.count("prediction_failures") == 0
