"""Recover the files of a batch whose process ended: complete a publication, or remove part files."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from embup_core.batch.outputs.output_files import OutputFiles
from embup_core.batch.outputs.part_file import PartFile
from embup_core.batch.outputs.publication import has_inode, sync_output_folder
from embup_core.object_store.stand_in import open_anywhere

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.spec import BatchSpec
    from embup_core.files.held_folder import FolderEntry, OpenFolder


def finish_publication(
    spec: BatchSpec, checkpoint: Checkpoint, *, open_folder: OpenFolder = open_anywhere
) -> bool:
    """Return whether a process that ended early had published the batch, and complete that publication.

    Only the checkpoint after the last row can show it; for an earlier one the result is False. Neither the
    input nor the model is needed.

    Parameters
    ----------
    spec, checkpoint
        The batch, and its last checkpoint.
    open_folder
        How its folder is opened.

    Raises
    ------
    OutputError
        The folder is gone, or cannot be written.
    """
    if not checkpoint.complete:
        return False
    with OutputFiles.open(spec, open_folder) as files:
        return finish_publication_of(files, checkpoint)


def finish_publication_of(files: OutputFiles, checkpoint: Checkpoint) -> bool:
    """As `finish_publication`, in a folder that is open."""
    if not checkpoint.complete or not files.holds_output_of(checkpoint):
        return False
    files.clear_after(checkpoint)
    sync_output_folder(files.folder)
    return True


def remove_part_files(
    spec: BatchSpec,
    checkpoint: Checkpoint | None = None,
    *,
    patience_s: float = 0.0,
    open_folder: OpenFolder = open_anywhere,
) -> None:
    """Remove leftover part files of a batch that will not be resumed.

    Parameters
    ----------
    spec
        The batch.
    checkpoint
        Its last one: then only the files in it are removed, not those of another run.
    patience_s
        Seconds to wait for a run of the batch that is ending.
    open_folder
        How its folder is opened.

    Raises
    ------
    OutputError
        The folder is gone, or the system refuses.
    JobConflictError
        A live run holds them.
    """
    with OutputFiles.open(spec, open_folder) as files:
        with ExitStack() as each:
            for entry in list(_owns_parts(files, checkpoint)):
                each.callback(
                    PartFile.remove_leftover, entry, patience_s=patience_s
                )  # all, also when one raises
        files.abandon(checkpoint)  # not where a live run holds them: the upload is its own


def _owns_parts(files: OutputFiles, checkpoint: Checkpoint | None) -> Iterator[FolderEntry]:
    """Yield the part files that belong to the batch."""
    owns_part = checkpoint is None or has_inode(files.part, checkpoint.output_inode)
    last_inodes = {}
    if checkpoint is not None:
        last_inodes = {
            files.part.name: checkpoint.output_inode,
            files.errors_part.name: checkpoint.errors_inode,
            files.converting.name: checkpoint.converted_inode,
        }
    for entry in files.parts:
        # Beside its own part the others belong to it too, though they may be newer than the checkpoint.
        if owns_part or has_inode(entry, last_inodes.get(entry.name, 0)):
            yield entry
