"""The move to the final name: never replacing unasked, with and without the system call for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from embup_core.batch.outputs import publication
from embup_core.batch.outputs.publication import move_into_place
from embup_core.errors import OutputError
from embup_core.files.held_folder import open_freely

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.files.held_folder import FolderEntry


@pytest.fixture(params=["renameat2", "link"])
def part(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FolderEntry]:
    """A whole new file, on a system that has the call and on one that has not."""
    if request.param == "link":
        monkeypatch.setattr(publication, "_renameat2", lambda: None)
    (tmp_path / "out.txt.part").write_text("new")
    with open_freely(tmp_path) as folder:
        yield folder.entry("out.txt.part")


def test_a_free_name_is_taken(part: FolderEntry, tmp_path: Path) -> None:
    move_into_place(part, part.folder.entry("out.txt"), overwrite=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.txt", "new")]


def test_a_taken_name_is_left_alone(part: FolderEntry, tmp_path: Path) -> None:
    final = part.folder.entry("out.txt")
    (tmp_path / "out.txt").write_text("old")
    with pytest.raises(OutputError, match=r"out.txt exists\. Choose another"):
        move_into_place(part, final, overwrite=False)
    assert (tmp_path / "out.txt").read_text() == "old"
    assert part.path.read_text() == "new"
    move_into_place(part, final, overwrite=True)
    assert (tmp_path / "out.txt").read_text() == "new"
    assert not part.path.exists()


def test_a_folder_that_is_gone_is_an_output_error(part: FolderEntry, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    with open_freely(tmp_path / "gone") as gone:
        (tmp_path / "gone").rmdir()
        with pytest.raises(OutputError, match="cannot be written: No such file or directory"):
            move_into_place(part, gone.entry("out.txt"), overwrite=False)
    assert part.path.read_text() == "new"
