"""Addresses of objects: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PosixPath
from typing import TYPE_CHECKING

from embup_core.errors import InvalidArgumentError

if TYPE_CHECKING:
    import os

_LOOKS_LIKE_ONE = re.compile(r"\s*(s3|gs|az)://", re.IGNORECASE)
_ADDRESS_OR_PATH = re.compile(r"\s*(s3|gs|az):/", re.IGNORECASE)  # a path has one of the two slashes
_ADDRESS = re.compile(r"(s3|gs|az)://([A-Za-z0-9][A-Za-z0-9._-]*)((?:/[^/?#\s]+)*)/*")
_OBJECT = re.compile(
    r"(s3|gs|az):/{1,2}([A-Za-z0-9][A-Za-z0-9._-]*)/([\w.=+@,-]+(?:/[\w.=+@,-]+)*)", re.IGNORECASE | re.ASCII
)


def is_address(text: object) -> bool:
    """Whether a setting names an object store rather than a folder; it may be malformed all the same."""
    return isinstance(text, str) and _LOOKS_LIKE_ONE.match(text) is not None


def parsed_address(text: str) -> str:
    """An address in its one spelling: scheme in small letters, no slash at the end.

    Raises
    ------
    InvalidArgumentError
        It is malformed, or holds a user, a password or a query: credentials have places of their own.
    """
    scheme, separator, rest = text.strip().partition("://")
    found = _ADDRESS.fullmatch(f"{scheme.lower()}{separator}{rest}")
    if found is None:
        # It is not repeated: what makes it malformed may be a secret.
        raise InvalidArgumentError(
            "Expected an address such as s3://bucket/prefix, found another form.",
            remedy="Give scheme (s3, gs, az), bucket and prefix alone. Credentials, region and endpoint are "
            "variables of the environment: docs/how-to/object-stores.md.",
        )
    return f"{found[1]}://{found[2]}{found[3]}"


class ObjectPath(PosixPath):
    """The address of one object, dressed as a path: its names, endings and neighbours are those of a path.

    It leads nowhere in the file system; what opens files asks for this class first.
    """

    @classmethod
    def parsed(cls, text: str) -> ObjectPath:
        """Read the address of an object.

        Raises
        ------
        InvalidArgumentError
            It is malformed, or names a whole bucket or a folder.
        """
        found = _OBJECT.fullmatch(text.strip())
        if found is None or {".", ".."} & set(found[3].split("/")):
            raise InvalidArgumentError(
                "Expected the address of an object such as s3://bucket/prefix/rows.npy, found another form.",
                remedy="Give scheme (s3, gs, az), bucket and key, of letters, digits and -_.=+@, alone.",
            )
        return cls(f"{found[1].lower()}:/{found[2]}/{found[3]}")

    @property
    def scheme(self) -> str:
        """s3, gs or az."""
        return self.parts[0].removesuffix(":")

    @property
    def bucket(self) -> str:
        """The bucket, or container."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The name in the bucket."""
        return "/".join(self.parts[2:])

    def __str__(self) -> str:
        """The address."""
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        """The address, for messages."""
        return str(self)

    def resolve(self, strict: bool = False) -> ObjectPath:  # noqa: ARG002 - as a path's own
        """Return itself: an address is absolute."""
        return self


def batch_path(text: str | os.PathLike[str]) -> Path:
    """A file's path, or an object's address, which may have become a path; raises as `ObjectPath.parsed`."""
    if isinstance(text, ObjectPath):
        return text
    return ObjectPath.parsed(str(text)) if _ADDRESS_OR_PATH.match(str(text)) else Path(text)


def folder_of(address: str, cache: Path) -> Path:
    """The folder below a cache that belongs to an address: its last part, and a hash of the whole."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", address.rpartition("/")[2])[:40]
    return cache / f"{name}-{hashlib.sha256(address.encode()).hexdigest()[:12]}"
