"""One realtime answer: numbers checked, decoded, and encoded as JSON or raw float32.

The digits are those of the text files, so that realtime and batch answers agree to the last one.
"""

from __future__ import annotations

from math import sqrt
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from embup_core.errors import InputError
from embup_core.text import format_json_row, format_json_rows

if TYPE_CHECKING:
    from embup_core.upsampler import Basis, Upsampler
    from serving.realtime.stages import RealtimeStages

FLOAT32_MAX = 3.4028234663852886e38
UNIT_TOLERANCE = 1e-3  # rows whose length differs from 1 by more are counted in a header


def answer(
    upsampler: Upsampler,
    rows: list[list[float]],
    stages: RealtimeStages,
    *,
    single: bool,
    raw: bool,
    basis: Basis = "decoded",
) -> tuple[bytes, dict[str, str]]:
    """Decode rows and encode the answer.

    Parameters
    ----------
    upsampler
        The decoder in service.
    rows
        n rows of `upsampler.input_dims` numbers each.
    stages
        Receives the times, the rows and their confidences.
    single
        Whether the request was for one row: the JSON then holds no list of rows.
    raw
        Whether to encode as little-endian float32 instead of JSON.
    basis
        As for `Upsampler.upsample`.

    Returns
    -------
    content, headers
        The body, and headers beside its media type.

    Raises
    ------
    InputError
        A number is beyond float32, or a row has only zeros.
    NoAnchorsError
        The decoder in service cannot answer in this basis.
    """
    stages.decoding = perf_counter()
    z64 = np.array(rows, dtype=np.float64)
    # Python's own numbers from here on: there are few, and a call into NumPy costs more than all of them.
    lengths = [sqrt(squared) for squared in np.einsum("ij,ij->i", z64, z64).tolist()]
    # No number of a row is larger than the row is long.
    if max(lengths) > FLOAT32_MAX and len(beyond := np.argwhere(~(np.abs(z64) <= FLOAT32_MAX))):
        i, j = beyond[0]
        where = f"embedding[{j}]" if single else f"embeddings[{i}][{j}]"
        raise InputError(
            f"{where}: expected a number within float32, found {z64[i, j]:g}.",
            remedy=f"Send numbers of at most {FLOAT32_MAX:.3g}.",
        )
    z = z64.astype(np.float32)
    out, confidence = upsampler.upsample(z, basis=basis)
    stages.decoded = perf_counter()
    stages.z, stages.confidence = z, confidence
    stages.model_version, stages.low_confidence = upsampler.version, upsampler.low_confidence or 0.0
    shares = [round(share, 6) for share in confidence.tolist()]
    normalised = sum(abs(length - 1) > UNIT_TOLERANCE for length in lengths)
    said = {"Embup-Normalised": str(normalised)} if normalised else {}
    if raw:
        return out.astype("<f4", copy=False).tobytes(), {
            "Embup-Model-Version": upsampler.version,
            "Embup-Rows": str(len(out)),
            "Embup-Dims": str(out.shape[1]),
            "Embup-Confidence": ",".join(f"{share:g}" for share in shares),
        } | said
    version = msgspec.json.encode(upsampler.version)
    if single:
        return (
            b'{"embedding":%b,"model_version":%b,"confidence":%b}'
            % (format_json_row(out[0]), version, msgspec.json.encode(shares[0])),
            said,
        )
    return (
        b'{"embeddings":%b,"model_version":%b,"confidence":%b}'
        % (format_json_rows(out), version, msgspec.json.encode(shares)),
        said,
    )
