"""What a newly published version replaces, and whether it does worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from embup_core.errors import ArtifactError

if TYPE_CHECKING:
    from embup_core.evaluation import Scores
    from embup_core.registry import Registry


@dataclass(frozen=True)
class Replaced:
    """The version that was in service before.

    Attributes
    ----------
    version
        Its name.
    decoder
        Its decoder's name.
    r2
        Of its cosines between its test rows; None where nobody measured it.
    fingerprint
        Of its training data.
    """

    version: str
    decoder: str
    r2: float | None
    fingerprint: str | None

    @classmethod
    def latest(cls, registry: Registry) -> Self | None:
        """The version that LATEST names now; None where there is none, or none that can be read."""
        try:
            manifest = registry.info(registry.latest_version()).manifest
            r2 = manifest.get("metrics", {}).get("test_test", {}).get("r2")
            return cls(
                version=str(manifest["version"]),
                decoder=str(manifest["decoder"]["name"]),
                r2=None if r2 is None else float(r2),
                fingerprint=manifest.get("data", {}).get("fingerprint"),
            )
        except (ArtifactError, AttributeError, KeyError, TypeError, ValueError):
            return None  # a manifest that says nothing about itself compares with nothing

    def __str__(self) -> str:
        measured = "" if self.r2 is None else f", R2 {self.r2:.3f}"
        return f"{self.version} ({self.decoder}{measured})"

    def warning(self, successor: Scores, fingerprint: str) -> str | None:
        """Say that the successor does worse by more than half the width of its interval; None if it does not.

        Parameters
        ----------
        successor
            Scores of the new champion on test rows.
        fingerprint
            Of the data it was trained on.
        """
        low, high = successor.intervals.r2 if successor.intervals else (0.0, 0.0)
        half_width = (high - low) / 2
        if self.r2 is None or self.r2 - successor.test_test.r2 <= half_width:
            return None
        other_data = "" if fingerprint == self.fingerprint else " The two were trained on different data."
        return (
            f"R2 on test rows is {successor.test_test.r2:.3f} ± {half_width:.3f}, "
            f"and that of the version it replaces, {self.version}, was {self.r2:.3f}.{other_data} "
            "It is published all the same; to go back, write the old version into LATEST and reload."
        )
