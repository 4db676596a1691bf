"""`embup debug` as people run it: import, predict, run, look, decide, export."""

from __future__ import annotations

import json
import shlex
import shutil
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pytest
import typer

from embup.cli.debug import app
from embup.cli.debug.words import line
from tests.debugger.chatbot import Chat, generate_chat
from tests.debugger.prediction_api import PredictionApi

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import CompletedProcess

    Run = Callable[..., CompletedProcess[str]]


@pytest.fixture(scope="module")
def chat() -> Chat:
    return generate_chat(600, seed=1)


@pytest.fixture(scope="module")
def analysed(tmp_path_factory: pytest.TempPathFactory, chat: Chat, embup: Run) -> Path:
    """A folder whose `data` holds the data set `chat`, analysed once. Tests of decisions make their own."""
    folder = tmp_path_factory.mktemp("debug")
    (folder / "chat.json").write_text(json.dumps(chat.records))
    assert embup("debug", "import", "chat.json", "--name", "chat", cwd=folder).returncode == 0
    assert embup("debug", "run", "chat", cwd=folder).returncode == 0
    return folder


def answer(result: CompletedProcess[str]) -> dict[str, Any]:
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def next_command(result: CompletedProcess[str]) -> list[str]:
    """The command that the last one says to run next, without `embup`."""
    assert result.returncode == 0, result.stderr
    (said,) = [text for text in result.stderr.splitlines() if text.startswith("next: ")]
    return shlex.split(said.removeprefix("next: "))[1:]


def test_commands_lead_from_a_file_to_a_wrong_label(chat: Chat, tmp_path: Path, embup: Run) -> None:
    """Only what each command says to do next is typed."""
    (tmp_path / "chat.json").write_text(json.dumps(chat.records))
    result = embup("debug", "import", "chat.json", "--name", "chat", cwd=tmp_path)
    assert "label" in result.stderr
    assert "data.intent" in result.stderr
    seen = []
    for _ in range(3):
        step = next_command(result)
        seen.append(step[1])
        result = embup(*step, cwd=tmp_path)
    assert seen == ["run", "findings", "show"]
    decide = next_command(result)
    assert decide[:3] == ["debug", "review", "chat"]
    row = int(decide[3])
    assert row in chat.wrong
    assert decide[4:6] == ["relabel", "--label"]
    assert decide[6] == chat.truth[row]
    following = next_command(embup(*decide, cwd=tmp_path))
    assert following[1] == "show"
    assert int(following[3]) != row


def test_every_command_answers_in_json(analysed: Path, chat: Chat, embup: Run) -> None:
    listed = answer(embup("debug", "list", "--json", cwd=analysed))
    (one,) = listed["datasets"]
    assert (one["name"], one["rows"], one["analyses"]) == ("chat", 600, 1)
    found = answer(embup("debug", "findings", "chat", "--kind", "label_error", "--json", cwd=analysed))
    assert found["version"] == 1
    rows = [finding["rows"][0] for finding in found["findings"]]
    assert len(set(rows[:10]) & set(chat.wrong)) >= 9
    shown = answer(embup("debug", "show", "chat", rows[0], "--json", cwd=analysed))
    assert (shown["row"], shown["text"]) == (rows[0], chat.texts[rows[0]])
    assert shown["predictions"][0]["label"] == chat.truth[rows[0]]
    suggested = answer(embup("debug", "suggest", "chat", "--count", "7", "--json", cwd=analysed))
    assert len(suggested["rows"]) == 7
    assert not [row for row in suggested["rows"] if row["label"]]
    exported = answer(
        embup("debug", "export", "chat", "annotate", "next.csv", "--count", "3", "--json", cwd=analysed)
    )
    assert exported["rows"] == 3


def test_the_label_that_is_offered_is_that_of_the_finding(analysed: Path, tmp_path: Path, embup: Run) -> None:
    """Copies of a row count in a finding, and not in what the classifier says of the row alone."""
    shutil.copytree(analysed / "data", tmp_path / "data")
    (analysis,) = (tmp_path / "data").rglob("analysis-1.duckdb")
    with duckdb.connect(analysis) as opened:
        ((row, evidence),) = opened.execute(
            "SELECT rows[1], evidence FROM findings WHERE kind = 'label_error' ORDER BY finding LIMIT 1"
        ).fetchall()
        changed = json.dumps({**json.loads(evidence), "predicted": "of its copies"})
        opened.execute(
            "UPDATE findings SET evidence = ? WHERE kind = 'label_error' AND rows[1] = ?", [changed, row]
        )
    offered = next_command(embup("debug", "show", "chat", row, cwd=tmp_path))
    assert offered[3:] == [str(row), "relabel", "--label", "of its copies"]


