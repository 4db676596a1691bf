"""Rows that no version is trained on, ever: what the version in service and a new decoder are compared on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from embup_core.errors import ArtifactError
from embup_core.training.promotion.gate import compare_on_held_out

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry
    from embup_core.decoders import Decoder
    from embup_core.evaluation.cosines import Cosines
    from embup_core.training.promotion.decision import PreviousVersion
    from embup_core.training.promotion.result import GateResult


@dataclass(frozen=True)
class HeldOutRows:
    """Held-out rows of all deliveries.

    Attributes
    ----------
    projected
        z: float32, shape (n, d), unit rows.
    true
        True cosines between them: of shape (n, n), or coordinates, float32, shape (n, r), unit rows.
    slices
        Labels of the rows, shape (n,), by what they say: drop, group, cluster.
    """

    projected: NDArray[np.float32]
    true: Cosines | NDArray[np.float32]
    slices: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def compare(
        self, registry: Registry, previous: PreviousVersion | None, new: Decoder, *, seed: int = 0
    ) -> GateResult | None:
        """Compare a new decoder with the previous version; None where that is not there or cannot be used."""
        if previous is None or not previous.is_readable:
            return None
        try:
            old = registry.load_artifact(previous.version).decoder
            return compare_on_held_out(
                old, new, self.projected, self.true, self.slices, previous=previous.version, seed=seed
            )
        except (ArtifactError, ValueError):  # damaged, or of other dimensions
            return None
