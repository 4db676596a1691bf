"""Away with what an ended run left beside an output."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from embup_core.batch.folder import open_freely
from embup_core.batch.output_files import OutputFiles
from embup_core.batch.part_file import PartFile
from embup_core.batch.publication import has_inode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.folder import FolderEntry, OpenFolder
    from embup_core.batch.spec import BatchSpec


def discard_part_files(
    spec: BatchSpec,
    checkpoint: Checkpoint | None = None,
    *,
    patience_s: float = 0.0,
    open_folder: OpenFolder = open_freely,
) -> None:
    """Remove what an ended run of the batch left: for a batch that nobody will go on with.

    Parameters
    ----------
    spec
        The batch.
    checkpoint
        Its last one: then only the files it speaks of are removed, not those of another run.
    patience_s
        Seconds to wait for a run of the batch that is just ending.
    open_folder
        How its folder is opened.

    Raises
    ------
    OutputError
        The folder is gone, or the system refuses.
    JobConflictError
        A live run holds them.
    """
    with OutputFiles.open(spec, open_folder) as files, ExitStack() as each:
        for entry in list(_own_parts(files, checkpoint)):
            each.callback(PartFile.discard, entry, patience_s=patience_s)  # each, also when one raises


def _own_parts(files: OutputFiles, checkpoint: Checkpoint | None) -> Iterator[FolderEntry]:
    """Give the part files that are the batch's own."""
    own_part = checkpoint is None or has_inode(files.part, checkpoint.output_inode)
    last_inodes = {}
    if checkpoint is not None:
        last_inodes = {
            files.part.name: checkpoint.output_inode,
            files.errors_part.name: checkpoint.errors_inode,
            files.converting.name: checkpoint.converted_inode,
        }
    for entry in files.parts:
        # Beside an own part the others are own ones too, though they may have begun after the checkpoint.
        if own_part or has_inode(entry, last_inodes.get(entry.name, 0)):
            yield entry
