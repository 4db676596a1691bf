"""Addresses of objects: ``s3://bucket/prefix``, ``gs://bucket/prefix``, ``az://container/prefix``."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from embup_core.errors import InvalidArgumentError

if TYPE_CHECKING:
    from pathlib import Path

_LOOKS_LIKE_ONE = re.compile(r"\s*(s3|gs|az)://", re.IGNORECASE)
_ADDRESS = re.compile(r"(s3|gs|az)://([A-Za-z0-9][A-Za-z0-9._-]*)((?:/[^/?#\s]+)*)/*")


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


def folder_of(address: str, cache: Path) -> Path:
    """The folder below a cache that belongs to an address: its last part, and a hash of the whole."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", address.rpartition("/")[2])[:40]
    return cache / f"{name}-{hashlib.sha256(address.encode()).hexdigest()[:12]}"
