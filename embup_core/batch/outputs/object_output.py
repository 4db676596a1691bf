"""An output in a bucket: it grows in a local stand-in folder, and leaves it part by part.

The growing files, their locks and checkpoints are those of an output on disk. Whole parts of the growing file
go up as they are filled. The first part stays until the end, as the head of a file may tell how many rows
follow. The object appears when its parts are put together, in one conditional step.

A run that resumes may be another release, which need not give the same bytes. So it relies on the parts
that its checkpoint counts, which hold nothing beyond the checkpoint, and sends the others again. The bytes of
a part are given back to the disk, by a hole in the file, once a checkpoint that counts it is kept.
"""

from __future__ import annotations

import io
import os
import threading
import uuid
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from embup_core.batch.inputs.object_input import object_status
from embup_core.batch.outputs.output_files import OutputFiles
from embup_core.batch.outputs.part_file import PartFile, output_error
from embup_core.batch.outputs.publication import already_exists, has_inode, remove_file
from embup_core.errors import InvalidArgumentError, ObjectChangedError, ObjectStoreError, OutputError
from embup_core.files.atomic import replace_durably
from embup_core.object_store.address import ObjectPath
from embup_core.object_store.failures import passing_code
from embup_core.object_store.multipart import UploadClient, UploadGoneError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.batch.checkpoint import Checkpoint
    from embup_core.batch.spec import BatchSpec
    from embup_core.files.held_folder import Folder, OpenFolder

PART_BYTES: Final = 16 << 20
_PARTS_OF_ONE_SIZE: Final = 1000  # then they are that much longer: 10,000 parts, S3's most, are 859 GiB
_MOST_PARTS: Final = 10_000
_PARTS_AT_ONCE: Final = 2
# Rows are not decoded further while more than this waits to go up.
_MOST_WAITING_BYTES: Final = 8 * PART_BYTES
_DISK_BYTES: Final = 4 * _MOST_WAITING_BYTES


