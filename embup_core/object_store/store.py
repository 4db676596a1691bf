"""Objects below one prefix of a bucket: list, read, download, upload, and write under a condition.

A thin layer over obstore, which signs, retries what may pass, and uploads large files in parts. Its errors
quote the store's whole answer; those raised here say what was done, where, and what to do.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from embup_core.errors import ObjectChangedError, ObjectStoreError
from embup_core.extras import extra_required
from embup_core.object_store.address import parsed_address
from embup_core.object_store.failures import STORE_UNAVAILABLE, explained

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from embup_core.progress import Progress

NEW: Final = "new"
"""The condition that there is no such object yet."""

_BLOCK_BYTES = 4 << 20  # of a download; each in a request of its own, which is retried by itself
_BLOCKS_AT_ONCE = 4
_PART_BYTES = 8 << 20  # of an upload in parts
_PARTS_AT_ONCE = 4

# A request carries a block or a part at most, so a store that needs longer than this does not answer.
_PATIENT: Final = {"timeout_s": 20.0, "retries": 4, "retry_s": 30.0}
# For a look that is repeated every few seconds anyhow.
_QUICK: Final = {"timeout_s": 5.0, "retries": 1, "retry_s": 3.0}
_CONNECT_S = 5.0


@dataclass(frozen=True)
class StoredObject:
    """An object as one look found it.

    Attributes
    ----------
    key
        Its name below the store's prefix.
    size_bytes
        Its size.
    etag, version
        What changes when it is overwritten; None where the store does not say.
    modified
        When it was written; None where that is not known.
    """

    key: str
    size_bytes: int
    etag: str | None
    version: str | None = None
    modified: datetime | None = None


Condition: TypeAlias = "Literal['new'] | StoredObject | None"
"""What must hold for a write: nothing yet there, still this object there, or None for whatever is there."""


class ObjectStore:
    """The objects below an address.

    Parameters
    ----------
    address
        ``s3://bucket/prefix``, ``gs://bucket/prefix`` or ``az://container/prefix``. Credentials, region and
        endpoint come from the usual variables of the environment, or from the machine's role.
    quick
        Whether to give up within seconds, for looks that are repeated; else a request may take half a minute.

    Raises
    ------
    InvalidArgumentError
        The address is malformed.
    ObjectStoreError
        What the environment says of the store cannot be.
    MissingExtraError
        The extra `s3` is not installed.
    """

    def __init__(self, address: str, *, quick: bool = False) -> None:
        self.address = parsed_address(address)
        with extra_required():
            import obstore  # noqa: F401 - an import that fails does so here, with the extra's name
            from obstore.store import from_url
        patience = _QUICK if quick else _PATIENT
        config: Any = {"checksum_algorithm": "SHA256"} if self.address.startswith("s3:") else {}
        with self._explaining("opening"):
            self._store: Any = from_url(
                self.address,
                config=config,
                client_options={
                    # Options given here replace those of the environment.
                    "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes", "on"},
                    "connect_timeout": timedelta(seconds=_CONNECT_S),
                    "timeout": timedelta(seconds=patience["timeout_s"]),
                },
                retry_config={
                    "max_retries": int(patience["retries"]),
                    "retry_timeout": timedelta(seconds=patience["retry_s"]),
                    "backoff": {
                        "init_backoff": timedelta(milliseconds=100),
                        "max_backoff": timedelta(seconds=2),
                        "base": 2,
                    },
                },
            )

    def objects(self, below: str = "") -> list[StoredObject]:
        """All objects whose key is below this folder, in the order of their keys."""
        import obstore

        with self._explaining("listing", below):
            found = obstore.list(self._store, below or None).collect()
        return sorted((_described(one) for one in found), key=lambda one: one.key)

    def folders(self) -> list[str]:
        """Names of the folders directly below the address, in order."""
        import obstore

        with self._explaining("listing"):
            found = obstore.list_with_delimiter(self._store)
        return sorted(str(name).rstrip("/").rpartition("/")[2] for name in found["common_prefixes"])

    def find(self, key: str) -> StoredObject | None:
        """Look at an object; None where there is none."""
        import obstore

        try:
            with self._explaining("reading", key):
                return _described(obstore.head(self._store, key))
        except _NoObjectError:
            return None

    def read(
        self, key: str, *, max_bytes: int, unless: StoredObject | None = None
    ) -> tuple[bytes, StoredObject] | None:
        """Read a small object whole; None where there is none.

        Parameters
        ----------
        key
            Its name.
        max_bytes
            More than that is an error.
        unless
            As it is known. Where it still is that one, it is given back with empty content.
        """
        import obstore

        options: Any = {} if unless is None else {"if_none_match": unless.etag}
        try:
            with self._explaining("reading", key):
                found = obstore.get(self._store, key, options=options)
                described = _described(found.meta)
                if described.size_bytes > max_bytes:
                    raise ObjectStoreError(
                        f"{self.address}/{key}: expected at most {max_bytes} bytes, "
                        f"found {described.size_bytes}.",
                        remedy="Look who wrote it, and write it anew.",
                    )
                return bytes(found.bytes()), described
        except _NoObjectError:
            return None
        except _NotModifiedError:
            assert unless is not None  # noqa: S101 - only a condition is answered that way
            return b"", unless

    def read_range(self, stored: StoredObject, start: int, end: int) -> bytes:
        """Bytes from `start` up to, but not including, `end` of an object that is still the one looked at.

        Raises
        ------
        ObjectChangedError
            It has been overwritten or removed since.
        """
        import obstore

        if start == end:
            return b""
        options: Any = {"range": (start, end), "if_match": stored.etag}
        try:
            with self._explaining("reading", stored.key):
                content = bytes(obstore.get(self._store, stored.key, options=options).bytes())
        except _NoObjectError:
            raise self._changed(stored.key) from None
        if len(content) != end - start:
            raise ObjectStoreError(
                f"{self.address}/{stored.key}: expected {end - start} bytes, found {len(content)}.",
                remedy="The answer was cut short: try again.",
                code=STORE_UNAVAILABLE,
            )
        return content

    def read_ranges(self, stored: StoredObject, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
        """Several ranges, in their order, some of them under way at once; see `read_range`."""
        with ThreadPoolExecutor(_BLOCKS_AT_ONCE, thread_name_prefix="object-store") as threads:
            waiting = iter(ranges)
            under_way = [
                threads.submit(self.read_range, stored, *one) for one in islice(waiting, _BLOCKS_AT_ONCE)
            ]
            while under_way:
                content = under_way.pop(0).result()
                under_way += [threads.submit(self.read_range, stored, *one) for one in islice(waiting, 1)]
                yield content

    def download(self, stored: StoredObject, target: Path, *, progress: Progress | None = None) -> None:
        """Write an object's content into a new file, flushed to the disk, a few blocks in memory.

        Raises
        ------
        ObjectChangedError
            The object was overwritten meanwhile.
        OSError
            The file cannot be written.
        """
        blocks = [
            (start, min(start + _BLOCK_BYTES, stored.size_bytes))
            for start in range(0, stored.size_bytes, _BLOCK_BYTES)
        ]
        done, name = 0, stored.key.rpartition("/")[2]
        with target.open("wb") as file:
            for content in self.read_ranges(stored, blocks):
                file.write(content)
                done += len(content)
                if progress is not None:
                    progress(f"downloading {name}", done, stored.size_bytes)
            file.flush()
            os.fsync(file.fileno())

    def write(self, key: str, content: bytes, *, only: Condition = None) -> StoredObject:
        """Write a small object in one step.

        Parameters
        ----------
        key, content
            Its name and its bytes.
        only
            `NEW`: where there is none yet. A `StoredObject`: where it is still that one.

        Raises
        ------
        ObjectChangedError
            The condition does not hold; nothing is written. Where an answer was lost and the write tried
            again, the condition may fail by the first try's success: compare what is there.
        """
        import obstore

        mode: Any = None
        if isinstance(only, StoredObject):
            known = {"e_tag": only.etag, "version": only.version}
            mode = {name: value for name, value in known.items() if value is not None}
        elif only is not None:
            mode = "create"
        try:
            with self._explaining("writing", key):
                found = obstore.put(self._store, key, content, mode=mode, use_multipart=False)
        except _NoObjectError:  # the one that should still be there is gone
            raise self._changed(key) from None
        return StoredObject(key, len(content), _quoted(found["e_tag"]), found["version"])

    def upload(self, path: Path, key: str) -> StoredObject:
        """Write a file's content, in parts where it is large; readers see the whole object or none."""
        import obstore

        size_bytes = path.stat().st_size
        with self._explaining("writing", key):
            found = obstore.put(
                self._store, key, path, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )
        return StoredObject(key, size_bytes, _quoted(found["e_tag"]), found["version"])

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        import obstore

        if keys:
            with self._explaining("removing", keys[0]):
                obstore.delete(self._store, list(keys))

    @contextmanager
    def _explaining(self, doing: str, key: str = "") -> Iterator[None]:
        import obstore.exceptions as theirs

        place = f"{self.address}/{key}" if key else self.address
        try:
            yield
        except (theirs.AlreadyExistsError, theirs.PreconditionError):
            raise self._changed(key) from None
        except theirs.NotModifiedError:
            raise _NotModifiedError(place) from None
        except FileNotFoundError as error:
            if "NoSuchBucket" in str(error):
                raise explained(error, doing, place) from None
            raise _NoObjectError(f"{place}: there is no such object.") from None
        except (theirs.BaseError, ValueError) as error:
            # Without the cause, whose text may hold parts of credentials.
            raise explained(error, doing, place) from None

    def _changed(self, key: str) -> ObjectChangedError:
        return ObjectChangedError(
            f"{self.address}/{key} has changed since it was looked at.", remedy="Look again, and decide anew."
        )


class _NoObjectError(ObjectStoreError):
    """There is no such object, or no such bucket where the store does not tell them apart."""


class _NotModifiedError(ObjectStoreError):
    """An object is still the one that is known."""


def _described(found: Any) -> StoredObject:
    etag = _quoted(found["e_tag"])
    return StoredObject(found["path"], found["size"], etag, found.get("version"), found.get("last_modified"))


def _quoted(etag: str | None) -> str | None:
    """An ETag as headers have it; in some stores' lists it has no quotes."""
    return etag if etag is None or etag.endswith('"') else f'"{etag}"'
