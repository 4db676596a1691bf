"""The move to the final name: never replacing unasked, with and without the system call for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from embup_core.batch import publication
from embup_core.batch.publication import move_into_place, sync_output_folder
from embup_core.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["renameat2", "link"])
def part(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole new file, on a system that has the call and on one that has not."""
    if request.param == "link":
        monkeypatch.setattr(publication, "_renameat2", lambda: None)
    path = tmp_path / "out.txt.part"
    path.write_text("new")
    return path


def test_a_free_name_is_taken(part: Path, tmp_path: Path) -> None:
    move_into_place(part, tmp_path / "out.txt", overwrite=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.txt", "new")]


def test_a_taken_name_is_left_alone(part: Path, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(OutputError, match=r"out.txt exists\. Choose another"):
        move_into_place(part, tmp_path / "out.txt", overwrite=False)
    assert (tmp_path / "out.txt").read_text() == "old"
    assert part.read_text() == "new"
    move_into_place(part, tmp_path / "out.txt", overwrite=True)
    assert (tmp_path / "out.txt").read_text() == "new"
    assert not part.exists()


def test_a_folder_that_is_gone_is_an_output_error(part: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        move_into_place(part, tmp_path / "gone" / "out.txt", overwrite=False)
    with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
        sync_output_folder(tmp_path / "gone")
