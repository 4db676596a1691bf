"""One file over HTTP onto the disk: streamed, resumed, retried, bounded, verified, and not fetched twice.

While a file is under way it is ``<name>.part`` beside its final name, with the server's validators in
``<name>.part.json``. A later attempt, in this process or the next, asks for the rest only, and on the
condition that the file on the server is still that one. When complete it is renamed and ``<name>.json``
records what it is, so that the next call asks the server whether anything changed and mostly downloads
nothing.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

import httpx
import stamina

from embup_core.errors import SourceUnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.progress import Progress


RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
TIMEOUT = httpx.Timeout(30, connect=10)


@dataclass(frozen=True)
class RemoteFile:
    """What identifies a version of a file on a server, as far as the server says.

    Parameters
    ----------
    url
        Its address, without anything secret.
    etag, last_modified
        The validators of the same names.
    size_bytes
        Size of the whole file.
    sha256
        Of the complete file, once it is here.
    """

    url: str
    etag: str | None = None
    last_modified: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None

    def same_version(self, other: RemoteFile) -> bool:
        """Whether both describe the same bytes, going by the best validator that both have."""
        if self.url != other.url:
            return False
        if self.etag and other.etag:
            return self.etag == other.etag
        if self.last_modified and other.last_modified:
            return (self.last_modified, self.size_bytes) == (other.last_modified, other.size_bytes)
        if self.etag or other.etag or self.last_modified or other.last_modified:
            return False
        return self.size_bytes is not None and self.size_bytes == other.size_bytes

    @property
    def resume_condition(self) -> str | None:
        """The value of If-Range: a strong ETag, else the date, else none (then a part cannot be trusted)."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


class _RetryableError(Exception):
    """An attempt failed in a way that another may not."""


def without_secrets(url: str) -> str:
    """Give an address without user, password, query and fragment, for messages and records.

    Raises
    ------
    SourceUnavailableError
        The address is malformed. It is not repeated: where its secrets are cannot be told.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise SourceUnavailableError(
            "a URL of the source is malformed: its host or its port cannot be read.",
            remedy="Write it as https://host/path or https://host:port/path, with / @ : [ ] in a user or "
            "password percent-encoded.",
        ) from None  # the cause quotes the address
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{parts.path}"


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    max_bytes: int,
    progress: Progress | None = None,
    attempts: int = 6,
    first_wait_s: float = 0.5,
) -> Path:
    """Bring a file here, or find that it is here already and unchanged.

    Parameters
    ----------
    url
        http or https address.
    target
        Where the file goes; its folder is created.
    sha256
        What the file must hash to, in hexadecimal.
    max_bytes
        Refuse anything larger, by what the server says and by what it sends.
    progress
        Called with a label, bytes so far and bytes in all where known.
    attempts
        How often to try in a row without one byte of progress.
    first_wait_s
        Pause before the second attempt; later ones back off exponentially.

    Returns
    -------
    ``target``

    Raises
    ------
    SourceUnavailableError
        Refused, unreachable, too large, incomplete after all attempts, or of another hash.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    transfer = _Transfer(url, target, max_bytes, progress)
    with httpx.Client(
        timeout=TIMEOUT, follow_redirects=True, headers={"Accept-Encoding": "identity"}
    ) as client:
        while True:
            had_bytes = transfer.part_bytes
            try:
                for attempt in stamina.retry_context(
                    on=_RetryableError,
                    attempts=attempts,
                    timeout=None,
                    wait_initial=first_wait_s,
                    wait_jitter=first_wait_s,
                ):
                    with attempt:
                        transfer.attempt(client)
                break
            except _RetryableError as error:
                if transfer.part_bytes > had_bytes:
                    continue  # a line that breaks every few megabytes still arrives
                kept = (
                    f" {transfer.part_bytes} bytes are kept and the next run goes on from there."
                    if transfer.part_bytes
                    else ""
                )
                raise SourceUnavailableError(
                    f"{without_secrets(url)} could not be fetched in {attempts} attempts: {error}.{kept}",
                    remedy="Check the address and the network and run again"
                    + (
                        f", or train on the copy fetched before: the folder {target.parent}."
                        if target.exists()
                        else "."
                    ),
                ) from error
    if sha256 is not None:
        transfer.verify(sha256)
    return target


