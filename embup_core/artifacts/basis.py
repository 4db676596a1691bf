"""The basis of an artifact: a file of its own, its id in the manifest, and which versions share one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from embup_core.artifacts.manifest import BASIS_FILE, MANIFEST_FILE, listed_files
from embup_core.artifacts.verified_files import read_verified
from embup_core.errors import InvalidArtifactError
from embup_core.geometry.basis import Basis

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MANIFEST_FIELD: Final = "basis"
_ID = re.compile(r"[0-9a-f]{16}")


def described_basis(basis: Basis) -> dict[str, Any]:
    """What a manifest says of a basis."""
    return {"id": basis.id, "landmarks": len(basis.landmarks), "dims": basis.dims}


def basis_id(manifest: Mapping[str, Any]) -> str | None:
    """The id in a manifest; None where it has none that can be read. Vectors of equal ids are comparable."""
    described = manifest.get(MANIFEST_FIELD)
    found = described.get("id") if isinstance(described, dict) else None
    return found if isinstance(found, str) and _ID.fullmatch(found) else None


def read_basis(folder: Path, manifest: Mapping[str, Any]) -> Basis | None:
    """Read and verify the basis of an artifact.

    Parameters
    ----------
    folder, manifest
        Of the artifact.

    Returns
    -------
    None where the manifest names none.

    Raises
    ------
    InvalidArtifactError
        The file is missing or changed, or is not the basis that the manifest describes.
    """
    listed = listed_files(folder, manifest).get(BASIS_FILE)
    described = manifest.get(MANIFEST_FIELD)
    if (listed is None) != (described is None):
        raise InvalidArtifactError(
            f"{folder / MANIFEST_FILE}: expected {BASIS_FILE} and the field {MANIFEST_FIELD}, found one of "
            "the two.",
            remedy="The manifest was changed: publish again.",
        )
    if listed is None:
        return None
    data = read_verified(folder / BASIS_FILE, size_bytes=listed.size_bytes, sha256=listed.sha256)
    try:
        basis = Basis.from_bytes(data)
        dims = basis.landmarks.shape[1], basis.output_dims
        expected = manifest["input_dims"], manifest["output_dims"]
        if dims != expected:
            raise ValueError(
                f"one from {dims[0]} to {dims[1]} dimensions, expected {expected[0]} to {expected[1]}"
            )
        if described != described_basis(basis):
            raise ValueError(f"{described_basis(basis)}, expected {str(described)[:200]}")
    except ValueError as error:
        raise InvalidArtifactError(
            f"{folder / BASIS_FILE}: expected the basis of this version, found what cannot be it ({error}).",
            remedy="Publish again.",
        ) from error
    return basis
