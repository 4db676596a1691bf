"""One immutable, versioned folder that holds a decoder and where it came from.

    <version>/decoder.safetensors   the learned arrays
              manifest.json         decoder and settings, provenance, file hashes, golden answers, a seal
              evaluation.json       all candidates' scores and the protocol
              MODEL_CARD.md         the same for people
              plots/*.png

Nothing is pickled. Loading trusts nothing: the manifest's seal, the hashes of all files, tensor names, shapes
and finiteness are checked, and the decoder must reproduce its golden answers, before anybody sees it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes

from embup_core.artifact_files import read_verified, verify_file
from embup_core.decoders import DECODERS
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS
from embup_core.durable import write_durably
from embup_core.errors import ArtifactError, InvalidArtifactError
from embup_core.golden import Golden
from embup_core.manifest import (
    DECODER_FILE,
    EVALUATION_FILE,
    FORMAT_VERSION,
    MANIFEST_FILE,
    MODEL_CARD_FILE,
    listed_files,
    manifest_bytes,
    read_manifest,
)
from embup_core.model_card import render_model_card
from embup_core.training_inputs import MANIFEST_FIELD, TrainingInputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

# Another processor's float32 sums differ in the last bits; a damaged array differs by far more.
_GOLDEN_TOLERANCE = 1e-5
_CANNOT_BE_BUILT = (SafetensorError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError)
_LIBRARIES = ("numpy", "scikit-learn", "torch", "faiss-cpu", "safetensors")


@dataclass(frozen=True)
class Provenance:
    """Where a decoder came from.

    Attributes
    ----------
    source
        The data source, as a person named it.
    fingerprint
        SHA-256 over the two input files.
    rows
        Sample rows in them.
    split
        How rows were split for the evaluation: seed and counts.
    metrics
        The champion's scores on test rows.
    evaluation
        Scores of all candidates and baselines, the rule of choice.
    git_commit
        Of the code; None outside a checkout.
    training_inputs
        What the training rows were like; None where nobody looked.
    """

    source: str
    fingerprint: str
    rows: int
    split: Mapping[str, Any]
    metrics: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    git_commit: str | None = None
    training_inputs: TrainingInputs | None = None


@dataclass(frozen=True)
class Artifact:
    """A loaded and verified artifact."""

    folder: Path
    manifest: dict[str, Any]
    decoder: Decoder

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


def content_hash(name: str, settings: dict[str, Any], data: bytes) -> str:
    """SHA-256 over what decides every answer: decoder, settings, arrays; not the time of writing."""
    described = json.dumps({"decoder": name, "settings": settings}, sort_keys=True).encode()
    return hashlib.sha256(described + hashlib.sha256(data).digest()).hexdigest()


def write_artifact(
    folder: Path,
    decoder: Decoder,
    *,
    golden: NDArray[np.float32],
    provenance: Provenance,
    created_utc: datetime,
    plots: Mapping[str, bytes],
) -> str:
    """Write all files of an artifact into an empty folder, durably, and return its version.

    Parameters
    ----------
    folder
        Exists and is empty; the registry moves it to its place.
    decoder
        Fitted.
    golden
        Inputs whose outputs are recorded: float32, shape (k, 32), unit rows.
    provenance
        Where it came from.
    created_utc
        Becomes the first part of the version.
    plots
        File names (without folder) and PNG bytes.
    """
    data = decoder_bytes(decoder)
    digest = content_hash(decoder.name, decoder.settings(), data)
    version = f"{created_utc:%Y%m%d-%H%M%S}-{digest[:8]}"
    manifest: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "version": version,
        "created_utc": created_utc.isoformat(timespec="seconds"),
        "content_hash": digest,
        "decoder": {"name": decoder.name, "settings": decoder.settings(), "summary": decoder.summary},
        "input_dims": INPUT_DIMS,
        "output_dims": OUTPUT_DIMS,
        "data": {
            "source": provenance.source,
            "fingerprint": provenance.fingerprint,
            "rows": provenance.rows,
        },
        "split": dict(provenance.split),
        "metrics": dict(provenance.metrics),
        "git_commit": provenance.git_commit,
        "libraries": {name: metadata.version(name) for name in _LIBRARIES},
        "golden": Golden.of(decoder, golden).to_json(),
    }
    if provenance.training_inputs is not None:
        manifest[MANIFEST_FIELD] = provenance.training_inputs.to_json()
    files = {
        DECODER_FILE: data,
        EVALUATION_FILE: json.dumps(provenance.evaluation, indent=2).encode(),
        MODEL_CARD_FILE: render_model_card(
            manifest, provenance.evaluation, sorted(plots), keeps=decoder.keeps
        ).encode(),
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
        if name != DECODER_FILE:
            verify_file(folder / name, size_bytes=listed.size_bytes, sha256=listed.sha256)
    listed = files[DECODER_FILE]
    data = read_verified(folder / DECODER_FILE, size_bytes=listed.size_bytes, sha256=listed.sha256)
    name, settings = manifest["decoder"]["name"], manifest["decoder"]["settings"]
    try:
        golden = Golden.from_json(manifest["golden"])
        found_hash = content_hash(name, settings, data)
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
    _reproduce(decoder, golden, folder)
    return Artifact(folder, manifest, decoder)


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
