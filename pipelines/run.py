"""The training job in this process, for the command line and for programs: no web server, no daemon.

The run is recorded below the data folder, so Dagster's UI on the same folder shows it beside its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import dagster as dg
import stamina.instrumentation
from pydantic import ValidationError

from embup_core.errors import EmbupError, InvalidArtifactError, InvalidDataError, TrainingError
from embup_core.registry import Registry
from embup_core.replacement import Replaced
from embup_core.row_split import SplitBy
from embup_core.scores_table import scores_table
from embup_core.selection import wanted_candidates
from embup_core.settings_table import refused_setting
from embup_core.sources import GROUPS_FILE, LABELS_FILE
from pipelines.definitions import build_defs
from pipelines.defs.assets.evaluation import open_evaluation
from pipelines.defs.jobs import TRAIN_AND_PUBLISH
from pipelines.instance import prepare_dagster_home
from pipelines.run_progress import ProgressReport
from pipelines.settings import PipelineSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.selection import Evaluation
    from pipelines.defs.assets.handles import MatrixHandle

# What a failed check means to who called; a check not named here is a failed training.
ERROR_OF_CHECK: dict[str, type[EmbupError]] = {
    "coordinates_reproduce_cosines": InvalidDataError,
    "artifact_reproduces_golden_outputs": InvalidArtifactError,
}


class ProgressCallback(Protocol):
    """Called as training goes on: units of work done, units in all, and what is being done."""

    def __call__(self, done: float, total: float | None = None, note: str = "") -> None:
        """Take note."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training brought.

    Attributes
    ----------
    version
        Of the published artifact.
    evaluation
        Scores of all candidates and baselines.
    rows
        How many originals were recovered.
    recovery_s
        Seconds that took, in this run or in the one that made the coordinates.
    service
        What became of the running service, in a sentence.
    replaced
        The version that was the latest before; None where there was none.
    warnings
        What a reader of the table should know beside it, a sentence each.
    run_id
        Of the run in Dagster's records.
    """

    version: str
    evaluation: Evaluation
    rows: int
    recovery_s: float
    service: str
    replaced: Replaced | None
    warnings: tuple[str, ...]
    run_id: str

    @property
    def champion(self) -> str:
        """Name of the published decoder."""
        return self.evaluation.champion

    @property
    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column names and rows of text: scores on test rows of all candidates and baselines."""
        return scores_table(self.evaluation.reported, self.evaluation.decode_ms)


def train_and_publish(
    source: str,
    registry: Path,
    data: Path,
    decoder: str = "auto",
    progress: ProgressCallback | None = None,
    *,
    split: SplitBy = SplitBy.rows,
    settings: PipelineSettings | None = None,
) -> TrainingResult:
    """Run the job `train_and_publish` in this process.

    Parameters
    ----------
    source
        ``sample``, a folder, or two URLs separated by a comma.
    registry
        Folder of published decoders.
    data
        Folder of downloads, intermediate results and Dagster's records.
    decoder
        ``auto``, ``fast`` or the name of one.
    progress
        Called as training goes on.
    split
        What is held out: single rows or whole groups.
    settings
        The other settings; by default the EMBUP_* variables.

    Raises
    ------
    InputError
        `decoder` names none.
    SourceError
        The data cannot be had or is not what it should be; nothing is published.
    TrainingError
        A fit failed, or the champion is not good enough; nothing is published.
    InvalidArtifactError
        What was published does not load.
    KeyboardInterrupt
        SIGINT or SIGTERM came; what was published before stays.
    """
    wanted_candidates(decoder)  # refused before anything is downloaded
    settings = _with_arguments(settings, source=source, registry=registry, data=data, decoder=decoder)
    # The default would print on standard output, which belongs to who called.
    stamina.instrumentation.set_on_retry_hooks([stamina.instrumentation.LoggingOnRetryHook])
    replaced = Replaced.latest(Registry(settings.registry))
    job = build_defs(settings).resolve_job_def(TRAIN_AND_PUBLISH)
    run_id = str(uuid4())
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(settings.data))) as instance:
        report = ProgressReport(progress)
        instance.add_event_listener(run_id, report)
        try:
            result = job.execute_in_process(
                instance=instance,
                run_id=run_id,
                run_config={
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                    "ops": {"row_split": {"config": {"split": split.value}}},
                },
            )
        except EmbupError:
            raise
        except dg.DagsterExecutionInterruptedError as error:
            raise KeyboardInterrupt from error
        except Exception as error:
            _explain_failed_check(report, run_id)
            raise TrainingError(
                f"training stopped at {report.step or 'its start'}: {error}",
                remedy=f"The whole story is in Dagster's records of run {run_id} in {settings.data}.",
            ) from error
        recovery = _facts_about(instance, "coordinates")
    evaluation: Evaluation = open_evaluation(result.asset_value("evaluation"))
    return TrainingResult(
        version=result.asset_value("decoder_artifact").version,
        evaluation=evaluation,
        rows=recovery["rows"],
        recovery_s=recovery["recovery_s"],
        service=report.service,
        replaced=replaced,
        warnings=tuple(_warnings(evaluation, result.asset_value("cosine_matrix"), replaced)),
        run_id=run_id,
    )


def _warnings(evaluation: Evaluation, matrix: MatrixHandle, replaced: Replaced | None) -> Iterator[str]:
    for name, why in evaluation.not_fitted.items():
        yield f"{name} could not be fitted: {why}"
    if evaluation.probe_left_out:
        yield f"{LABELS_FILE} was not used: {evaluation.probe_left_out}"
    if matrix.files.groups is not None and evaluation.split != SplitBy.groups:
        yield (
            f"{GROUPS_FILE} was not used: rows of one group are on both sides of the split. "
            "--split groups holds out whole groups."
        )
    worse = replaced and replaced.warning(evaluation.test[evaluation.champion], matrix.fingerprint)
    if worse:
        yield worse


def _with_arguments(settings: PipelineSettings | None, **arguments: str | Path) -> PipelineSettings:
    """The settings with some replaced; raises `InputError` for what an EMBUP_* variable cannot be."""
    given: dict[str, Any] = {} if settings is None else settings.model_dump()
    try:
        return PipelineSettings(**given | arguments)
    except ValidationError as error:
        raise refused_setting(error.errors(), listed_by="python -m pipelines.settings") from error


def _facts_about(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    """What an asset said about itself when it was last materialized."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    told = event.asset_materialization if event else None
    return {name: value.value for name, value in told.metadata.items()} if told else {}


def _explain_failed_check(report: ProgressReport, run_id: str) -> None:
    """Raise what the last failed check said, if one failed."""
    for check in report.failed_checks:
        kind = ERROR_OF_CHECK.get(check.check_name, TrainingError)
        told = {name: value.value for name, value in check.metadata.items()}
        raise kind(
            str(
                told.get(
                    "problem", f"the check {check.check_name} of {check.asset_key.to_user_string()} failed"
                )
            ),
            remedy=str(told.get("remedy", f"See run {run_id} in Dagster.")),
        )
