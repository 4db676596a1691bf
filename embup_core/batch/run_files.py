"""The files that one run writes: the rows, the report on refused ones, and what is made of the rows.

They grow beside their final names, and are given those at the end.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embup_core.batch.bad_rows import append_report
from embup_core.batch.output_files import OutputFiles
from embup_core.batch.parquet_output import ParquetConversion
from embup_core.batch.part_file import PartFile
from embup_core.batch.publication import has_inode, move_into_place, remove_file, sync_output_folder
from embup_core.batch.request import require_no_parts

if TYPE_CHECKING:
    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.encoding import RowEncoder
    from embup_core.batch.folder import OpenFolder
    from embup_core.batch.spec import BatchSpec
    from embup_core.text.parser import BadRow


@dataclass(frozen=True, slots=True)
class PendingSync:
    """A state of a run whose rows are written, and durable once `BatchRun.finish_sync` has returned."""

    checkpoint: Checkpoint
    parts: tuple[PartFile, ...]


class RunFiles:
    """Files of a run; none is there before `begin` or `go_on`.

    Parameters
    ----------
    spec
        The batch.
    encoder
        Of its output's format.
    open_folder
        How the output's folder is opened.

    Attributes
    ----------
    names
        The files' names, in the folder that is held.
    rows, report, converted
        The growing files; None where there is none yet.

    Raises
    ------
    OutputError
        The folder is missing, or the system refuses.
    """

    def __init__(self, spec: BatchSpec, encoder: RowEncoder, open_folder: OpenFolder) -> None:
        self._spec = spec
        self._encoder = encoder
        self.names = OutputFiles.open(spec, open_folder)
        self.rows: PartFile | None = None
        self.report: PartFile | None = None
        self.converted: PartFile | None = None
        self._conversion: ParquetConversion | None = None
        self._synced: frozenset[int] = frozenset()

    def begin(self, patience_s: float, *, replace_parts: bool) -> None:
        """Start the rows' file.

        Parameters
        ----------
        patience_s
            Seconds to wait for a run of the same output that is just ending.
        replace_parts
            Whether part files that lie there are leftovers, and discarded.

        Raises
        ------
        OutputError
            A name is taken, or the system refuses.
        JobConflictError
            A live run holds a file.
        """
        if replace_parts:
            for entry in self.names.parts:
                PartFile.discard(entry, patience_s=patience_s)
        else:
            require_no_parts(self.names)
        self.rows = PartFile.create(self.names.part)
        try:
            if self._encoder.head:
                self.rows.append(self._encoder.head)
        except BaseException:
            self.rows.remove()  # else it would stand in the way of the next attempt
            raise

    def go_on(self, checkpoint: Checkpoint, patience_s: float) -> None:
        """Take up the files as they were at a checkpoint; raises as `PartFile.reopen`."""
        names = self.names
        self.rows = PartFile.reopen(
            names.part,
            size_bytes=checkpoint.output_bytes,
            inode=checkpoint.output_inode,
            patience_s=patience_s,
        )
        if has_inode(names.converting, checkpoint.converted_inode, size_bytes=checkpoint.converted_bytes):
            self.converted = PartFile.reopen(
                names.converting, size_bytes=checkpoint.converted_bytes, inode=checkpoint.converted_inode
            )
        elif self._encoder.converted:  # a conversion that was cut off begins again
            PartFile.discard(names.converting)
        if not checkpoint.errors_inode:
            if names.errors_part in names.parts:
                PartFile.discard(names.errors_part)
            return
        # Cut off between the two renames of a publication: the first one is taken back.
        if has_inode(names.errors, checkpoint.errors_inode):
            move_into_place(names.errors, names.errors_part, overwrite=True)
        self.report = PartFile.reopen(
            names.errors_part, size_bytes=checkpoint.errors_bytes, inode=checkpoint.errors_inode
        )

    @property
    def growing(self) -> tuple[PartFile, ...]:
        """The files that are there."""
        return tuple(part for part in (self.rows, self.converted, self.report) if part is not None)

    @property
    def is_converting(self) -> bool:
        """Whether a file is being made of the rows."""
        return self._conversion is not None

    @property
    def is_converted(self) -> bool:
        """Whether the file that is made of all rows is whole, or the format wants none."""
        if self._conversion is not None:
            return self._conversion.finished
        return self.converted is not None or not self._encoder.converted

    def refuse(self, bad: tuple[BadRow, ...]) -> None:
        """Write refused rows into the report; raises `OutputError`."""
        self.report = append_report(self.names.errors_part, self.report, bad)

    def convert(self, *, count: int, dims: int) -> None:
        """Make some more of the file that is made of all rows; raises `OutputError`.

        Parameters
        ----------
        count, dims
            How many rows there are, and the numbers of one.
        """
        if self._conversion is None:
            assert self.rows is not None  # noqa: S101 - begun or taken up
            self.converted = PartFile.create(self.names.converting)
            self._conversion = ParquetConversion(self.rows, self.converted, count=count, dims=dims)
        self._conversion.step()

    def sync(self, parts: tuple[PartFile, ...]) -> None:
        """Bring files to disk, the first time their names too; another thread may append meanwhile.

        Raises
        ------
        OutputError
            They could not be brought there.
        """
        for part in parts:
            part.sync()
        inodes = frozenset(part.inode for part in parts)
        if not inodes <= self._synced:
            # Else a power cut could take the new files' names, and a checkpoint would speak of nothing.
            sync_output_folder(self.names.folder)
            self._synced = inodes

    def move_into_place(self) -> None:
        """Give the whole output, and the report, their final names; `complete` makes that durable.

        Raises
        ------
        OutputError
            A name was taken meanwhile, or the system refuses; the output path is as it was.
        """
        names, overwrite = self.names, self._spec.overwrite
        # The report first: whoever sees the output sees what it says about it.
        if self.report is not None:
            move_into_place(names.errors_part, names.errors, overwrite=overwrite)
        elif overwrite:
            remove_file(names.errors)
        try:
            whole = names.part if self.converted is None else names.converting
            move_into_place(whole, names.output, overwrite=overwrite)
        except BaseException:
            if self.report is not None:
                move_into_place(names.errors, names.errors_part, overwrite=True)
            raise

    def complete(self) -> None:
        """Make the final names durable, and let go of all; raises `OutputError`."""
        if self.converted is not None and self.rows is not None:
            self.rows.remove()
        self._close_parts()
        try:
            sync_output_folder(self.names.folder)
        finally:
            self.names.close()

    def close(self) -> None:
        """Let go of all; the files stay. Again is harmless."""
        self._close_parts()
        self.names.close()

    def _close_parts(self) -> None:
        if self._conversion is not None:
            self._conversion.close()
        for part in self.growing:
            part.close()

    def abandon(self) -> None:
        """Remove the growing files and let go of all.

        Raises
        ------
        OutputError
            The system refuses to remove one; the others are removed.
        """
        with ExitStack() as each:  # goes on with the others when one raises
            each.callback(self.close)
            for part in self.growing:
                each.callback(part.remove)
