"""The durable state of a batch: what a later process needs to resume with the same bytes."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from embup_core.files.readable import read_at, status_of

if TYPE_CHECKING:
    import os

    from embup_core.files.readable import Readable

_FINGERPRINT_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class InputFingerprint:
    """Fingerprint that changes when an input file does, without reading all of it.

    Attributes
    ----------
    size_bytes, mtime_ns, inode
        As the file system has them.
    head_sha256
        SHA-256, in hex, of the first 64 KiB.
    """

    size_bytes: int
    mtime_ns: int
    inode: int
    head_sha256: str

    @classmethod
    def of(cls, descriptor: Readable) -> Self:
        """Take the fingerprint of an open file."""
        status = status_of(descriptor)
        head = read_at(descriptor, _FINGERPRINT_BYTES, 0)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino, hashlib.sha256(head).hexdigest())

    def agrees_with(self, status: os.stat_result) -> bool:
        """Whether a file of this status can be the one the fingerprint was taken of."""
        return (self.size_bytes, self.mtime_ns, self.inode) == (
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
        )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A state of a batch that is on disk.

    Attributes
    ----------
    input_offset
        Where the next row starts in the input, in its reader's own measure.
    bytes_done
        How far into the input file that is, in its own bytes.
    complete
        Whether nothing is left to do but to publish.
    output_bytes, errors_bytes
        Sizes of the two part files; what lies beyond is written again.
    rows, failed_rows
        Rows answered, and how many of them by nans.
    model_version, chunk_rows
        What the answer's bits depend on besides the input.
    input_fingerprint
        The input they were read from.
    output_inode, errors_inode
        The part files' identities, 0 where there is none; they identify a published output.
    converted_inode, converted_bytes
        Identity and size of the whole file that was made of the output's part; 0 before, and where none is.
    upload_id, upload_token, uploaded_parts
        Of an output in a bucket: the upload's id, what its object will carry, and how many parts, from the
        second on, the store has. Empty and 0 for one on disk.
    """

    input_offset: int
    bytes_done: int
    complete: bool
    output_bytes: int
    rows: int
    failed_rows: int
    errors_bytes: int
    model_version: str
    chunk_rows: int
    input_fingerprint: InputFingerprint
    output_inode: int
    errors_inode: int
    converted_inode: int = 0
    converted_bytes: int = 0
    upload_id: str = ""
    upload_token: str = ""
    uploaded_parts: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the checkpoint that `to_json` described."""
        fingerprint = InputFingerprint(**values["input_fingerprint"])
        return cls(**{**values, "input_fingerprint": fingerprint})
