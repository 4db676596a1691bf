"""Results are aligned, whole and parseable; progress is plain where no person watches."""

from __future__ import annotations

import json

import pytest

from embup.cli import output


def test_a_table_into_a_pipe_is_aligned_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 150
    output.print_table(("name", "value"), [(long, "1.5"), ("short", "-22.25")])
    assert capsys.readouterr().out.splitlines() == [
        f"{'name':150}   value",
        f"{long}     1.5",
        f"{'short':150}  -22.25",
    ]


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"rows": 3, "name": "é"})
    assert json.loads(capsys.readouterr().out) == {"rows": 3, "name": "é"}


def test_progress_without_a_terminal_is_plain_lines_at_intervals(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now_s[0])
    with output.progress("work") as bar:
        for done in range(24):
            bar(f"{done} rows", done, 24)
            now_s[0] += 1.0
    caught = capsys.readouterr()
    assert caught.out == ""
    assert caught.err == "work 21 %  5 rows\nwork 42 %  10 rows\nwork 62 %  15 rows\nwork 83 %  20 rows\n"


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (3e9, "3.0 GB")],
)
def test_sizes_are_for_people(size_bytes: float, text: str) -> None:
    assert output.file_size(size_bytes) == text
