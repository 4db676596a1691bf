"""The source that a data folder belongs to, so that a later training there does not default to another one.

``source.json`` in the data folder names it. The first training writes it, and each training whose decoder
goes into service replaces it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from embup_core.files.atomic import replace_durably

if TYPE_CHECKING:
    from pathlib import Path

SOURCE_FILE = "source.json"
DEFAULT_SOURCE = "sample"
REGISTRY_CACHE = "registry-cache"
"""Folder in the data folder of the copies of registries in object stores."""


def remembered_source(data: Path) -> str | None:
    """The source that a data folder belongs to; None where none is recorded, or the record cannot be read."""
    try:
        source = json.loads((data / SOURCE_FILE).read_bytes())["source"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return source if isinstance(source, str) and source else None


def remember_source(data: Path, source: str, *, fingerprint: str, promoted: bool) -> None:
    """Record the source of a training, unless a decoder of another source stays in service.

    Parameters
    ----------
    data
        The data folder.
    source
        As `SourceFiles.name`: ``sample``, a folder, or addresses without secrets.
    fingerprint
        Of the training data.
    promoted
        Whether the new decoder went into service.
    """
    if promoted or remembered_source(data) is None:
        data.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"source": source, "fingerprint": fingerprint}, indent=2)
        replace_durably(data / SOURCE_FILE, content.encode() + b"\n")
