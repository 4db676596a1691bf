"""The gate: both decoders on the same rows, which neither was trained on, resampled in pairs.

Non-inferiority decides over all rows: the new decoder must be shown to be worse by no more than a margin. On
slices, of which there are many and each is small, that could hardly ever be shown; there a decoder is held
if it is shown to be worse by more than a margin.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.blocks import BLOCK_ROWS
from embup_core.evaluation import DecodedRows
from embup_core.evaluation.cosines import DotProducts
from embup_core.evaluation.paired import PairedDifference, paired_mean, paired_r2
from embup_core.evaluation.ranking import shared_nearest
from embup_core.training.promotion.result import GateCheck, GateResult, Margins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder
    from embup_core.evaluation.cosines import Cosines

    Float32 = NDArray[np.float32]

MOST_ROWS: Final = 4000
"""Held-out rows that are compared at most: matrices of 64 MB."""

R2 = "R2 of cosines"
RECALL = "recall@10"
STORED = "recall@10 of stored vectors"
CALIBRATION = "observed / predicted error"
SIZE = "size, bytes"
DECODE_TIME = "ms a row"
ENOUGH_ROWS = "held-out rows"

_NEAREST = 10
_TIMED_ROUNDS = 7


def compare_on_held_out(
    old: Decoder,
    new: Decoder,
    projected: NDArray[np.float32],
    true: Cosines | NDArray[np.float32],
    slices: Mapping[str, NDArray[Any]] | None = None,
    *,
    margins: Margins | None = None,
    previous: str = "",
    seed: int = 0,
) -> GateResult:
    """Compare a new decoder with the one in service, on rows that neither was trained on.

    Parameters
    ----------
    old, new
        Fitted, of equal dimensions.
    projected
        z of the held-out rows: float32, shape (n, d), unit rows. 4,000 random ones of more are compared.
    true
        True cosines between the same rows: of shape (n, n) as `MatrixCosines(memory_map, rows, rows)`, or the
        rows' coordinates, float32, shape (n, r), unit rows.
    slices
        Labels of the rows, shape (n,), by what they say: ``{"drop": months, "cluster": numbers}``.
    margins
        By default `Margins()`.
    previous
        The old version's name, for the result.
    seed
        Of sampling and resampling. All but the times is the same for the same seed.

    Raises
    ------
    ValueError
        The arrays are not of one length, or a decoder takes rows of other dimensions.
    """
    margins = margins or Margins()
    cosines = DotProducts(true, true) if isinstance(true, np.ndarray) else true
    n = len(projected)
    lengths = {"true cosines": cosines.shape[0], **{name: len(of) for name, of in (slices or {}).items()}}
    for name, found in lengths.items():
        if found != n:
            raise ValueError(f"expected {n} rows of {name}, as there are held-out rows, found {found}")
    enough = GateCheck(ENOUGH_ROWS, n >= margins.fewest_rows, None, n, f"at least {margins.fewest_rows}")
    if not enough.passed:
        return GateResult((enough,), n, previous)
    rows = _sampled(n, seed)
    z, actual = compared_rows(projected, cosines, seed=seed)
    before, after = DecodedRows.by(old, z), DecodedRows.by(new, z)
    old_cosines, new_cosines = before.rows @ before.rows.T, after.rows @ after.rows.T
    parts = _parts(slices or {}, rows, margins)
    whole, of_parts = paired_r2(old_cosines, new_cosines, actual, parts, seed=seed)
    checks = [
        enough,
        GateCheck(
            R2,
            whole.lower(margins.level) > -margins.r2_on(whole.rows),
            whole.old,
            whole.new,
            f"not worse by {margins.r2_on(whole.rows):.3f}, with {margins.level:.0%} confidence",
            interval_of(whole),
            whole.rows,
        ),
        *_ranking_checks(before.rows, after.rows, old_cosines, new_cosines, actual, margins),
        _calibration_check(
            _error_ratio(old, before, old_cosines, actual),
            _error_ratio(new, after, new_cosines, actual),
            margins,
        ),
        _size_check(_size_bytes(old), _size_bytes(new), margins),
        _time_check(*_quickest_ms(old, new, z), margins),
        *(_slice_check(name, found, len(of_parts), margins) for name, found in of_parts.items()),
    ]
    return GateResult(tuple(check for check in checks if check is not None), len(rows), previous)


def compared_rows(projected: Float32, true: Cosines | Float32, *, seed: int = 0) -> tuple[Float32, Float32]:
    """z and true cosines of the held-out rows that are compared: float32, shapes (k, d) and (k, k).

    Parameters are those of `compare_on_held_out`.
    """
    cosines = DotProducts(true, true) if isinstance(true, np.ndarray) else true
    rows = _sampled(len(projected), seed)
    return np.ascontiguousarray(projected[rows]), _square(cosines, rows)


def _sampled(n: int, seed: int) -> NDArray[np.int64]:
    return np.sort(np.random.default_rng(seed).permutation(n)[:MOST_ROWS])


def _square(cosines: Cosines, rows: NDArray[np.int64]) -> Float32:
    """Cosines between some rows: float32, shape (k, k), read a block at a time."""
    found = np.empty((len(rows), len(rows)), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        wanted = rows[start : start + BLOCK_ROWS]
        first = int(wanted[0])
        block = cosines.block(first, int(wanted[-1]) + 1)  # (span, n)
        found[start : start + len(wanted)] = block[np.ix_(wanted - first, rows)]
    return found


def _parts(
    slices: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], margins: Margins
) -> dict[str, NDArray[np.bool_]]:
    """Which of the compared rows each slice has, but for small ones and those of all rows."""
    parts = {}
    for kind, labels in slices.items():
        some = np.asarray(labels)[rows]
        for label in np.unique(some):
            part = some == label
            if margins.fewest_slice_rows <= part.sum() < len(part):
                parts[f"{kind} {label}"] = part
    return parts


def interval_of(found: PairedDifference) -> tuple[float, float]:
    """Two-sided 95 % interval of new - old."""
    return found.lower(0.975), found.upper(0.975)


def _slice_check(name: str, found: PairedDifference, slices: int, margins: Margins) -> GateCheck:
    level = 1 - (1 - margins.level) / slices
    return GateCheck(
        name,
        not found.upper(level) < -margins.slice_r2,
        found.old,
        found.new,
        f"not shown to be worse by {margins.slice_r2:g}",
        interval_of(found),
        found.rows,
        is_slice=True,
    )


def _ranking_checks(
    old_rows: Float32,
    new_rows: Float32,
    old_cosines: Float32,
    new_cosines: Float32,
    actual: Float32,
    margins: Margins,
) -> list[GateCheck]:
    """Recall of the nearest held-out rows by either decoder, and by new queries among old documents."""
    nearest = _without_itself(actual)

    def recall(predicted: Float32) -> NDArray[np.float64]:
        found = shared_nearest(_without_itself(predicted), nearest, (_NEAREST,))  # (n, 1)
        share: NDArray[np.float64] = found[:, 0] / _NEAREST
        return share

    of_old = recall(old_cosines)
    compared = {RECALL: recall(new_cosines)}
    if old_rows.shape == new_rows.shape:
        compared[STORED] = recall(new_rows @ old_rows.T)
    checks = []
    for name, of_new in compared.items():
        found = paired_mean(of_old, of_new)
        passed = not found.upper(margins.level) < -margins.recall
        expected = f"not shown to be worse by {margins.recall:g}"
        checks.append(GateCheck(name, passed, found.old, found.new, expected, interval_of(found), found.rows))
    return checks


def _without_itself(cosines: Float32) -> Float32:
    """A copy whose diagonal is never the largest: no row finds itself."""
    others = cosines.copy()
    np.fill_diagonal(others, -np.inf)
    return others


def _error_ratio(decoder: Decoder, decoded: DecodedRows, cosines: Float32, actual: Float32) -> float | None:
    """Observed over predicted RMSE of cosines between different rows; None where it predicts no errors."""
    observed = predicted = 0.0
    for start in range(0, len(actual), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        errors = decoder.cosine_standard_error(
            decoded.rows[block], decoded.confidence[block], decoded.rows, decoded.confidence
        )
        if errors is None:
            return None
        squared = np.square(cosines[block] - actual[block])
        expected = np.square(errors)
        for values in (squared, expected):
            values[np.arange(len(values)), np.arange(start, start + len(values))] = 0
        observed += float(squared.sum(dtype=np.float64))
        predicted += float(expected.sum(dtype=np.float64))
    return math.sqrt(observed / predicted) if predicted else math.inf


def _calibration_check(old: float | None, new: float | None, margins: Margins) -> GateCheck | None:
    if new is None:
        return None
    allowed = margins.calibration
    if old:  # neither absent nor 0
        allowed = max(allowed, margins.calibration_growth * max(old, 1 / old))
    off = max(new, 1 / new) if new else math.inf
    return GateCheck(CALIBRATION, off <= allowed, old, new, f"{1 / allowed:.2f} to {allowed:.2f}")


def _size_bytes(decoder: Decoder) -> int:
    return sum(array.nbytes for array in decoder.arrays().values())


def _size_check(old: int, new: int, margins: Margins) -> GateCheck:
    allowed = max(margins.size * old, margins.small_bytes)
    return GateCheck(SIZE, new <= allowed, old, new, f"at most {allowed:,.0f}")


def _quickest_ms(old: Decoder, new: Decoder, z: Float32) -> tuple[float, float]:
    """Milliseconds a row of each, in its quickest block; in turns, so that a busy moment hits both."""
    block = z[:BLOCK_ROWS]
    quickest = [math.inf, math.inf]
    for _ in range(_TIMED_ROUNDS):
        for place, decoder in enumerate((old, new)):
            started_s = time.perf_counter()
            decoder.predict(block)
            quickest[place] = min(quickest[place], time.perf_counter() - started_s)
    return 1e3 * quickest[0] / len(block), 1e3 * quickest[1] / len(block)


def _time_check(old_ms: float, new_ms: float, margins: Margins) -> GateCheck:
    allowed = max(margins.decode_time * old_ms, margins.quick_ms)
    return GateCheck(DECODE_TIME, new_ms <= allowed, old_ms, new_ms, f"at most {allowed:.2f}")
