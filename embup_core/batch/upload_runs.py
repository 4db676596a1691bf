"""A batch whose output is an object, from one call to its end, across crashes of the process.

The checkpoint lies in the stand-in folder, beside the growing file: the same batch on the same machine goes
on from there. One that fails, or is interrupted, leaves nothing behind, unless it is the store that fails.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import TYPE_CHECKING

from embup_core.batch.checkpoint import Checkpoint
from embup_core.batch.driver import run_to_completion
from embup_core.batch.outputs.recovery import remove_part_files
from embup_core.batch.request import check_request
from embup_core.batch.run import BatchRun
from embup_core.errors import (
    EmbupError,
    InputFileError,
    ObjectChangedError,
    ObjectStoreError,
    OutputError,
)
from embup_core.files.atomic import replace_durably
from embup_core.object_store.multipart import UploadGoneError
from embup_core.object_store.stand_in import open_anywhere

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.batch.spec import BatchSpec
    from embup_core.batch.workers.decoding import RowUpsampler


class KeptCheckpoint:
    """The last checkpoint of one batch, in a file.

    Parameters
    ----------
    spec, rows
        The batch: that of another input, model or treatment of bad rows is not its own.

    Attributes
    ----------
    last
        It; None where there is none.
    is_anothers
        Whether there is one of another batch.
    """

    def __init__(self, spec: BatchSpec, rows: RowUpsampler) -> None:
        with open_anywhere(spec.output_path.parent) as folder:
            self._path = folder.path / f"{spec.output_path.name}.checkpoint"
        decoding = (type(rows).__name__, getattr(rows, "basis", ""), rows.version)
        batch = (str(spec.input_path), spec.on_bad_row, spec.max_bad_rows, decoding)
        self._batch = hashlib.sha256(repr(batch).encode()).hexdigest()
        self.last: Checkpoint | None = None
        self.is_anothers = False
        with suppress(OSError, ValueError, TypeError, KeyError):  # none, or none that can be read
            found = json.loads(self._path.read_bytes())
            self.is_anothers = found["batch"] != self._batch
            if not self.is_anothers:
                self.last = Checkpoint.from_json(found["checkpoint"])

    def keep(self, checkpoint: Checkpoint) -> None:
        """Put a new one in its place, durably."""
        self.last = checkpoint
        content = json.dumps({"batch": self._batch, "checkpoint": checkpoint.to_json()}).encode()
        try:
            replace_durably(self._path, content)
        except OSError as error:
            raise OutputError(
                f"{self._path} cannot be written: {error.strerror}.", remedy="Free space on that disk."
            ) from error

    def remove(self) -> None:
        """Forget it."""
        self.last = None
        self._path.unlink(missing_ok=True)


def run_upload(
    spec: BatchSpec, rows: RowUpsampler, *, workers: int, on_progress: Callable[[BatchRun], None]
) -> tuple[BatchRun, tuple[str, ...]]:
    """Run a batch to its end, from its last checkpoint if there is one; return it, and the input's notices.

    Parameters
    ----------
    spec, rows, workers
        As in `BatchRun`.
    on_progress
        As in `run_to_completion`.

    Raises
    ------
    InputError, OutputError, JobConflictError
        As `check_request`, `BatchRun` and `run_to_completion`.
    """
    kept = KeptCheckpoint(spec, rows)
    run = None if kept.last is None else _resumed(spec, rows, kept, workers)
    notices: tuple[str, ...] = ()
    if run is None:
        facts = check_request(spec, input_dims=rows.input_dims, output_dims=rows.output_dims)
        notices = facts.notices
        if kept.is_anothers:
            what = "another input, decoder version or treatment of bad rows"
            notices += (f"an earlier run of this output was cut off, with {what}: its rows are made again",)
        run = BatchRun(spec, rows, workers=workers)
    try:
        run_to_completion(run, on_progress=on_progress, on_checkpoint=kept.keep)
    except BaseException as error:
        if not _is_of_the_store(error):
            _discard(spec, kept)
        raise
    kept.remove()
    return run, notices


def _resumed(spec: BatchSpec, rows: RowUpsampler, kept: KeptCheckpoint, workers: int) -> BatchRun | None:
    """Return the run from the last checkpoint, or None, with nothing left of it, where it cannot go on."""
    try:
        return BatchRun(spec, rows, checkpoint=kept.last, workers=workers)
    except (InputFileError, OutputError) as error:
        if _is_of_the_store(error):
            raise
        _discard(spec, kept)
        return None


def _discard(spec: BatchSpec, kept: KeptCheckpoint) -> None:
    with suppress(EmbupError):  # what is told is why it failed
        remove_part_files(spec, kept.last)
    kept.remove()


def _is_of_the_store(error: BaseException) -> bool:
    """Whether the store failed rather than the batch, which can go on when it is back."""
    cause = error.__cause__
    return isinstance(cause, ObjectStoreError) and not isinstance(cause, ObjectChangedError | UploadGoneError)
