"""The files that a batch writes: their names in one folder that is held open, and the growing files.

Rows, the report on refused rows, and a file converted from the rows grow beside their final names, and are
renamed at the end.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from embup_core.batch.bad_rows import append_report
from embup_core.batch.outputs.encoding import is_converted
from embup_core.batch.outputs.parquet import ParquetConversion
from embup_core.batch.outputs.part_file import PartFile, output_error, part_exists
from embup_core.batch.outputs.publication import has_inode, move_into_place, remove_file, sync_output_folder
from embup_core.errors import OutputError
from embup_core.object_store.address import ObjectPath
from embup_core.object_store.stand_in import open_anywhere

if TYPE_CHECKING:
    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.spec import BatchSpec
    from embup_core.files.held_folder import Folder, FolderEntry, OpenFolder
    from embup_core.text.parser import BadRow


@dataclass(frozen=True, slots=True)
class PendingSync:
    """A state of a run whose rows are written, and durable once `BatchRun.finish_sync` has returned."""

    checkpoint: Checkpoint
    parts: tuple[PartFile, ...]


class OutputFiles:
    """The files of a batch; none is created before `start` or opened before `resume`.

    Parameters
    ----------
    spec
        The batch.
    folder
        The folder of its output; `close` closes it.

    Attributes
    ----------
    output, part, converting, errors, errors_part
        Entries of the folder, as the paths of these names in `BatchSpec`.
    rows, report, converted
        The growing files; None where there is none yet.
    """

    def __init__(self, spec: BatchSpec, folder: Folder) -> None:
        self.folder = folder
        self.output: Any = folder.entry(spec.output_path.name)
        self.part = folder.entry(spec.part_path.name)
        self.converting = folder.entry(spec.converting_path.name)
        self.errors: Any = folder.entry(spec.errors_path.name)
        self.errors_part = folder.entry(spec.errors_part_path.name)
        self.rows: PartFile | None = None
        self.report: PartFile | None = None
        self.converted: PartFile | None = None
        self._spec = spec
        self._converts = is_converted(spec.output_path)
        self._conversion: ParquetConversion | None = None
        self._synced: frozenset[int] = frozenset()

    @staticmethod
    def open(spec: BatchSpec, open_folder: OpenFolder = open_anywhere) -> OutputFiles:
        """Open the folder of a batch's output, or the stand-in of one in a bucket.

        Raises
        ------
        OutputError
            It is missing, or the system refuses.
        """
        path = spec.output_path.parent
        kind: type[OutputFiles] = OutputFiles
        if isinstance(path, ObjectPath):
            from embup_core.batch.outputs.object_output import ObjectOutputFiles  # it derives from this one

            kind = ObjectOutputFiles
        try:
            folder = open_folder(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "does not exist" if isinstance(error, FileNotFoundError) else "is not a folder"
            raise OutputError(
                f"the output folder {path} {what}.", remedy="Create it or choose another output."
            ) from error
        except OSError as error:
            raise output_error(spec.output_path, error) from error
        try:
            return kind(spec, folder)
        except BaseException:
            folder.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def parts(self) -> tuple[FolderEntry, ...]:
        """Entries that the batch may write before its output is complete."""
        parts = [self.part]
        if self._converts:
            parts.append(self.converting)
        if self._spec.on_bad_row == "nan":
            parts.append(self.errors_part)
        return tuple(parts)

    def require_in_place(self, open_folder: OpenFolder) -> None:
        """Check that the output's path still leads to the folder that is held.

        Raises
        ------
        OutputError
            The folder was moved or replaced.
        """
        with self.open(self._spec, open_folder) as found:
            if found.folder.is_same(self.folder):
                return
        raise OutputError(
            f"the output folder {self.folder.path} was moved or replaced by another program.",
            remedy="Keep other programs from that folder, and start the batch again.",
        )

    def require_no_parts(self) -> None:
        """Check that no part file of another run, and no file of a user, has the name of one.

        Raises
        ------
        OutputError
            One has.
        """
        for entry in self.parts:
            try:
                entry.status()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise output_error(entry.path, error) from error
            raise part_exists(entry.path)

    def start(self, head: bytes, patience_s: float, *, replace_parts: bool) -> None:
        """Create the file of rows.

        Parameters
        ----------
        head
            Its first bytes.
        patience_s
            Seconds to wait for a run of the same output that is ending.
        replace_parts
            Whether part files that exist are leftovers of this batch, and removed.

        Raises
        ------
        OutputError
            A name is taken, or the system refuses.
        JobConflictError
            A live run holds a file.
        """
        if replace_parts:
            for entry in self.parts:
                PartFile.remove_leftover(entry, patience_s=patience_s)
        else:
            self.require_no_parts()
        self.rows = PartFile.create(self.part)
        try:
            if head:
                self.rows.append(head)
        except BaseException:
            self.rows.remove()  # else it would block the next attempt
            raise

    def resume(self, checkpoint: Checkpoint, patience_s: float) -> None:
        """Open the files as they were at a checkpoint; raises as `PartFile.reopen`."""
        self.rows = PartFile.reopen(
            self.part,
            size_bytes=checkpoint.output_bytes,
            inode=checkpoint.output_inode,
            patience_s=patience_s,
        )
        if has_inode(self.converting, checkpoint.converted_inode, size_bytes=checkpoint.converted_bytes):
            self.converted = PartFile.reopen(
                self.converting, size_bytes=checkpoint.converted_bytes, inode=checkpoint.converted_inode
            )
        elif self._converts:  # an unfinished conversion starts again
            PartFile.remove_leftover(self.converting)
        if not checkpoint.errors_inode:
            if self.errors_part in self.parts:
                PartFile.remove_leftover(self.errors_part)
            return
        # The process ended between the two renames of a publication: undo the first one.
        if has_inode(self.errors, checkpoint.errors_inode):
            move_into_place(self.errors, self.errors_part, overwrite=True)
        self.report = PartFile.reopen(
            self.errors_part, size_bytes=checkpoint.errors_bytes, inode=checkpoint.errors_inode
        )

    @property
    def growing(self) -> tuple[PartFile, ...]:
        """The files that exist."""
        return tuple(part for part in (self.rows, self.converted, self.report) if part is not None)

    @property
    def is_converting(self) -> bool:
        """Whether the rows are being converted."""
        return self._conversion is not None

    @property
    def is_converted(self) -> bool:
        """Whether the conversion is complete, or the format needs none."""
        if self._conversion is not None:
            return self._conversion.finished
        return self.converted is not None or not self._converts

    def report_refused(self, bad: tuple[BadRow, ...]) -> None:
        """Write refused rows into the report; raises `OutputError`."""
        self.report = append_report(self.errors_part, self.report, bad)

    def convert(self, *, count: int, dims: int) -> None:
        """Convert some more rows to the output's format; raises `OutputError`.

        Parameters
        ----------
        count, dims
            Number of rows, and of values in one.
        """
        if self._conversion is None:
            assert self.rows is not None  # noqa: S101 - started or resumed
            self.converted = PartFile.create(self.converting)
            self._conversion = ParquetConversion(self.rows, self.converted, count=count, dims=dims)
        self._conversion.step()

    def sync(self, parts: tuple[PartFile, ...]) -> None:
        """Flush files to disk, the first time their names too; another thread may append meanwhile.

        Raises
        ------
        OutputError
            They could not be flushed.
        """
        for part in parts:
            part.sync()
        inodes = frozenset(part.inode for part in parts)
        if not inodes <= self._synced:
            # Else a power cut could lose the new names, and the checkpoint would name no file.
            sync_output_folder(self.folder)
            self._synced = inodes

    def disk_bytes(self, estimated_bytes: int) -> int:
        """Return how much of what an output takes on a disk this takes in its folder; raises OutputError."""
        return estimated_bytes

    def noted(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint with what the files add to it: for files on disk, nothing."""
        return checkpoint

    def kept(self, uploaded_parts: int) -> None:
        """Let go of what a checkpoint with so many parts of an upload makes needless, once it is kept."""

    def relieve(self) -> None:
        """Make room before more is written, where that is needed; raises `OutputError`."""

    def abandon(self, checkpoint: Checkpoint | None) -> None:
        """Remove what a batch that will not be resumed has elsewhere than in its folder."""

    def holds_output_of(self, checkpoint: Checkpoint) -> bool:
        """Whether the output's name is that of the file that a complete checkpoint names."""
        # The inode number of a removed file may be that of the next new one: the size distinguishes them.
        inode, size_bytes = checkpoint.output_inode, checkpoint.output_bytes
        if checkpoint.converted_inode:
            inode, size_bytes = checkpoint.converted_inode, checkpoint.converted_bytes
        return has_inode(self.output, inode, size_bytes=size_bytes)

    def clear_after(self, checkpoint: Checkpoint) -> None:
        """Remove what a publication leaves when it is cut off at its end."""
        # A second link left by a move without replacing, or the rows that the output was converted from.
        if has_inode(self.part, checkpoint.output_inode):
            remove_file(self.part)
        if has_inode(self.converting, checkpoint.converted_inode):
            remove_file(self.converting)

    def move_into_place(self) -> None:
        """Rename the complete output, and the report, to their final names; `complete` makes that durable.

        Raises
        ------
        OutputError
            A name was taken meanwhile, or the system refuses; the output path is as it was.
        """
        overwrite = self._spec.overwrite
        # The report first, so that it exists when the output does.
        if self.report is not None:
            move_into_place(self.errors_part, self.errors, overwrite=overwrite)
        elif overwrite:
            remove_file(self.errors)
        try:
            whole = self.part if self.converted is None else self.converting
            move_into_place(whole, self.output, overwrite=overwrite)
        except BaseException:
            if self.report is not None:
                move_into_place(self.errors, self.errors_part, overwrite=True)
            raise

    def complete(self) -> None:
        """Make the final names durable, and close; raises `OutputError`."""
        if self.converted is not None and self.rows is not None:
            self.rows.remove()
        self._close_parts()
        try:
            sync_output_folder(self.folder)
        finally:
            self.folder.close()

    def close(self) -> None:
        """Close all files, which stay. Idempotent."""
        self._close_parts()
        self.folder.close()

    def _close_parts(self) -> None:
        if self._conversion is not None:
            self._conversion.close()
        for part in self.growing:
            part.close()

    def abort(self) -> None:
        """Remove the growing files, and close.

        Raises
        ------
        OutputError
            The system refuses to remove one; the others are removed.
        """
        with ExitStack() as each:  # the others too when one raises
            each.callback(self.close)
            for part in self.growing:
                each.callback(part.remove)
