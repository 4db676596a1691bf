"""An upload in parts that a later process can resume: its id and parts are the store's to keep.

obstore, through which everything else goes, hides the upload's id and knows no condition for its completion.
So this goes through botocore, the client that S3 is specified by; S3 and what speaks its protocol alone.
"""

from __future__ import annotations

import base64
import hashlib
import os
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from embup_core.errors import InvalidArgumentError, ObjectChangedError, ObjectStoreError
from embup_core.extras import extra_required
from embup_core.object_store.failures import explained_code

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from embup_core.object_store.address import ObjectPath

_MARK: Final = "embup-upload"  # the name of the metadata that holds a token
_GONE: Final = ("NoSuchUpload", "NoSuchKey", "404", "NotFound")
_TAKEN: Final = ("PreconditionFailed", "412", "ConditionalRequestConflict")


class FoundObject(NamedTuple):
    """What is at a key.

    Attributes
    ----------
    size_bytes, etag
        As in `StoredObject`.
    token
        What `MultipartUpload.start` or `put_file` was given; empty for another writer's.
    """

    size_bytes: int
    etag: str
    token: str


class UploadGoneError(ObjectStoreError):
    """There is no such upload: it was completed or aborted."""


class UploadClient:
    """Writes objects of one bucket, in parts or at once.

    Parameters
    ----------
    path
        One of them.

    Raises
    ------
    InvalidArgumentError
        It is not in S3.
    MissingExtraError
        The extra `s3` is not installed.
    """

    def __init__(self, path: ObjectPath) -> None:
        if path.scheme != "s3":
            raise InvalidArgumentError(
                f"{path}: expected an output in s3:// or in a folder, found one in {path.scheme}://.",
                remedy="Write it into a folder, and copy it with the store's own client.",
            )
        with extra_required():
            from botocore.config import Config
            from botocore.session import Session
        session = Session()
        for files in ("credentials_file", "config_file"):  # as obstore: the environment and roles alone
            session.set_config_variable(files, os.devnull)
        # AWS_PROFILE names a part of those files. Not through the session, for which None is no value.
        session.get_component("config_store").set_config_variable("profile", None)
        self._bucket = path.bucket
        config = Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 6},
            # An MD5 sum goes with each part, which every store knows.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if _endpoint() else "auto"},
        )
        with self._explaining(path, "opening"):
            self._client: Any = session.create_client(
                "s3", region_name=_region(), endpoint_url=_endpoint(), config=config
            )

    def find(self, path: ObjectPath) -> FoundObject | None:
        """Look at an object; None where there is none."""
        try:
            with self._explaining(path, "reading"):
                found = self._client.head_object(**self._at(path))
        except UploadGoneError:
            return None
        return FoundObject(found["ContentLength"], found["ETag"], found["Metadata"].get(_MARK, ""))

    def start(self, path: ObjectPath, token: str) -> str:
        """Begin an upload, and return its id."""
        with self._explaining(path, "writing"):
            found = self._client.create_multipart_upload(**self._at(path), Metadata={_MARK: token})
        return str(found["UploadId"])

    def parts(self, path: ObjectPath, upload_id: str) -> dict[int, tuple[str, int]]:
        """Return ETag and size of each part that the store has, by its number from 1.

        Raises
        ------
        UploadGoneError
            There is no such upload.
        """
        pages = self._client.get_paginator("list_parts")
        with self._explaining(path, "reading"):
            return {
                part["PartNumber"]: (part["ETag"], part["Size"])
                for page in pages.paginate(**self._at(path), UploadId=upload_id)
                for part in page.get("Parts", ())
            }

    def put_part(self, path: ObjectPath, upload_id: str, number: int, data: bytes) -> str:
        """Write one part, over an earlier one of its number, and return its ETag."""
        with self._explaining(path, "writing"):
            found = self._client.upload_part(
                **self._at(path), UploadId=upload_id, PartNumber=number, Body=data, ContentMD5=_md5(data)
            )
        return str(found["ETag"])

    def complete(
        self, path: ObjectPath, upload_id: str, etags: Mapping[int, str], *, overwrite: bool
    ) -> None:
        """Make the object of its parts, in one step.

        Raises
        ------
        ObjectChangedError
            There is an object, and `overwrite` is false; the upload stays.
        UploadGoneError
            There is no such upload.
        """
        parts = [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]
        with self._explaining(path, "writing"):
            self._client.complete_multipart_upload(
                **self._at(path), UploadId=upload_id, MultipartUpload={"Parts": parts}, **_only(overwrite)
            )

    def abort(self, path: ObjectPath, upload_id: str) -> None:
        """Remove an upload with its parts; one that is gone is passed over."""
        try:
            with self._explaining(path, "removing"):
                self._client.abort_multipart_upload(**self._at(path), UploadId=upload_id)
        except UploadGoneError:
            pass

    def put_file(self, path: ObjectPath, file: IO[bytes], token: str, *, overwrite: bool) -> None:
        """Write a file's content at once; raises as `complete`."""
        with self._explaining(path, "writing"):
            self._client.put_object(**self._at(path), Body=file, Metadata={_MARK: token}, **_only(overwrite))

    def remove(self, path: ObjectPath) -> None:
        """Remove an object; one that is not there is passed over."""
        with self._explaining(path, "removing"):
            self._client.delete_object(**self._at(path))

    def _at(self, path: ObjectPath) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": path.key}

    @contextmanager
    def _explaining(self, path: ObjectPath, doing: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if code in _TAKEN:
                raise ObjectChangedError(f"{path} exists.", remedy="Choose another name.") from None
            if code in _GONE:
                raise UploadGoneError(f"{path}: there is no such object or upload.") from None
            # Without the cause, whose text may hold parts of credentials.
            raise explained_code(code, status, type(error).__name__, doing, str(path)) from None
        except (BotoCoreError, ValueError) as error:
            raise explained_code("", None, type(error).__name__, doing, str(path)) from None


def _only(overwrite: bool) -> dict[str, str]:
    return {} if overwrite else {"IfNoneMatch": "*"}


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _endpoint() -> str | None:
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def _region() -> str:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
