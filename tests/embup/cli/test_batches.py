"""`embup submit|status|watch|cancel|list` against a real service."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def source(data: Path) -> Path:
    """A batch input of 300 rows below the service's data folder."""
    path = data / "in.txt"
    np.savetxt(path, np.random.default_rng(0).standard_normal((300, 32)), fmt="%.8f", delimiter=",")
    return path


def test_a_batch_is_submitted_watched_shown_and_listed(
    embup: Run, url: str, source: Path, data: Path
) -> None:
    submitted = embup("submit", source, data / "shown.txt", "--url", url)
    assert submitted.returncode == 0, submitted.stderr
    identity = submitted.stdout.strip()

    watched = embup("watch", identity, "--url", url, "--json")
    assert watched.returncode == 0, watched.stderr
    last = json.loads(watched.stdout)
    assert (last["status"], last["num_records_processed"]) == ("COMPLETED", 300)
    assert (data / "shown.txt").exists()

    shown = embup("status", identity, "--url", url)
    assert "COMPLETED" in shown.stdout
    assert json.loads(embup("status", identity, "--url", url, "--json").stdout) == last
    assert identity in embup("list", "--url", url).stdout
    listed = json.loads(embup("list", "--url", url, "--json").stdout)["batches"]
    assert identity in [batch["batch_request_id"] for batch in listed]


def test_a_batch_is_shown_for_people(embup: Run, url: str, source: Path, data: Path) -> None:
    """The list names the files; a watch tells on stderr how far it is, even where no terminal is."""
    target = data / "new folder" / "people.txt"
    refused = embup("submit", source, target, "--url", url)
    assert refused.returncode == 2
    identity = embup("submit", source, target, "--make-parents", "--url", url).stdout.strip()
    watched = embup("watch", identity, "--url", url)
    assert watched.returncode == 0
    assert watched.stderr.splitlines()[-1].startswith("completed, 300 rows, 100 %")
    shown = dict(line.split(maxsplit=1) for line in watched.stdout.splitlines())
    assert (shown["batch"], shown["phase"], shown["rows"]) == (identity, "COMPLETED", "300")
    assert (shown["input"], shown["output"]) == (str(source), str(target))
    assert shown["done"].startswith("100 % ")
    (line,) = [line for line in embup("list", "--url", url).stdout.splitlines() if identity in line]
    assert "COMPLETED" in line
    assert "  100 %  " in line
    assert line.split()[-2:] == ["in.txt", "people.txt"]


def test_paths_are_those_of_the_working_folder(embup: Run, url: str, source: Path, data: Path) -> None:
    submitted = embup("submit", source.name, "relative.txt", "--url", url, "--json", cwd=data)
    identity = json.loads(submitted.stdout)["batch_request_id"]
    assert embup("watch", identity, "--url", url).returncode == 0
    assert (data / "relative.txt").exists()


def test_links_of_the_working_folder_are_followed_by_the_command(
    embup: Run, url: str, source: Path, data: Path, tmp_path: Path
) -> None:
    """The service follows none, but may read where they lead."""
    (tmp_path / "in.txt").symlink_to(source)
    (tmp_path / "folder").symlink_to(data)
    submitted = embup("submit", "in.txt", "folder/linked.txt", "--url", url, cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    assert embup("watch", submitted.stdout.strip(), "--url", url).returncode == 0
    assert (data / "linked.txt").exists()


def test_the_address_may_come_from_the_environment(embup: Run, url: str) -> None:
    assert embup("list", EMBUP_SERVICE_URL=url).returncode == 0


def test_watching_a_batch_that_fails_fails_and_says_why(
    embup: Run, url: str, source: Path, data: Path
) -> None:
    with source.open("a") as lines:
        lines.write("one, two\n")
    identity = embup("submit", source, data / "failed.txt", "--url", url).stdout.strip()
    watched = embup("watch", identity, "--url", url)
    assert watched.returncode == 1
    assert "FAILED" in watched.stdout
    assert "line 301" in watched.stdout
    assert not (data / "failed.txt").exists()


def test_a_cancelled_batch_publishes_nothing(embup: Run, url: str, data: Path) -> None:
    long = data / "long.txt"
    line = ",".join(["0.25"] * 32) + "\n"
    long.write_text(line * 60_000)
    identity = embup("submit", long, data / "cancelled.txt", "--url", url).stdout.strip()
    assert embup("cancel", identity, "--url", url).returncode == 0
    watched = embup("watch", identity, "--url", url, "--json")
    assert watched.returncode == 1
    assert json.loads(watched.stdout)["phase"] == "CANCELLED"
    assert not (data / "cancelled.txt").exists()
    again = embup("cancel", identity, "--url", url)
    assert again.returncode == 2
    assert again.stderr.startswith("error: ")


@pytest.mark.parametrize("command", ["status", "watch", "cancel"])
def test_an_empty_id_is_said_and_names_no_other_request(embup: Run, url: str, command: str) -> None:
    result = embup(command, "", "--url", url)
    assert result.returncode == 2
    assert "expected a batch_request_id, found nothing" in result.stderr


@pytest.mark.parametrize("command", ["status", "watch", "cancel"])
def test_an_unknown_batch_is_bad_input(command: str, embup: Run, url: str) -> None:
    result = embup(command, "no-such-batch", "--url", url)
    assert result.returncode == 2
    assert "no-such-batch" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_input_is_refused_at_once(embup: Run, url: str, data: Path) -> None:
    result = embup("submit", data / "none.txt", data / "out.txt", "--url", url)
    assert result.returncode == 2
    assert "none.txt" in result.stderr


@pytest.mark.parametrize(("address", "code"), [("http://127.0.0.1:9", 1), ("nonsense", 2), ("http://", 2)])
def test_an_address_where_nothing_answers_is_named_with_a_remedy(address: str, code: int, embup: Run) -> None:
    result = embup("list", "--url", address)
    assert (result.returncode, result.stdout) == (code, "")
    assert address in result.stderr
    assert "--url" in result.stderr