def test_a_review_is_applied_by_the_next_run_and_the_export(chat: Chat, tmp_path: Path, embup: Run) -> None:
    (tmp_path / "chat.json").write_text(json.dumps(chat.records))
    answer(embup("debug", "import", "chat.json", "--name", "chat", "--json", cwd=tmp_path))
    decided = [row for row in chat.wrong if row < 60]
    assert len(decided) > 1
    for row in decided:
        stored = answer(
            embup("debug", "review", "chat", row, "relabel", "--label", chat.truth[row], "--by", "ann",
                  "--json", cwd=tmp_path)
        )  # fmt: skip
        assert (stored["row"], stored["reviewer"]) == (row, "ann")
    first = answer(embup("debug", "run", "chat", "--json", cwd=tmp_path))
    assert first["reviews"] == len(decided)
    assert answer(embup("debug", "review", "chat", decided[0], "undo", "--json", cwd=tmp_path))["seq"] > 1
    second = answer(embup("debug", "run", "chat", "--json", cwd=tmp_path))
    assert (second["version"], second["reviews"]) == (2, len(decided) - 1)
    compared = answer(embup("debug", "compare", "chat", 1, 2, "--json", cwd=tmp_path))
    worst = compared["scores"]["label_error"]["worst"][0]
    assert worst["row"] == decided[0]
    assert worst["after"] > worst["before"]
    assert compared["findings"]["label_error"]["new"] >= 1
    assert embup("debug", "compare", "chat", 1, 2, cwd=tmp_path).returncode == 0
    result = answer(embup("debug", "export", "chat", "cleaned", "clean.json", "--json", cwd=tmp_path))
    assert (result["rows"], result["relabelled"]) == (600, len(decided) - 1)
    cleaned = json.loads((tmp_path / "clean.json").read_text())
    assert json.loads(cleaned[decided[1]]["data"])["intent"] == chat.truth[decided[1]]
    assert cleaned[decided[0]] == chat.records[decided[0]]


def test_predictions_over_http_and_what_they_disagree_with(chat: Chat, tmp_path: Path, embup: Run) -> None:
    (tmp_path / "chat.json").write_text(json.dumps(chat.records))
    (tmp_path / "key").write_text("secret")
    answer(embup("debug", "import", "chat.json", "--name", "chat", "--json", cwd=tmp_path))
    with PredictionApi(lambda _, number: (500, {}, b"") if number % 50 == 3 else None) as api:
        report = answer(
            embup("debug", "predict", "chat", "--url", api.url, "--key-file", "key",
                  "--requests-per-second", 500, "--json", cwd=tmp_path)
        )  # fmt: skip
        assert (report["answered"], report["failed"], report["stopped"]) == (600, 0, "")
        assert set(api.keys) == {"secret"}
        assert max(api.sizes) == 20
    shown = answer(embup("debug", "show", "chat", 3, "--json", cwd=tmp_path))
    assert shown["predictions"][0]["source"] == "api"


def test_an_api_that_refuses_ends_with_exit_code_1(analysed: Path, embup: Run) -> None:
    with PredictionApi(lambda *_: (401, {}, b"")) as api:
        result = embup("debug", "predict", "chat", "--url", api.url, cwd=analysed)
    assert result.returncode == 1
    assert "401" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["import", "none.json", "--name", "x"],
        ["import", "chat.json", "--name", "chat"],
        ["import", "chat.json", "--name", "x", "--field", "text"],
        ["import", "chat.json", "--name", "x", "--vectors", "other=a.npy"],
        ["run", "unknown"],
        ["show", "chat", "600"],
        ["findings", "chat", "--kind", "nothing"],
        ["findings", "chat", "--version", "9"],
        ["review", "chat", "1", "relabel"],
        ["review", "chat", "1", "undo"],
        ["compare", "chat", "1", "2"],
        ["export", "chat", "cleaned", "out.csv"],
        ["export", "chat", "cleaned", "chat.json"],
        ["predict", "chat"],
        ["predict", "chat", "--url", "file:///etc/passwd"],
        ["predict", "chat", "--file", "none.csv"],
    ],
    ids=" ".join,
)
def test_mistakes_end_with_a_message_and_exit_code_2(words: list[str], analysed: Path, embup: Run) -> None:
    result = embup("debug", *words, cwd=analysed)
    assert result.returncode == 2, result.stdout
    assert result.stderr.startswith("error: ")
    assert "fault of embup" not in result.stderr
    assert len(result.stderr.splitlines()) >= 2