class _Transfer:
    """One file's way here: its paths, its records, and one attempt at a time."""

    def __init__(self, url: str, target: Path, max_bytes: int, progress: Progress | None) -> None:
        self.url = url
        self.shown_url = without_secrets(url)
        self.target = target
        self.record = target.with_name(f"{target.name}.json")
        self.part = target.with_name(f"{target.name}.part")
        self.part_record = target.with_name(f"{target.name}.part.json")
        self.max_bytes = max_bytes
        self.progress = progress

    @property
    def part_bytes(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def attempt(self, client: httpx.Client) -> None:
        """Ask once and take what comes; returns when the target is complete."""
        here = _read_record(self.record) if self.target.is_file() else None
        if here and here.size_bytes != self.target.stat().st_size:
            here = None  # not the file that was recorded
        started = _read_record(self.part_record) if self.part_bytes else None
        headers: dict[str, str] = {}
        if started and started.url == self.shown_url and started.resume_condition:
            headers = {"Range": f"bytes={self.part_bytes}-", "If-Range": started.resume_condition}
        elif here and here.url == self.shown_url:
            if here.etag:
                headers["If-None-Match"] = here.etag
            if here.last_modified:
                headers["If-Modified-Since"] = here.last_modified
        try:
            with client.stream("GET", self.url, headers=headers) as response:
                self._take(response, here, started)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.TooManyRedirects) as error:
            # Before TransportError, which UnsupportedProtocol is one of: no later attempt can succeed.
            told = str(error).rstrip(".") or type(error).__name__
            self._refuse(f"{self.shown_url} cannot be fetched: {told}.", "Check the address.")
        except httpx.TransportError as error:
            raise _RetryableError(str(error) or type(error).__name__) from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._refuse_space(None)
            self._refuse(f"{self.part} cannot be written: {error.strerror}.", "Check the data folder.")

    def _take(self, response: httpx.Response, here: RemoteFile | None, started: RemoteFile | None) -> None:
        status = response.status_code
        if status == httpx.codes.NOT_MODIFIED and here:
            return
        if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._drop_part()
            raise _RetryableError("the server's file is shorter than the part that was here")
        if status in RETRIED_STATUS:
            raise _RetryableError(f"the server answered {status} {response.reason_phrase}")
        if status not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            self._refuse(
                f"{self.shown_url}: the server answered {status} {response.reason_phrase}.",
                "Check the address, and that it may be read without logging in.",
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            self._refuse(
                f"{self.shown_url} comes with Content-Encoding {response.headers['Content-Encoding']}, "
                "expected the plain file.",
                "Serve it without compression.",
            )
        offset, total = self._extent(response)
        remote = RemoteFile(
            self.shown_url, response.headers.get("ETag"), response.headers.get("Last-Modified"), total
        )
        if offset and started and not started.same_version(remote):
            self._drop_part()  # some servers honour Range and not If-Range
            raise _RetryableError("the file changed on the server between two attempts")
        if here and status == httpx.codes.OK and here.same_version(remote):
            return  # a server that ignores conditions; the body is left unread
        if total is not None:
            self._refuse_size(total, "says it has")
            if total - offset > shutil.disk_usage(self.part.parent).free:
                self._refuse_space(total - offset)
        self._write_body(response, offset, remote)
        self._complete(remote)

    def _extent(self, response: httpx.Response) -> tuple[int, int | None]:
        """Where the body starts in the file, and the file's size if the server says."""
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) != self.part_bytes:
                self._drop_part()
                raise _RetryableError("the server sent another range than the one asked for")
            return int(match[1]), None if match[3] == "*" else int(match[3])
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None

    def _write_body(self, response: httpx.Response, offset: int, remote: RemoteFile) -> None:
        done = offset
        # The validators are there before the first byte, so that no part is ever without the truth about it.
        _write_record(self.part_record, remote)
        with self.part.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.truncate()
            # Chunks as they come: one of fixed size would lose what was gathered when the line breaks.
            for chunk in response.iter_raw():
                done += len(chunk)
                if done > self.max_bytes:
                    self._drop_part()
                    self._refuse_size(done, "has sent")
                file.write(chunk)
                if self.progress:
                    self.progress(f"downloading {self.target.name}", done, remote.size_bytes)
            file.flush()
            os.fsync(file.fileno())
        if remote.size_bytes is not None and done != remote.size_bytes:
            raise _RetryableError(f"the server closed after {done} of {remote.size_bytes} bytes")

    def _complete(self, remote: RemoteFile) -> None:
        digest = _sha256(self.part)
        size_bytes = self.part.stat().st_size
        self.record.unlink(missing_ok=True)  # a record never describes another file than the one beside it
        self.part.replace(self.target)
        _write_record(
            self.record, RemoteFile(**(asdict(remote) | {"size_bytes": size_bytes, "sha256": digest}))
        )
        self.part_record.unlink(missing_ok=True)

    def verify(self, sha256: str) -> None:
        """Compare the bytes on the disk, not what was recorded about them."""
        found = _sha256(self.target)
        if found != sha256.strip().lower():
            self.target.unlink()
            self.record.unlink(missing_ok=True)
            self._refuse(
                f"{self.shown_url} has SHA-256 {found}, expected {sha256}; the download was removed.",
                "Correct the expected hash, or find out who changed the file.",
            )

    def _drop_part(self) -> None:
        self.part.unlink(missing_ok=True)
        self.part_record.unlink(missing_ok=True)

    def _refuse_size(self, size_bytes: int, verb: str) -> None:
        if size_bytes > self.max_bytes:
            self._refuse(
                f"{self.shown_url} is too large: the server {verb} {size_bytes} bytes, "
                f"the limit is {self.max_bytes}.",
                "Check the address, or raise the limit.",
            )

    def _refuse_space(self, needed_bytes: int | None) -> NoReturn:
        need = f"{needed_bytes} bytes are needed and " if needed_bytes else ""
        self._refuse(
            f"no space for {self.target}: {need}{shutil.disk_usage(self.target.parent).free} are free.",
            "Free some, or set another data folder.",
        )

    @staticmethod
    def _refuse(message: str, remedy: str) -> NoReturn:
        raise SourceUnavailableError(message, remedy=remedy)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_record(path: Path) -> RemoteFile | None:
    try:
        return RemoteFile(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None  # absent, or of another version of this code: fetching again is always right


def _write_record(path: Path, remote: RemoteFile) -> None:
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_text(json.dumps(asdict(remote), indent=2) + "\n")
    beside.replace(path)
