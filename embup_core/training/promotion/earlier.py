"""Which earlier versions a new one is compared with: the one in service, and the best of a year.

Where the one in service is damaged, the last one before it that can be loaded takes its place: a damaged
version never keeps a new one out, since a service that starts again could not load it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from embup_core.artifacts.training_rows import HELD_OUT_FIELD
from embup_core.errors import ArtifactError, RegistryUnavailableError
from embup_core.evaluation import DecodedRows
from embup_core.evaluation.paired import paired_r2
from embup_core.training.promotion.gate import compare_on_held_out, compared_rows, interval_of
from embup_core.training.promotion.result import GateCheck, GateResult, Margins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.artifacts.artifact import Artifact
    from embup_core.artifacts.registry import Registry
    from embup_core.decoders import Decoder
    from embup_core.training.promotion.held_out import HeldOutRows

LAST_VERSIONS: Final = 12
BEST: Final = "R2 of cosines, the best of a year"


class Compared(NamedTuple):
    """What a comparison with earlier versions came to.

    Attributes
    ----------
    gate
        What it found; None where there is nothing to compare with.
    damage
        What to know about the version in service, in a sentence; None where it can be loaded.
    """

    gate: GateResult | None
    damage: str | None


def compare_with_earlier(
    rows: HeldOutRows, registry: Registry, current: str, new: Decoder, *, seed: int = 0
) -> Compared:
    """Compare a new decoder with the version in service, or the last sound one, and with the best of a year.

    Parameters
    ----------
    rows
        That no version was trained on.
    registry
        Where the versions are.
    current
        The version in service.
    new
        Fitted.
    seed
        Of sampling and resampling.

    Raises
    ------
    RegistryUnavailableError
        The store does not answer: nothing is known then about any version.
    """
    deployed = _deployed(registry)
    for version in _in_place_of(current, deployed):
        artifact = _loaded(registry, version)
        if artifact is None:
            continue
        damage = None if version == current else _damage(current, f"It is compared with {version}")
        if not _held_out(artifact):
            damage = damage and _damage(current, "It is compared with nothing")
            return Compared(None, damage)
        try:
            gate = compare_on_held_out(
                artifact.decoder, new, rows.projected, rows.true, rows.slices, previous=version, seed=seed
            )
        except ValueError:  # it takes rows of other dimensions
            return Compared(None, damage)
        latest = list(dict.fromkeys(reversed(deployed)))
        others = [other for other in latest if other not in {current, version}][: LAST_VERSIONS - 1]
        best = _best_check(rows, registry, artifact.decoder, others, new, seed) if gate.passed else None
        return Compared(replace(gate, checks=(*gate.checks, best)) if best else gate, damage)
    return Compared(None, _damage(current, "No version before it can be either: it is compared with nothing"))


def _damage(current: str, compared: str) -> str:
    return f"{current}, which was in service, cannot be loaded (embup models verify). {compared}."


def _deployed(registry: Registry) -> list[str]:
    """Versions that were in service and that the registry still has, in the order of moves."""
    there = set(registry.version_names())
    return [move.version for move in registry.deployments() if move.version in there]


def _in_place_of(current: str, deployed: Sequence[str]) -> list[str]:
    """The version in service, those before it, the nearest first, then those that were rolled back from."""
    first = deployed.index(current) if current in deployed else len(deployed)
    return list(dict.fromkeys((current, *reversed(deployed[:first]), *reversed(deployed[first:]))))


def _loaded(registry: Registry, version: str) -> Artifact | None:
    """A version; None where it is damaged or gone."""
    try:
        return registry.load_artifact(version)
    except RegistryUnavailableError:
        raise
    except ArtifactError:
        return None


def _held_out(artifact: Artifact) -> bool:
    """Whether it was trained without the rows that are held out for ever."""
    split = artifact.manifest.get("split")
    return isinstance(split, dict) and split.get(HELD_OUT_FIELD) is True


def _best_check(
    rows: HeldOutRows, registry: Registry, compared: Decoder, others: Sequence[str], new: Decoder, seed: int
) -> GateCheck | None:
    """Whether it is about as good as the best of the versions that were in service; None if that is compared.

    Each month may be a little worse than the one before by the margin; this keeps the steps from adding up.
    """
    margins = Margins()
    z, actual = compared_rows(rows.projected, rows.true, seed=seed)

    def cosines(decoder: Decoder) -> NDArray[np.float32]:
        decoded = DecodedRows.by(decoder, z).rows
        return decoded @ decoded.T

    def error(found: NDArray[np.float32]) -> float:  # diagonals are 1, nearly, in all
        return float(np.square(found - actual).sum(dtype=np.float64))

    least, best, of_best = error(cosines(compared)), "", None
    for version in others:
        artifact = _loaded(registry, version)
        if artifact is None or not _held_out(artifact) or artifact.decoder.input_dims_ != z.shape[1]:
            continue
        predicted = cosines(artifact.decoder)
        if error(predicted) < least:
            least, best, of_best = error(predicted), version, predicted
    if of_best is None:
        return None
    found, _ = paired_r2(of_best, cosines(new), actual, {}, seed=seed)
    margin = margins.r2_on(found.rows)
    return GateCheck(
        BEST,
        found.lower(margins.level) > -margin,
        found.old,
        found.new,
        f"not worse than {best} by {margin:.3f}, with {margins.level:.0%} confidence",
        interval_of(found),
        found.rows,
    )
