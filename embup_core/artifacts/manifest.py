"""The manifest of an artifact: its fields, its checksum, and the files it lists.

Its last line is its checksum, the SHA-256 over every byte before; so no byte of it, and through the hashes it
lists no byte of the artifact, can change unnoticed. Against whoever changes bytes and hashes alike a checksum
does nothing: what such a manifest says is judged field by field, here and where it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embup_core.artifacts.verified_files import read_at_most
from embup_core.errors import InvalidArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT_VERSION = 4
DECODER_FILE = "decoder.safetensors"
MANIFEST_FILE = "manifest.json"
EVALUATION_FILE = "evaluation.json"
MODEL_CARD_FILE = "MODEL_CARD.md"
TRANSFORM_FILE = "transform.safetensors"
ANCHORS_FILE = "anchors.safetensors"
BASIS_FILE = "basis.safetensors"
VERSION = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}")
MAX_MANIFEST_BYTES = 4 << 20  # usual are 0.2 MB; parsed, the worst of this size takes 100 MB
MAX_DECODER_BYTES = 4 << 30  # two million training rows of kriging

_CHECKSUM_KEY = "checksum"
_CHECKSUM_LINE = b'"checksum": "%b"\n}'
_CHECKSUM_BYTES = len(_CHECKSUM_LINE % (b"0" * 64))
_PLOT = re.compile(r"plots/(?!\.{1,2}$)[^/\x00]{1,200}")
_HASH = re.compile(r"[0-9a-f]{64}")
_REQUIRED: Mapping[str, type] = {
    "format_version": int,
    "version": str,
    "created_utc": str,
    "content_hash": str,
    "input_dims": int,
    "output_dims": int,
    "decoder": dict,
    "files": dict,
    "golden": dict,
}
_OPTIONAL: Mapping[str, type] = {
    "data": dict,
    "metrics": dict,
    "split": dict,
    "libraries": dict,
    "transform": dict,
    "anchors": dict,
    "basis": dict,
}
_REQUIRED_FILES = frozenset({DECODER_FILE, EVALUATION_FILE, MODEL_CARD_FILE})
_OPTIONAL_FILES = frozenset({TRANSFORM_FILE, ANCHORS_FILE, BASIS_FILE})


@dataclass(frozen=True)
class ListedFile:
    """What a manifest says of one file."""

    size_bytes: int
    sha256: str


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """A manifest as it is written, with its checksum."""
    without_checksum = {name: value for name, value in manifest.items() if name != _CHECKSUM_KEY}
    content = json.dumps(without_checksum | {_CHECKSUM_KEY: "0" * 64}, indent=1).encode()[:-_CHECKSUM_BYTES]
    return content + _CHECKSUM_LINE % hashlib.sha256(content).hexdigest().encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked for its format version, its checksum, and the types of its fields.

    Raises
    ------
    InvalidArtifactError
        Missing, not JSON, too long, changed, of another format version, or without what every manifest has.
    """
    path = folder / MANIFEST_FILE
    try:
        content = read_at_most(path, MAX_MANIFEST_BYTES)
        manifest = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidArtifactError(
            f"{path}: expected a manifest in JSON, found none ({error}).",
            remedy="Publish again, or remove the folder.",
        ) from error
    _require_fields(path, manifest)
    _require_format(path, manifest, content)
    if not VERSION.fullmatch(manifest["version"]) or manifest["version"][-8:] != manifest["content_hash"][:8]:
        raise InvalidArtifactError(
            f"{path}: expected a version that ends in the content hash, found {manifest['version'][:80]!r}.",
            remedy="The manifest was changed: publish again.",
        )
    return dict(manifest)


def listed_files(folder: Path, manifest: Mapping[str, Any]) -> dict[str, ListedFile]:
    """The files that a manifest answers for, by name.

    Raises
    ------
    InvalidArtifactError
        One that every artifact has is missing, one lies where none belongs, or a size or hash is none.
    """
    listed = manifest["files"]
    missing = _REQUIRED_FILES - listed.keys()
    if missing:
        raise _malformed(folder, f"files {sorted(missing)} are missing or malformed")
    return {name: _listed_file(folder, name, entry) for name, entry in listed.items()}


def _listed_file(folder: Path, name: str, entry: object) -> ListedFile:
    if name not in _REQUIRED_FILES | _OPTIONAL_FILES and not _PLOT.fullmatch(name):
        raise _malformed(folder, f"expected files of an artifact, found {name[:80]!r}")
    size_bytes = entry.get("bytes") if isinstance(entry, dict) else None
    sha256 = entry.get("sha256") if isinstance(entry, dict) else None
    # bool is an int to Python
    if type(size_bytes) is not int or not 0 <= size_bytes <= MAX_DECODER_BYTES:
        raise _malformed(
            folder, f"file {name}: expected a size of at most {MAX_DECODER_BYTES} bytes, found another"
        )
    if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
        raise _malformed(folder, f"file {name}: expected a SHA-256, found none")
    return ListedFile(size_bytes, sha256)


def _malformed(folder: Path, what: str) -> InvalidArtifactError:
    return InvalidArtifactError(f"{folder / MANIFEST_FILE}: {what}.", remedy="Publish again.")


def _require_fields(path: Path, manifest: object) -> None:
    if (
        not isinstance(manifest, dict)
        or not all(isinstance(manifest.get(name), kind) for name, kind in _REQUIRED.items())
        or not all(isinstance(manifest.get(name, kind()), kind) for name, kind in _OPTIONAL.items())
        or not isinstance(manifest["decoder"].get("name"), str)
        or not isinstance(manifest["decoder"].get("settings"), dict)
    ):
        raise InvalidArtifactError(
            f"{path}: expected the fields {sorted(_REQUIRED)}, found a manifest without some of them, "
            "or with others in their place.",
            remedy="Publish again, or remove the folder.",
        )


def _require_format(path: Path, manifest: Mapping[str, Any], content: bytes) -> None:
    found = manifest["format_version"]
    if found != FORMAT_VERSION:
        raise InvalidArtifactError(
            f"{path}: expected format version {FORMAT_VERSION}, found {found!r}.",
            remedy="Use the version of embup that wrote it, or train again.",
        )
    body, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if checksum != _CHECKSUM_LINE % hashlib.sha256(body).hexdigest().encode():
        raise InvalidArtifactError(
            f"{path}: the checksum in its last line is not that of what stands before it.",
            remedy="The manifest was changed or cut short: publish again.",
        )
