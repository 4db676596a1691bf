"""The last steps of a training: fit the champion on all rows, publish it, and decide about promotion."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import embup_core
from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.gate import GATE_FIELD
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.recovered_map import RecoveredMap
from embup_core.artifacts.reference_statistics import ReferenceStatistics
from embup_core.decoders import DECODERS
from embup_core.errors import PromotionConflictError
from embup_core.geometry.landmark_source import recorded_recovery
from embup_core.training.anchors import fit_anchors
from embup_core.training.promotion import (
    HeldOutRows,
    PreviousVersion,
    Promotion,
    compare_with_earlier,
    decide_promotion,
)
from embup_core.training.split import TEST_ROWS_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embup_core.artifacts.registry import ArtifactInfo, Registry
    from embup_core.decoders import Decoder
    from embup_core.training.sample import Sample
    from embup_core.training.selection import Evaluation


@dataclass(frozen=True)
class Published:
    """A published version.

    Attributes
    ----------
    info
        The artifact.
    previous
        The version that was in service before; None where there was none.
    promotion
        Whether it is in service, and why not.
    warning
        What to tell the user about the promotion and lost anchors; None where there is nothing to tell.
    """

    info: ArtifactInfo
    previous: PreviousVersion | None
    promotion: Promotion
    warning: str | None


def refit(
    evaluation: Evaluation, sample: Sample, *, on_steps: Callable[[int, int], None] | None = None
) -> Decoder:
    """Fit the champion, with its settings, on all rows that take part.

    Parameters
    ----------
    evaluation
        Names the champion and its settings.
    sample
        All rows.
    on_steps
        Called by a fit of many steps with the steps done and the steps in all.

    Raises
    ------
    TrainingError
        The fit failed.
    """
    decoder = DECODERS[evaluation.champion](**evaluation.settings[evaluation.champion])
    if on_steps is not None:
        decoder.on_progress = on_steps
    projected, coordinates = sample.published_rows()
    return decoder.fit(projected, coordinates, output_dims=sample.output_dims, basis=sample.basis)


def publish_champion(
    registry: Registry,
    decoder: Decoder,
    sample: Sample,
    evaluation: Evaluation,
    *,
    source: str,
    fingerprint: str,
    plots: Mapping[str, bytes],
    promote: bool | None = None,
) -> Published:
    """Publish the refitted champion, and put it into service if that is right or asked for.

    Parameters
    ----------
    registry
        Where to.
    decoder
        From `refit`.
    sample, evaluation
        What it was fitted on, and how it was measured.
    source
        Name of the data source; of a folder only the last part is recorded.
    fingerprint
        Of the training data.
    plots
        File names and PNG bytes.
    promote
        None decides: the gate, where this version and the one in service were both trained without the rows
        that are held out for ever, else `decide_promotion`. Where the one in service cannot be loaded, the
        last one before it that can takes its place. True promotes in any case, False never.

    Raises
    ------
    ArtifactError
        The registry cannot be written, or what was written does not load. Another version that was put into
        service meanwhile is no error: this one is published all the same, and does not replace it.
    """
    source, split = source_name(source), sample.rows.to_json()
    previous = PreviousVersion.in_service(registry)
    gate = damage = None
    if sample.rows.held_out and previous is not None and (previous.held_out or not previous.is_readable):
        held_out = HeldOutRows.of_test_rows(sample, sample.slices)
        gate, damage = compare_with_earlier(held_out, registry, previous.version, decoder)
        if damage is not None:
            previous = replace(previous, decoder=None)
    elif previous is not None and previous.is_readable and previous.fingerprint != fingerprint:
        previous = previous.measured_on(sample, registry)
    promotion = decide_promotion(
        evaluation,
        previous,
        source=source,
        fingerprint=fingerprint,
        test_rows=split[TEST_ROWS_FIELD],
        asked=promote,
        gate=gate,
    )
    promotion = replace(promotion, damage=damage)
    projected = sample.projected[sample.rows.published_rows]
    recovered = None if sample.transform is None else RecoveredMap.from_fit(sample.transform)
    recovery = recorded_recovery(sample.matrix.path)
    anchors = fit_anchors(decoder, sample, evaluation)
    info = registry.publish(
        decoder,
        golden=golden_inputs(projected),
        provenance=Provenance(
            source=source,
            fingerprint=fingerprint,
            rows=len(sample.projected),
            split=split,
            metrics=evaluation.test[evaluation.champion].to_json(),
            evaluation=evaluation.to_json() | ({} if gate is None else {GATE_FIELD: gate.to_json()}),
            git_commit=git_commit(),
            reference_statistics=ReferenceStatistics.of(projected, evaluation.confidence),
            transform=recovered,
            basis=sample.basis,
            left_out=sample.left_out.tolist(),
            true_cosines=None if recovery is None else recovery.describe(),
        ),
        plots=plots,
        anchors=anchors,
        promote=False,
    )
    if promotion.promoted:
        # Without being asked, only what was compared is replaced.
        replaced = previous.version if previous is not None and promote is None else None
        try:
            registry.point_at(info.version, "publish", only_from=replaced)
        except PromotionConflictError as error:
            promotion = replace(promotion, promoted=False, objection=error.message)
        info = registry.info(info.version)
    warnings = [promotion.warning(info.version, registry)]
    if promotion.promoted and anchors is None and previous is not None and previous.has_anchors:
        warnings.append(
            f"{info.version} has no anchors, and {previous.version} had: rows in the basis `original` are no "
            "longer to be had. Give the anchors again: embup anchors, or with the training data."
        )
    return Published(info, previous, promotion, " ".join(text for text in warnings if text) or None)


def source_name(source: str) -> str:
    """A source's name without the path that leads to it on this machine."""
    return PurePath(source).name if PurePath(source).is_absolute() else source


def git_commit() -> str | None:
    """The commit of the code; None where it is installed rather than checked out, or without git."""
    checkout = Path(embup_core.__file__).parents[1]
    git = shutil.which("git")
    if git is None or not (checkout / ".git").exists():  # a commit around it would be another project's
        return None
    try:
        answer = subprocess.run(  # noqa: S603  git, with fixed arguments
            [git, "rev-parse", "HEAD"],
            cwd=checkout,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
