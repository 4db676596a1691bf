"""Away with what an ended run left beside an output."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from embup_core.batch.encoding import is_converted
from embup_core.batch.part_file import PartFile
from embup_core.batch.publication import has_inode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.spec import BatchSpec


def discard_part_files(
    spec: BatchSpec, checkpoint: Checkpoint | None = None, *, patience_s: float = 0.0
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

    Raises
    ------
    OutputError
        The system refuses.
    JobConflictError
        A live run holds them.
    """
    with ExitStack() as each:  # goes on with the others when one raises
        for path in list(_parts(spec, checkpoint)):
            each.callback(PartFile.discard, path, patience_s=patience_s)


def _parts(spec: BatchSpec, checkpoint: Checkpoint | None) -> Iterator[Path]:
    """Give the part files that are the batch's own."""
    own_part = checkpoint is None or has_inode(spec.part_path, checkpoint.output_inode)
    # Beside an own part a report is an own one too, though it may have begun after the checkpoint.
    if own_part or has_inode(spec.errors_part_path, checkpoint.errors_inode if checkpoint else 0):
        yield spec.errors_part_path
    if own_part:
        yield spec.part_path
    # A run that makes one file of another holds that other one: beside an own part it is an own one too.
    if is_converted(spec.output_path) and (
        own_part or has_inode(spec.converting_path, checkpoint.converted_inode if checkpoint else 0)
    ):
        yield spec.converting_path
