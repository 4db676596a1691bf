"""The growing file beside the output: what stood under its name before, and who holds it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.batch.outputs.part_file import PartFile
from embup_core.errors import JobConflictError, OutputError
from embup_core.files.held_folder import open_freely

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.files.held_folder import FolderEntry


@pytest.fixture
def entry(tmp_path: Path) -> Iterator[FolderEntry]:
    """The name out.txt.part in a folder that is open."""
    with open_freely(tmp_path) as folder:
        yield folder.entry("out.txt.part")


def test_discarding_a_part_file_leaves_the_content_of_another_name_alone(
    tmp_path: Path, entry: FolderEntry
) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text("precious")
    entry.path.hardlink_to(kept)
    PartFile.remove_leftover(entry)
    new = PartFile.create(entry)
    new.append(b"row\n")
    new.close()
    assert kept.read_text() == "precious"
    assert entry.path.read_text() == "row\n"


def test_a_live_part_file_is_not_discarded(entry: FolderEntry) -> None:
    live = PartFile.create(entry)
    live.append(b"row\n")
    with pytest.raises(JobConflictError, match="another batch is writing"):
        PartFile.remove_leftover(entry)
    assert entry.path.read_text() == "row\n"
    live.close()


def test_a_name_that_is_taken_is_not_replaced(entry: FolderEntry) -> None:
    entry.path.write_text("precious")
    with pytest.raises(OutputError, match=r"out.txt.part exists"):
        PartFile.create(entry)
    assert entry.path.read_text() == "precious"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), r"Is a directory\. Remove that folder"),
        (lambda path: path.symlink_to(path.with_name("kept.txt")), r"symbolic links\. Remove that link"),
        (os.mkfifo, r"is not a regular file\. Remove it"),
    ],
    ids=["folder", "link", "pipe"],
)
def test_what_is_no_regular_file_is_refused_with_a_remedy(
    tmp_path: Path, entry: FolderEntry, make: Any, message: str
) -> None:
    (tmp_path / "kept.txt").write_text("precious")
    make(tmp_path / "out.txt.part")
    with pytest.raises(OutputError, match=message):
        PartFile.remove_leftover(entry)
    assert (tmp_path / "kept.txt").read_text() == "precious"
    assert os.path.lexists(tmp_path / "out.txt.part")


@pytest.mark.parametrize("again", [True, False])
def test_a_part_file_that_somebody_else_cuts_is_noticed(entry: FolderEntry, again: bool) -> None:
    """A write behind its end would fill the gap with NUL bytes and make the size right again."""
    part = PartFile.create(entry)
    part.append(b"row\n" * 100)
    os.truncate(part.path, 10)
    with pytest.raises(OutputError, match=r"was cut by another program: expected 400 bytes, found 10\."):
        part.append(b"row\n") if again else part.sync()
    part.close()
