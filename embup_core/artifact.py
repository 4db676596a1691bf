"""One immutable, versioned folder that holds a decoder and where it came from.

    <version>/decoder.safetensors   the learned arrays
              manifest.json         decoder and settings, provenance, file hashes, golden inputs and answers
              evaluation.json       all candidates' scores and the protocol
              MODEL_CARD.md         the same for people
              plots/*.png

Nothing is pickled. Loading trusts nothing: hashes, tensor names, shapes and finiteness are checked, and the
decoder must reproduce its golden answers, before anybody sees it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as tensors_to_bytes

from embup_core.decoders import DECODERS
from embup_core.dims import INPUT_DIMS, OUTPUT_DIMS
from embup_core.durable import write_durably
from embup_core.errors import InvalidArtifactError
from embup_core.model_card import render_model_card

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

FORMAT_VERSION = 2
DECODER_FILE = "decoder.safetensors"
MANIFEST_FILE = "manifest.json"
EVALUATION_FILE = "evaluation.json"
MODEL_CARD_FILE = "MODEL_CARD.md"
_GOLDEN_ROWS = 4
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
    """

    source: str
    fingerprint: str
    rows: int
    split: Mapping[str, Any]
    metrics: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    git_commit: str | None = None


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
            f"Expected one of the decoders {', '.join(DECODERS)}, found {name!r}.",
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
        decoder = DECODERS[name].from_arrays(settings, arrays)
        expected = decoder.arrays().keys()
        if arrays.keys() != expected:
            raise InvalidArtifactError(
                f"Expected the tensors {sorted(expected)}, found {sorted(arrays)}.", remedy="Train again."
            )
    except _CANNOT_BE_BUILT as error:
        raise InvalidArtifactError(
            f"Expected the arrays of a {name} decoder, found what cannot be one ({error}).",
            remedy="Train again.",
        ) from error
    return decoder


def content_hash(name: str, settings: dict[str, Any], data: bytes) -> str:
    """SHA-256 over what decides every answer: decoder, settings, arrays; not the time of writing."""
    described = json.dumps({"decoder": name, "settings": settings}, sort_keys=True).encode()
    return hashlib.sha256(described + hashlib.sha256(data).digest()).hexdigest()


def golden_inputs(projected: NDArray[np.float32], *, seed: int = 0) -> NDArray[np.float32]:
    """Unit rows between pairs of training rows, none of which is one: float32, shape (4, 32)."""
    left, right = np.random.default_rng(seed).integers(0, len(projected), (2, _GOLDEN_ROWS))
    between = 0.7 * projected[left].astype(np.float64) + 0.3 * projected[right]
    unit: NDArray[np.float64] = between / np.linalg.norm(between, axis=1, keepdims=True)
    return unit.astype(np.float32)


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
        "golden": _Golden.of(decoder, golden).to_json(),
    }
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
    write_durably(folder / MANIFEST_FILE, json.dumps(manifest, indent=1).encode())
    return version


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, checked to be one of this format.

    Raises
    ------
    InvalidArtifactError
        Missing, not JSON, of another format version, or without what every manifest has.
    """
    path = folder / MANIFEST_FILE
    try:
        manifest = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidArtifactError(
            f"{path}: expected a manifest in JSON, found none ({error}).",
            remedy="Publish again, or remove the folder.",
        ) from error
    required = {"format_version", "version", "content_hash", "decoder", "files", "golden", "created_utc"}
    if (
        not isinstance(manifest, dict)
        or not required <= manifest.keys()
        or not isinstance(manifest["decoder"], dict)
    ):
        raise InvalidArtifactError(
            f"{path}: expected the fields {sorted(required)}, found a manifest without some of them.",
            remedy="Publish again, or remove the folder.",
        )
    if manifest["format_version"] != FORMAT_VERSION:
        raise InvalidArtifactError(
            f"{path}: expected format version {FORMAT_VERSION}, found {manifest['format_version']!r}.",
            remedy="Use the version of embup that wrote it, or train again.",
        )
    return manifest


def load_artifact(folder: Path) -> Artifact:
    """Load and verify an artifact.

    Raises
    ------
    InvalidArtifactError
        Anything is not as it was written; the message names the file.
    """
    manifest = read_manifest(folder)
    path = folder / DECODER_FILE
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidArtifactError(
            f"{path}: cannot be read ({error.strerror}).", remedy="Publish again, or remove the folder."
        ) from error
    try:
        expected_hash = manifest["files"][DECODER_FILE]["sha256"]
        name, settings = manifest["decoder"]["name"], manifest["decoder"]["settings"]
        golden = _Golden.from_json(manifest["golden"])
    except _CANNOT_BE_BUILT as error:
        raise InvalidArtifactError(
            f"{folder / MANIFEST_FILE}: a field is missing or malformed ({error}).", remedy="Publish again."
        ) from error
    found_hash = hashlib.sha256(data).hexdigest()
    if found_hash != expected_hash:
        raise InvalidArtifactError(
            f"{path}: expected SHA-256 {expected_hash}, found {found_hash}.",
            remedy="The file was changed or cut short: publish again.",
        )
    if content_hash(str(name), settings, data) != manifest["content_hash"]:
        raise InvalidArtifactError(
            f"{folder / MANIFEST_FILE}: decoder and settings do not match the content hash.",
            remedy="The manifest was changed: publish again.",
        )
    decoder = decoder_from_bytes(name, settings, data)
    _reproduce(decoder, golden, folder)
    return Artifact(folder, manifest, decoder)


@dataclass(frozen=True)
class _Golden:
    """Inputs and what the decoder answered to them.

    Attributes
    ----------
    inputs, outputs
        float32, shapes (k, 32) and (k, 1536).
    confidences
        float32, shape (k,); NaN where the decoder does not know, null in JSON.
    """

    inputs: NDArray[np.float32]
    outputs: NDArray[np.float32]
    confidences: NDArray[np.float32]

    @classmethod
    def of(cls, decoder: Decoder, inputs: NDArray[np.float32]) -> Self:
        return cls(inputs, *decoder.predict_with_confidence(inputs))

    def to_json(self) -> dict[str, Any]:
        confidences = [None if np.isnan(one) else one for one in self.confidences.tolist()]
        return {
            "inputs": self.inputs.tolist(),
            "outputs": self.outputs.tolist(),
            "confidences": confidences,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild; LookupError, TypeError, ValueError or ArithmeticError where it cannot be one."""
        inputs, outputs, confidences = (
            np.array(content[name], np.float32) for name in ("inputs", "outputs", "confidences")
        )
        expected = {"inputs": (len(inputs), INPUT_DIMS), "outputs": (len(inputs), OUTPUT_DIMS)}
        found = {"inputs": inputs.shape, "outputs": outputs.shape}
        if found != expected or confidences.shape != inputs.shape[:1]:
            raise ValueError(f"golden shapes {found} and {confidences.shape}, expected {expected}")
        return cls(inputs, outputs, confidences)

    def differences(self, other: Self) -> dict[str, float]:
        """Largest difference of outputs and of confidences; NaN where only one knows its confidence."""
        known = ~(np.isnan(self.confidences) & np.isnan(other.confidences))
        return {
            "outputs": float(np.abs(self.outputs - other.outputs).max(initial=0)),
            "confidences": float(np.abs(self.confidences - other.confidences)[known].max(initial=0)),
        }


def _reproduce(decoder: Decoder, golden: _Golden, folder: Path) -> None:
    try:
        differences = golden.differences(_Golden.of(decoder, golden.inputs))
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
