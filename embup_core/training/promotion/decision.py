"""Whether a newly published version goes into service, and what it would replace there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from embup_core.artifacts.anchors import described_anchors
from embup_core.artifacts.training_rows import HELD_OUT_FIELD
from embup_core.errors import ArtifactError
from embup_core.evaluation import DecodedRows, pair_scores
from embup_core.training.split import TEST_ROWS_FIELD

if TYPE_CHECKING:
    from embup_core.artifacts.registry import Registry
    from embup_core.training.promotion.result import GateResult
    from embup_core.training.sample import Sample
    from embup_core.training.selection import Evaluation

R2_NOISE = 0.005
"""Fits of one recipe on the same rows differ by less than this in R2, from one seed to another."""


@dataclass(frozen=True)
class PreviousVersion:
    """The version in service before a training.

    Attributes
    ----------
    version
        Its name.
    decoder
        Its decoder's name; None where it cannot be read.
    source
        Name of its data source; None where it is not known.
    r2
        Of its cosines between test rows, as recorded when it was trained; None where it is not known.
    fingerprint
        Of its training data; None where it is not known.
    test_rows
        Hash of the row numbers that `r2` was measured on; None where it is not known.
    r2_on_new_rows
        Of its cosines between the test rows of the new training, where the two were trained on different
        data; None where that was not measured.
    has_anchors
        Whether its rows can be had in the originals' basis.
    held_out
        Whether it was trained without the rows that are held out for ever.
    """

    version: str
    decoder: str | None
    source: str | None = None
    r2: float | None = None
    fingerprint: str | None = None
    test_rows: str | None = None
    r2_on_new_rows: float | None = None
    has_anchors: bool = False
    held_out: bool = False

    @classmethod
    def in_service(cls, registry: Registry) -> Self | None:
        """The version that CURRENT names now; None where there is none."""
        try:
            version = registry.current_version()
        except ArtifactError:
            return None
        try:
            manifest = registry.current().manifest
        except ArtifactError:  # of another format, or damaged
            return cls(version, None)
        r2 = _at(manifest, "metrics", "test_test", "r2")
        return cls(
            version,
            decoder=_at(manifest, "decoder", "name"),
            source=_at(manifest, "data", "source"),
            r2=float(r2) if isinstance(r2, int | float) else None,
            fingerprint=_at(manifest, "data", "fingerprint"),
            test_rows=_at(manifest, "split", TEST_ROWS_FIELD),
            has_anchors=described_anchors(manifest) is not None,
            held_out=_at(manifest, "split", HELD_OUT_FIELD) is True,
        )

    @property
    def is_readable(self) -> bool:
        """Whether it is a version that this code can serve."""
        return self.decoder is not None

    def __str__(self) -> str:
        measured = None if self.r2 is None else f"R2 {self.r2:.3f}"
        known = ", ".join(part for part in (self.decoder, measured) if part)
        return f"{self.version} ({known or 'cannot be read'})"

    def measured_on(self, sample: Sample, registry: Registry) -> Self:
        """Itself with `r2_on_new_rows`: decode the test rows of other data and compare their cosines."""
        try:
            decoder = registry.load_artifact(self.version).decoder
            decoded = DecodedRows.by(decoder, sample.projected[sample.rows.test])
        except (ArtifactError, ValueError):  # damaged, or of other dimensions
            return self
        return replace(self, r2_on_new_rows=pair_scores(decoded.rows, sample.matrix, sample.rows.test).r2)


@dataclass(frozen=True)
class Promotion:
    """The decision about one new version.

    Attributes
    ----------
    promoted
        Whether it goes into service.
    objection
        Why it does not go into service unless asked for, in a sentence; None where nothing speaks against it.
    gate
        What the comparison on held-out rows found; None where there was none.
    damage
        What to know about a version in service that cannot be loaded, in a sentence; None where it can.
    """

    promoted: bool
    objection: str | None
    gate: GateResult | None = None
    damage: str | None = None

    @property
    def held_by_gate(self) -> bool:
        """Whether the gate speaks against it, be it promoted or not."""
        return self.gate is not None and not self.gate.passed

    def warning(self, version: str, registry: Registry) -> str | None:
        """What to tell the user, with the command that changes it; None where there is nothing to tell."""
        parts = [self.damage, self.objection]
        if self.objection is not None and self.promoted:
            parts.append("It is in service, as asked; to go back: embup models rollback")
        elif self.objection is not None:
            parts.append(
                f"{version} is published and not in service. To put it into service: "
                f"embup models promote {version} --registry {registry.address}"
            )
        return " ".join(part for part in parts if part) or None


def decide_promotion(
    evaluation: Evaluation,
    previous: PreviousVersion | None,
    *,
    source: str,
    fingerprint: str,
    test_rows: str,
    asked: bool | None = None,
    gate: GateResult | None = None,
) -> Promotion:
    """Decide whether a new version goes into service.

    Without being asked it does where nothing usable is in service. Where both were compared on held-out rows,
    the gate decides. Else it does where the version in service was trained on the same data and is not
    better; a version trained on other data then never replaces one unasked.

    Parameters
    ----------
    evaluation
        Of the new version.
    previous
        What is in service; None where there is nothing.
    source, fingerprint
        Name and fingerprint of the new version's training data.
    test_rows
        Hash of the row numbers that the evaluation reports on (`RowSplit.to_json`).
    asked
        True promotes it in any case, False never.
    gate
        From `compare_on_held_out`; None where there are no held-out rows.
    """
    if gate is not None:
        objection = None if gate.passed else _held(gate)
    else:
        objection = _objection(evaluation, previous, source, fingerprint, test_rows)
    return Promotion(
        objection is None if asked is None else asked, objection if asked is not False else None, gate
    )


def _held(gate: GateResult) -> str:
    compared = gate.previous or "the version in service"
    reasons = "; ".join(gate.reasons)
    return f"The promotion gate holds it, compared with {compared} on {gate.rows:,} held-out rows: {reasons}."


def _objection(
    evaluation: Evaluation,
    previous: PreviousVersion | None,
    source: str,
    fingerprint: str,
    test_rows: str,
) -> str | None:
    if previous is None or not previous.is_readable:
        return None
    scores = evaluation.test[evaluation.champion]
    found = scores.test_test.r2
    if fingerprint != previous.fingerprint:
        compared = (
            ""
            if previous.r2_on_new_rows is None
            else f" On the new test rows R2 is {found:.3f}, and {previous.r2_on_new_rows:.3f} of the version "
            "in service, which may have been trained on some of them."
        )
        return (
            f"The version in service, {previous.version}, was trained on other data "
            f"({previous.source or 'of unknown source'}) than this one ({source}).{compared}"
        )
    if previous.r2 is None:
        return None
    same_rows = test_rows == previous.test_rows
    low, high = scores.intervals.r2 if scores.intervals else (found, found)
    margin = R2_NOISE if same_rows else (high - low) / 2
    if previous.r2 - found <= margin:
        return None
    return (
        f"R2 on test rows is {found:.3f}, and that of the version in service, {previous.version}, is "
        f"{previous.r2:.3f} on {'the same' if same_rows else 'other'} rows."
    )


def _at(manifest: object, *path: str) -> Any:
    """The value at a path of keys; None where the path ends before."""
    for key in path:
        manifest = manifest.get(key) if isinstance(manifest, dict) else None
    return manifest
