"""One immutable, versioned folder that holds a decoder and where it came from.

    <version>/decoder.safetensors   the learned arrays
              transform.safetensors the recovered map to z, where an affine one fits
              anchors.safetensors   the rotation into the originals' basis; only where anchors fixed it
              basis.safetensors     what fixes the axes of decoded vectors from version to version
              manifest.json         decoder and settings, provenance, file hashes, golden answers, a checksum
              evaluation.json       all candidates' scores and the protocol
              MODEL_CARD.md         the same for people
              plots/*.png

Nothing is pickled. Loading trusts nothing: the manifest's checksum, the hashes of all files, tensor names,
shapes and finiteness are checked, and the decoder must reproduce its golden answers, before anybody sees it.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes

from embup_core.artifacts.anchors import MANIFEST_FIELD as ANCHORS_FIELD
from embup_core.artifacts.anchors import FittedAnchors
from embup_core.artifacts.basis import MANIFEST_FIELD as BASIS_FIELD
from embup_core.artifacts.basis import described_basis, read_basis
from embup_core.artifacts.golden import Golden
from embup_core.artifacts.manifest import (
    ANCHORS_FILE,
    BASIS_FILE,
    DECODER_FILE,
    EVALUATION_FILE,
    FORMAT_VERSION,
    MANIFEST_FILE,
    MODEL_CARD_FILE,
    TRANSFORM_FILE,
    ListedFile,
    listed_files,
    manifest_bytes,
    read_manifest,
)
from embup_core.artifacts.model_card import render_model_card
from embup_core.artifacts.recovered_map import MANIFEST_FIELD as TRANSFORM_FIELD
from embup_core.artifacts.recovered_map import RecoveredMap
from embup_core.artifacts.reference_statistics import MANIFEST_FIELD, ReferenceStatistics
from embup_core.artifacts.verified_files import read_verified, verify_file
from embup_core.decoders import DECODERS
from embup_core.errors import ArtifactError, InvalidArtifactError
from embup_core.files.atomic import write_durably

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder
    from embup_core.geometry.basis import Basis

# Another processor's float32 sums differ in the last bits; a damaged array differs by far more.
_GOLDEN_TOLERANCE = 1e-5
_CANNOT_BE_BUILT = (SafetensorError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError)
_LIBRARIES = ("embup", "numpy", "scikit-learn", "torch", "faiss-cpu", "safetensors")


@dataclass(frozen=True)
class Provenance:
    """Where a decoder came from.

    Attributes
    ----------
    source
        Name of the data source, without the path that leads to it.
    fingerprint
        SHA-256 over the two input files.
    rows
        Sample rows in them.
    split
        How rows were split for the evaluation (`RowSplit.to_json`).
    metrics
        The champion's scores on test rows.
    evaluation
        Scores of all candidates and baselines, and how the champion was chosen.
    git_commit
        Of the code; None outside a checkout.
    reference_statistics
        Statistics of the training rows; None where they were not measured.
    transform
        The recovered map from originals to z; None where it was not looked for.
    left_out
        Rows of the two files that were left out of the training: wrong ones, and those listed to be.
    basis
        What fixes the axes of decoded vectors; None where nothing does.
    true_cosines
        What takes the place of true cosines in scores, and how far it is from them, in a sentence; None where
        they are those of the source's matrix.
    """

    source: str
    fingerprint: str
    rows: int
    split: Mapping[str, Any]
    metrics: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    git_commit: str | None = None
    reference_statistics: ReferenceStatistics | None = None
    transform: RecoveredMap | None = None
    left_out: Sequence[int] = ()
    basis: Basis | None = None
    true_cosines: str | None = None


@dataclass(frozen=True)
class Artifact:
    """A loaded and verified artifact.

    Attributes
    ----------
    folder, manifest
        Where it lies, and what it says of itself.
    decoder
        Ready to answer.
    transform
        The recovered map from originals to z; None in artifacts from before it was kept.
    """

    folder: Path
    manifest: dict[str, Any]
    decoder: Decoder
    transform: RecoveredMap | None = None
    anchors: FittedAnchors | None = None

    def read_basis(self) -> Basis | None:
        """Its basis, read again: decoding does not need it, and it is large. None where it has none.

        Raises
        ------
        InvalidArtifactError
            The file was changed since the artifact was loaded.
        """
        return read_basis(self.folder, self.manifest)

    @property
    def version(self) -> str:
        """``YYYYMMDD-HHMMSS-<8 of the content hash>``."""
        return str(self.manifest["version"])


def decoder_bytes(decoder: Decoder) -> bytes:
    """Learned arrays as safetensors. Equal arrays give equal bytes.

    The one place that saves arrays: safetensors mis-saves arrays that are not C-contiguous, and scikit-learn
    hands out such arrays.
    """
    return tensors_to_bytes(
        {name: np.ascontiguousarray(array) for name, array in sorted(decoder.arrays().items())}
    )


def decoder_from_bytes(name: str, settings: dict[str, Any], data: bytes) -> Decoder:
    """Rebuild a fitted decoder, checking names, shapes and finiteness.

    Raises
    ------
    InvalidArtifactError
        Unknown decoder, other settings, tensors missing, foreign, misshapen or not finite.
    """
    if name not in DECODERS:
        raise InvalidArtifactError(
            f"Expected one of the decoders {', '.join(DECODERS)}, found {name[:80]!r}.",
            remedy="Train again, or use the version of embup that wrote it.",
        )
    try:
        arrays = tensors_from_bytes(data)
        for tensor, array in arrays.items():
            if array.dtype.kind not in "fi" or not np.isfinite(array).all():
                raise InvalidArtifactError(
                    f"Expected finite numbers in tensor {tensor}, found {array.dtype} with others.",
                    remedy="Train again.",
                )
        with np.errstate(all="ignore"):  # damaged numbers are judged by the golden answers
            decoder = DECODERS[name].from_arrays(settings, arrays)
        rebuilt = decoder.arrays()
        if arrays.keys() != rebuilt.keys():
            raise InvalidArtifactError(
                f"Expected the tensors {sorted(rebuilt)}, found {str(sorted(arrays))[:300]}.",
                remedy="Train again.",
            )
        for tensor, array in rebuilt.items():
            # The golden answers need not tell: the bits of a float read as an integer are a number, too.
            if array.dtype != arrays[tensor].dtype:
                raise InvalidArtifactError(
                    f"Expected {array.dtype} in tensor {tensor}, found {arrays[tensor].dtype}.",
                    remedy="Train again.",
                )
    except _CANNOT_BE_BUILT as error:
        raise InvalidArtifactError(
            f"Expected the arrays of a {name} decoder, found what cannot be one ({str(error)[:300]}).",
            remedy="Train again.",
        ) from error
    return decoder


def content_hash(name: str, settings: dict[str, Any], data: bytes, rotation: bytes | None = None) -> str:
    """SHA-256 over what decides every answer: decoder, settings, arrays; not the time of writing."""
    described = json.dumps({"decoder": name, "settings": settings}, sort_keys=True).encode()
    arrays = hashlib.sha256(data).digest() + (b"" if rotation is None else hashlib.sha256(rotation).digest())
    return hashlib.sha256(described + arrays).hexdigest()


def _library_versions() -> dict[str, str]:
    """Versions of the libraries that are installed; which ones a fit needs depends on the decoder."""
    versions = {}
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def write_artifact(
    folder: Path,
    decoder: Decoder,
    *,
    golden: NDArray[np.float32],
    provenance: Provenance,
    created_utc: datetime,
    plots: Mapping[str, bytes],
    anchors: FittedAnchors | None = None,
) -> str:
    """Write all files of an artifact into an empty folder, durably, and return its version.

    Parameters
    ----------
    folder
        Exists and is empty; the registry moves it to its place.
    decoder
        Fitted.
    golden
        Inputs whose outputs are recorded: float32, shape (k, input dimensions), unit rows.
    provenance
        Where it came from.
    created_utc
        Becomes the first part of the version.
    plots
        File names (without folder) and PNG bytes.
    anchors
        The rotation into the originals' basis; None where there are none.
    """
    data = decoder_bytes(decoder)
    rotation = None if anchors is None else anchors.to_bytes()
    digest = content_hash(decoder.name, decoder.settings(), data, rotation)
    version = f"{created_utc:%Y%m%d-%H%M%S}-{digest[:8]}"
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "version": version,
        "created_utc": created_utc.isoformat(timespec="seconds"),
        "content_hash": digest,
        "decoder": {"name": decoder.name, "settings": decoder.settings(), "summary": decoder.summary},
        "input_dims": decoder.input_dims_,
        "output_dims": decoder.output_dims_,
        "data": {
            "source": provenance.source,
            "fingerprint": provenance.fingerprint,
            "rows": provenance.rows,
            "left_out": list(provenance.left_out),
            **({} if provenance.true_cosines is None else {"true_cosines": provenance.true_cosines}),
        },
        "split": dict(provenance.split),
        "metrics": dict(provenance.metrics),
        "git_commit": provenance.git_commit,
        "libraries": _library_versions(),
        "golden": Golden.of(decoder, golden).to_json(),
    }
    if provenance.reference_statistics is not None:
        manifest[MANIFEST_FIELD] = provenance.reference_statistics.to_json()
    tensors = None
    if provenance.transform is not None:
        manifest[TRANSFORM_FIELD] = provenance.transform.to_json()
        tensors = provenance.transform.tensors()
    if anchors is not None:
        manifest[ANCHORS_FIELD] = anchors.to_json()
    if provenance.basis is not None:
        manifest[BASIS_FIELD] = described_basis(provenance.basis)
    files = {
        DECODER_FILE: data,
        **({} if rotation is None else {ANCHORS_FILE: rotation}),
        EVALUATION_FILE: json.dumps(provenance.evaluation, indent=2).encode(),
        MODEL_CARD_FILE: render_model_card(
            manifest, provenance.evaluation, sorted(plots), stores=decoder.stores
        ).encode(),
        **({} if tensors is None else {TRANSFORM_FILE: tensors}),
        **({} if provenance.basis is None else {BASIS_FILE: provenance.basis.to_bytes()}),
        **{f"plots/{name}": png for name, png in plots.items()},
    }
    manifest["files"] = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for name, content in files.items()
    }
    (folder / "plots").mkdir()
    for name, content in files.items():
        write_durably(folder / name, content)
    write_durably(folder / MANIFEST_FILE, manifest_bytes(manifest))
    return version


def load_artifact(folder: Path) -> Artifact:
    """Load and verify an artifact.

    Every byte of every file that the manifest lists is covered, plots and the model card too; other files
    in the folder are not looked at.

    Raises
    ------
    InvalidArtifactError
        Anything is not as it was written; the message names the file.
    ArtifactError
        There is not enough memory for it.
    """
    try:
        return _load(folder)
    except MemoryError as error:
        raise ArtifactError(
            f"{folder}: there is not enough memory to load it.", remedy="Free memory, and load it again."
        ) from error


def _load(folder: Path) -> Artifact:
    manifest = read_manifest(folder)
    files = listed_files(folder, manifest)
    for name, listed in files.items():
        if name not in {DECODER_FILE, TRANSFORM_FILE, ANCHORS_FILE, BASIS_FILE}:
            verify_file(folder / name, size_bytes=listed.size_bytes, sha256=listed.sha256)
    data, rotation = (
        read_verified(folder / name, size_bytes=files[name].size_bytes, sha256=files[name].sha256)
        if name in files
        else None
        for name in (DECODER_FILE, ANCHORS_FILE)
    )
    assert data is not None  # noqa: S101 - `listed_files` requires it
    name, settings = manifest["decoder"]["name"], manifest["decoder"]["settings"]
    try:
        golden = Golden.from_json(
            manifest["golden"], input_dims=manifest["input_dims"], output_dims=manifest["output_dims"]
        )
        found_hash = content_hash(name, settings, data, rotation)
    except _CANNOT_BE_BUILT as error:
        raise InvalidArtifactError(
            f"{folder / MANIFEST_FILE}: a field is missing or malformed ({error}).", remedy="Publish again."
        ) from error
    if found_hash != manifest["content_hash"]:
        raise InvalidArtifactError(
            f"{folder / MANIFEST_FILE}: decoder and settings do not match the content hash.",
            remedy="The manifest was changed: publish again.",
        )
    decoder = decoder_from_bytes(name, settings, data)
    _require_dims(decoder, manifest, folder)
    _reproduce(decoder, golden, folder)
    described = manifest.get(ANCHORS_FIELD)
    if (described is None) != (rotation is None):
        raise InvalidArtifactError(
            f"{folder / MANIFEST_FILE}: expected {ANCHORS_FILE} and the field {ANCHORS_FIELD}, found one of "
            "the two.",
            remedy="The manifest was changed: publish again.",
        )
    anchors = None if rotation is None else FittedAnchors.load(rotation, manifest[ANCHORS_FIELD], decoder)
    transform = _transform(folder, manifest, files.get(TRANSFORM_FILE))
    read_basis(folder, manifest)  # verified, and not kept in memory: only trainings need it
    return Artifact(folder, manifest, decoder, transform, anchors)


def _transform(folder: Path, manifest: Mapping[str, Any], listed: ListedFile | None) -> RecoveredMap | None:
    data = None
    if listed is not None:
        data = read_verified(folder / TRANSFORM_FILE, size_bytes=listed.size_bytes, sha256=listed.sha256)
    try:
        found = RecoveredMap.from_manifest(manifest, data)
    except ValueError as error:
        raise InvalidArtifactError(
            f"{folder / TRANSFORM_FILE}: expected the recovered map, found what cannot be one ({error}).",
            remedy="Publish again.",
        ) from error
    if (found is not None and found.affine) != (data is not None):
        raise InvalidArtifactError(
            f"{folder}: expected {TRANSFORM_FILE} where the manifest has an affine map, and only there.",
            remedy="The manifest was changed: publish again.",
        )
    return found


def _require_dims(decoder: Decoder, manifest: Mapping[str, Any], folder: Path) -> None:
    stated = manifest["input_dims"], manifest["output_dims"]
    found = decoder.input_dims_, decoder.output_dims_
    if stated != found:
        raise InvalidArtifactError(
            f"{folder / MANIFEST_FILE}: expected a decoder from {stated[0]} to {stated[1]} dimensions, "
            f"found one from {found[0]} to {found[1]}.",
            remedy="The manifest was changed: publish again.",
        )


def _reproduce(decoder: Decoder, golden: Golden, folder: Path) -> None:
    try:
        differences = golden.differences(Golden.of(decoder, golden.inputs))
    except _CANNOT_BE_BUILT as error:
        raise InvalidArtifactError(
            f"{folder}: the decoder cannot answer its golden inputs ({error}).", remedy="Publish again."
        ) from error
    for part, difference in differences.items():
        if not difference <= _GOLDEN_TOLERANCE:
            found = "one of them is unknown" if np.isnan(difference) else f"they differ by {difference:.1e}"
            raise InvalidArtifactError(
                f"{folder}: the decoder does not reproduce its golden {part}: {found}, "
                f"expected a difference of at most {_GOLDEN_TOLERANCE:.0e}.",
                remedy="Train again with this version of embup.",
            )