def part_range(number: int) -> tuple[int, int]:
    """Return where a part begins and ends in the output, by its number from 1."""
    longer, rest = divmod(number - 1, _PARTS_OF_ONE_SIZE)
    start = PART_BYTES * (_PARTS_OF_ONE_SIZE * longer * (longer + 1) // 2 + rest * (longer + 1))
    return start, start + PART_BYTES * (longer + 1)


class _Upload(msgspec.Struct, frozen=True):
    """An upload that was begun: its id, the token that its object will carry, and where that is to be."""

    upload_id: str
    token: str
    address: str


class ObjectEntry:
    """The name of an object, as an output's name; see `FolderEntry`.

    Parameters
    ----------
    path
        Its address.
    folder
        The stand-in.
    client
        Looks at it.
    """

    def __init__(self, path: ObjectPath, folder: Folder, client: UploadClient) -> None:
        self.path = path
        self.folder = folder
        self.name = path.name
        self._client = client

    def status(self) -> os.stat_result:
        """Return size and identity; raises FileNotFoundError where there is no object."""
        with _explained():
            found = self._client.find(self.path)
        if found is None:
            raise FileNotFoundError(self.path)
        return object_status(self.path, found.size_bytes, found.etag)

    target_status = status


class ObjectOutputFiles(OutputFiles):
    """The files of a batch whose output is an object.

    Parameters
    ----------
    spec
        The batch.
    folder
        The stand-in of the output's folder.
    """

    def __init__(self, spec: BatchSpec, folder: Folder) -> None:
        super().__init__(spec, folder)
        path, errors_path = spec.output_path, spec.errors_path
        assert isinstance(path, ObjectPath)  # noqa: S101 - `OutputFiles.open` looked
        assert isinstance(errors_path, ObjectPath)  # noqa: S101
        self._path, self._errors_path = path, errors_path
        with _explained():
            self._client = UploadClient(path)
        self.output: Any = ObjectEntry(path, folder, self._client)
        self.errors: Any = ObjectEntry(errors_path, folder, self._client)
        self._note = folder.entry(f"{path.name}.upload")  # growing files end in .part
        self._upload: _Upload | None = None
        self._etags: dict[int, str] = {}
        self._given_back = 0  # parts from the second on
        self._next = 2  # the first part goes last
        self._uploading = threading.Lock()

    @property
    def _whole(self) -> PartFile | None:
        """The file whose bytes are the output's."""
        return self.converted if self._converts else self.rows

    def disk_bytes(self, estimated_bytes: int) -> int:
        """Return how much disk the batch needs at most: bare rows of Parquet wait for their conversion.

        Raises
        ------
        OutputError
            No object takes the output.
        """
        if not self._converts and estimated_bytes > part_range(_MOST_PARTS)[1]:
            raise self._too_large(f"about {estimated_bytes >> 30} GiB")
        return estimated_bytes if self._converts else min(estimated_bytes, _DISK_BYTES)

    def require_in_place(self, open_folder: OpenFolder) -> None:
        """Check that the stand-in is still the folder that is held; raises as for a file."""
        with open_folder(self._path.parent) as found:
            if found.is_same(self.folder):
                return
        raise OutputError(
            f"the folder {self.folder.path}, in which {self._path} grows, was moved or replaced.",
            remedy="Keep other programs from that folder, and start the batch again.",
        )

    def start(self, head: bytes, patience_s: float, *, replace_parts: bool) -> None:
        """Create the file of rows, and begin the upload; raises as for a file."""
        super().start(head, patience_s, replace_parts=replace_parts)
        try:
            with _explained():
                self._abort_noted()
                token = uuid.uuid4().hex
                self._upload = _Upload(self._client.start(self._path, token), token, str(self._path))
                # So that an upload is known, and can be aborted, before there is a checkpoint.
                with _on_disk(self._note.path):
                    replace_durably(self._note.path, msgspec.json.encode(self._upload))
        except BaseException:
            with suppress(OutputError):
                self.abort()
            raise

    def resume(self, checkpoint: Checkpoint, patience_s: float) -> None:
        """Open the files as they were at a checkpoint; raises as for a file, and where the upload is gone."""
        super().resume(checkpoint, patience_s)
        self._upload = _Upload(checkpoint.upload_id, checkpoint.upload_token, str(self._path))
        try:
            with _explained():
                parts = self._client.parts(self._path, checkpoint.upload_id)
        except UploadGoneError as error:
            raise self._gone() from error
        # A conversion that starts again sends all parts again.
        self._next = 2 if self._whole is None else checkpoint.uploaded_parts + 2
        for number in range(2, self._next):
            etag, size_bytes = parts.get(number, ("", 0))
            if size_bytes != part_range(number)[1] - part_range(number)[0]:
                raise self._gone()
            self._etags[number] = etag

    def noted(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return a checkpoint with the upload, and those of its parts that hold nothing beyond it."""
        if self._upload is None:
            return checkpoint
        size_bytes = checkpoint.converted_bytes if self._converts else checkpoint.output_bytes
        last = self._next - 1
        while last > 1 and part_range(last)[1] > size_bytes:
            last -= 1
        upload_id, token = self._upload.upload_id, self._upload.token
        return replace(checkpoint, upload_id=upload_id, upload_token=token, uploaded_parts=last - 1)

    def kept(self, uploaded_parts: int) -> None:
        """Give back what the parts of a checkpoint take on the disk: no run will read it again."""
        if self._whole is not None and uploaded_parts > self._given_back:
            start, end = part_range(self._given_back + 2)[0], part_range(uploaded_parts + 1)[1]
            self._whole.give_back(start, end - start)
            self._given_back = uploaded_parts

    def sync(self, parts: tuple[PartFile, ...]) -> None:
        """Flush files to disk, and send the parts that are whole."""
        super().sync(parts)
        if parts:
            self._send()

    def relieve(self) -> None:
        """Send parts before more is written, where many wait; raises `OutputError`."""
        whole = self._whole
        if whole is not None and whole.size_bytes - part_range(self._next)[0] > _MOST_WAITING_BYTES:
            self._send()

    def _send(self) -> None:
        """Send the parts that are whole, but the first, some at a time."""
        whole = self._whole
        if whole is None or self._upload is None:
            return
        size_bytes = whole.size_bytes  # another thread may append meanwhile
        with self._uploading, ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="upload") as threads:
            under_way: deque[tuple[int, Future[str]]] = deque()
            number = self._next  # only now: another thread may have sent some
            while part_range(number)[1] <= size_bytes or under_way:
                while len(under_way) < _PARTS_AT_ONCE and part_range(number)[1] <= size_bytes:
                    under_way.append((number, threads.submit(self._put, whole, number)))
                    number += 1
                sent, future = under_way.popleft()
                self._etags[sent] = future.result()
                self._next = sent + 1
            if self._converts:  # no run resumes in the middle of a conversion
                self.kept(self._next - 2)

    def _put(self, whole: PartFile, number: int) -> str:
        assert self._upload is not None  # noqa: S101 - looked at before
        if number > _MOST_PARTS:
            raise self._too_large("more")
        start, end = part_range(number)
        data = whole.read(end - start, start)
        with _explained():
            try:
                return self._client.put_part(self._path, self._upload.upload_id, number, data)
            except UploadGoneError as error:
                raise self._gone() from error

    def holds_output_of(self, checkpoint: Checkpoint) -> bool:
        """Whether the object is the one whose upload a checkpoint names."""
        with _explained():
            found = self._client.find(self._path)
        return found is not None and bool(checkpoint.upload_token) and found.token == checkpoint.upload_token

    def clear_after(self, checkpoint: Checkpoint) -> None:
        """Remove what a publication leaves when it is cut off at its end."""
        inodes = (checkpoint.output_inode, checkpoint.converted_inode, checkpoint.errors_inode)
        for entry, inode in zip((self.part, self.converting, self.errors_part), inodes, strict=True):
            if has_inode(entry, inode):
                remove_file(entry)
        remove_file(self._note)

    def move_into_place(self) -> None:
        """Put the report and the object in place; raises as for a file."""
        overwrite = self._spec.overwrite
        whole, upload = self._whole, self._upload
        assert whole is not None  # noqa: S101 - complete
        assert upload is not None  # noqa: S101
        self._send()
        etags = {number: self._etags[number] for number in range(2, self._next)}
        last = self._next  # what no whole part holds
        for number in {1, last} if part_range(last)[0] < whole.size_bytes else {1}:
            etags[number] = self._put(whole, number)
        with _explained():
            self._put_report(overwrite=overwrite)  # first, so that it exists when the output does
            try:
                self._client.complete(self._path, upload.upload_id, etags, overwrite=overwrite)
            except (ObjectChangedError, UploadGoneError) as error:
                # An answer that was lost, or somebody else's object.
                if self._has_token(self._path, upload):
                    return
                self._remove_report(upload)
                if isinstance(error, UploadGoneError):
                    raise self._gone() from error
                raise already_exists(self._path) from error

    def _put_report(self, *, overwrite: bool) -> None:
        assert self._upload is not None  # noqa: S101 - looked at before
        if self.report is None:
            if overwrite:
                self._client.remove(self._errors_path)
            return
        # Through a buffer: botocore reads it several times, to sum and to send.
        with io.BufferedReader(_PartReader(self.report)) as file:
            try:
                self._client.put_file(self._errors_path, file, self._upload.token, overwrite=overwrite)
            except ObjectChangedError as error:
                if not self._has_token(self._errors_path, self._upload):
                    raise already_exists(self._errors_path) from error

    def complete(self) -> None:
        """Remove the local files, and close."""
        for part in self.growing:
            part.remove()
        remove_file(self._note)
        super().complete()

    def abort(self) -> None:
        """Remove the growing files, abort the upload, and close; raises `OutputError`."""
        with ExitStack() as each:
            each.callback(super().abort)
            each.callback(self._abort_upload)

    def _abort_upload(self) -> None:
        if self._upload is not None:
            with _explained():
                self._withdraw(self._upload)
            remove_file(self._note)

    def abandon(self, checkpoint: Checkpoint | None) -> None:
        """Abort the upload of a batch that will not be resumed; raises `OutputError`."""
        with _explained():
            if checkpoint is None:
                self._abort_noted()
            elif checkpoint.upload_id:
                self._withdraw(_Upload(checkpoint.upload_id, checkpoint.upload_token, str(self._path)))
                noted = self._noted()
                if noted is not None and noted.upload_id == checkpoint.upload_id:
                    remove_file(self._note)

    def _abort_noted(self) -> None:
        noted = self._noted()
        if noted is not None:
            self._withdraw(noted)
            remove_file(self._note)

    def _withdraw(self, upload: _Upload) -> None:
        self._client.abort(self._path, upload.upload_id)
        self._remove_report(upload)

    def _remove_report(self, upload: _Upload) -> None:
        """Remove an upload's report, which is put in place first, unless its output followed."""
        if (
            self._spec.on_bad_row == "nan"
            and self._has_token(self._errors_path, upload)
            and not self._has_token(self._path, upload)
        ):
            self._client.remove(self._errors_path)

    def _has_token(self, path: ObjectPath, upload: _Upload) -> bool:
        found = self._client.find(path)
        return found is not None and found.token == upload.token

    def _noted(self) -> _Upload | None:
        return _read_note(self._note.path)

    def _too_large(self, found: str) -> OutputError:
        return OutputError(
            f"{self._path}: expected at most {part_range(_MOST_PARTS)[1] >> 30} GiB ({_MOST_PARTS} parts),"
            f" found {found}.",
            remedy="Split the input.",
        )

    def _gone(self) -> OutputError:
        return OutputError(
            f"{self._path}: the upload of its parts is gone from the store, or misses some.",
            remedy="Start the batch again; rules of the bucket that remove uploads should spare new ones.",
        )


class _PartReader(io.RawIOBase):
    """File object that reads a part file."""

    def __init__(self, part: PartFile) -> None:
        self._part = part
        self._offset = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self._part.size_bytes}[whence]
        self._offset = origin + offset
        return self._offset

    def tell(self) -> int:
        return self._offset

    def readinto(self, buffer: Any) -> int:
        data = self._part.read(len(buffer), self._offset)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)


def noted_outputs(uploads: Path) -> list[ObjectPath]:
    """Return the outputs whose uploads are noted in the stand-ins; stand-ins that are empty are removed.

    Parameters
    ----------
    uploads
        Folder of the stand-ins; no run may be starting in it.
    """
    noted = [_read_note(path) for path in sorted(uploads.glob("*/*.upload"))]
    for folder in uploads.glob("*"):
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    return [ObjectPath.parsed(upload.address) for upload in noted if upload is not None]


def _read_note(path: Path) -> _Upload | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Upload)
    except (OSError, msgspec.MsgspecError):
        return None


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the errors of a store into those of an output."""
    try:
        yield
    except UploadGoneError:
        raise
    except (ObjectStoreError, InvalidArgumentError) as error:
        raise OutputError(error.message, remedy=error.remedy, code=passing_code(error)) from error


@contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error