def test_bad_rows_are_listed_and_skipped_as_asked_for(chat: Chat, tmp_path: Path, embup: Run) -> None:
    records = [
        *chat.records[:50],
        {"id": 1, "data": "{", "usage": None},
        {"data": '{"text": "a"}', "usage": "?"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(records))
    result = embup("debug", "import", "a.json", "--name", "a", cwd=tmp_path)
    assert result.returncode == 2
    assert "row 51" in result.stderr
    assert "row 52, usage" in result.stderr
    assert "--on-bad-row skip" in result.stderr
    report = answer(
        embup("debug", "import", "a.json", "--name", "a", "--on-bad-row", "skip", "--json", cwd=tmp_path)
    )
    assert (report["rows"], report["skipped"]) == (50, 2)


def test_a_dry_run_imports_nothing(chat: Chat, tmp_path: Path, embup: Run) -> None:
    (tmp_path / "chat.json").write_text(json.dumps(chat.records))
    shown = answer(embup("debug", "import", "chat.json", "--name", "x", "--dry-run", "--json", cwd=tmp_path))
    assert shown["fields"]["label"] == "data.intent"
    assert shown["others"] == ["project_id"]
    assert not (tmp_path / "data").exists()


def test_hostile_texts_do_nothing_to_a_terminal(tmp_path: Path, embup: Run) -> None:
    texts = ["\x1b[2J\x1b]0;owned\x07", "\u202eevil", "a\rb\nc", "👩‍👧 fine", "x" * 1_000_000]
    (tmp_path / "a.json").write_text(json.dumps([{"text": text, "label": text[:9]} for text in texts]))
    answer(embup("debug", "import", "a.json", "--name", "a", "--json", cwd=tmp_path))
    for row in range(len(texts)):
        shown = embup("debug", "show", "a", row, cwd=tmp_path)
        assert shown.returncode == 0
        printed = shown.stdout + shown.stderr
        assert not [one for one in printed if not one.isprintable() and one not in "\n\u200d"]
        assert len(printed) < 3000
    assert line("👩‍👧") == "👩‍👧"


def test_every_subcommand_and_option_has_a_help_text(embup: Run) -> None:
    group: Any = typer.main.get_command(app)
    expected = "import list predict run findings show review suggest compare export"
    assert set(group.commands) == set(expected.split())
    for name, command in group.commands.items():
        assert command.help
        assert not [one.name for one in command.params if not getattr(one, "help", None)]
        assert embup("debug", name, "--help").returncode == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--dry-run"],
        ["--field", "text=a"],
        ["--vectors", "embedding=a.npy"],
        ["--format", "csv"],
        ["--on-bad-row", "skip"],
    ],
)
def test_training_data_takes_no_options_of_files(words: list[str], tmp_path: Path, embup: Run) -> None:
    (tmp_path / "folder").mkdir()
    result = embup("debug", "import", "folder", "--name", "x", *words, cwd=tmp_path)
    assert result.returncode == 2
    assert words[0] in result.stderr
    assert not (tmp_path / "data").exists()


def test_a_dry_run_knows_of_vectors_in_files_of_their_own(tmp_path: Path, embup: Run) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"label": "a"}, {"label": "b"}]))
    np.save(tmp_path / "a.npy", np.eye(2, dtype=np.float32))
    words = ["debug", "import", "a.json", "--name", "x", "--dry-run"]
    assert embup(*words, cwd=tmp_path).returncode == 2
    found = answer(embup(*words, "--vectors", "embedding=a.npy", "--json", cwd=tmp_path))
    assert found["fields"] == {"label": "label"}
    assert not (tmp_path / "data").exists()
