"""What a newly published version replaces, and whether it does worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

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
        Its decoder's name; None where it cannot be read.
    r2
        Of its cosines between its test rows; None where nobody measured it, or where it cannot be read.
    fingerprint
        Of its training data; None where it is not known.
    """

    version: str
    decoder: str | None
    r2: float | None
    fingerprint: str | None

    @classmethod
    def latest(cls, registry: Registry) -> Self | None:
        """The version that LATEST names now; None where there is none."""
        try:
            version = registry.latest_version()
        except ArtifactError:
            return None
        try:
            manifest = registry.latest().manifest
        except ArtifactError:  # of another format, or damaged: replaced all the same
            return cls(version, None, None, None)
        r2 = _of(manifest, "metrics", "test_test", "r2")
        return cls(
            version,
            decoder=_of(manifest, "decoder", "name"),
            r2=float(r2) if isinstance(r2, int | float) else None,
            fingerprint=_of(manifest, "data", "fingerprint"),
        )

    def __str__(self) -> str:
        measured = None if self.r2 is None else f"R2 {self.r2:.3f}"
        known = ", ".join(part for part in (self.decoder, measured) if part)
        return f"{self.version} ({known or 'cannot be read'})"

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
            "It is published all the same; to go back: embup models rollback."
        )


def _of(manifest: object, *path: str) -> Any:
    """What stands at a path of keys; None where the path ends before."""
    for key in path:
        manifest = manifest.get(key) if isinstance(manifest, dict) else None
    return manifest
