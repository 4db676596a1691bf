"""The training job in this process, for the command line and for programs: no web server, no daemon.

The run is recorded below the data folder, so Dagster's UI on the same folder shows it beside its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dagster as dg
from pydantic import ValidationError

from embup_core.artifacts.remote import open_registry
from embup_core.errors import EmbupError, InvalidArtifactError, InvalidDataError, TrainingError
from embup_core.settings_table import refused_setting
from embup_core.training.anchors import anchor_warnings
from embup_core.training.basis import BasisChoice
from embup_core.training.promotion import PreviousVersion
from embup_core.training.result import TrainingResult, evaluation_warnings
from embup_core.training.selection import wanted_candidates
from embup_core.training.split import MAX_TRAINING_ROWS, SplitBy
from pipelines.definitions import build_defs
from pipelines.defs.assets.evaluation import open_evaluation
from pipelines.defs.assets.transform import open_left_out
from pipelines.defs.jobs import TRAIN_AND_PUBLISH
from pipelines.instance import prepare_dagster_home
from pipelines.run_progress import ProgressReport
from pipelines.settings import PipelineSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from embup_core.progress import Progress
    from pipelines.defs.assets.handles import MatrixHandle, PublishedDecoder

# Error of a failed check; a check that is not listed here is a failed training.
ERROR_OF_CHECK: dict[str, type[EmbupError]] = {
    "coordinates_reproduce_cosines": InvalidDataError,
    "rows_belong_together": InvalidDataError,
    "artifact_reproduces_golden_outputs": InvalidArtifactError,
}


def train_and_publish(
    source: str | None,
    registry: Path | str,
    data: Path,
    decoder: str | None = None,
    progress: Progress | None = None,
    *,
    split: SplitBy = SplitBy.rows,
    output_dims: int | None = None,
    leave_out_wrong_rows: bool = False,
    without: Sequence[int] = (),
    basis: str | None = None,
    promote: bool | None = None,
    max_training_rows: int = MAX_TRAINING_ROWS,
    service_url: str | None = None,
    settings: PipelineSettings | None = None,
) -> TrainingResult:
    """Run the job `train_and_publish` in this process.

    Parameters
    ----------
    source
        ``sample``, a folder, an address in an object store, or two URLs separated by a comma; None takes that
        of the settings, else the one that the data folder belongs to.
    registry
        Folder of published decoders, or an address in an object store.
    data
        Folder of downloads, intermediate results and Dagster's records.
    decoder
        ``auto``, ``ladder`` or a decoder's name; None takes that of the settings.
    progress
        Called as training proceeds.
    split
        What is held out: single rows or whole groups.
    output_dims
        Dimensions of the originals; None takes those of the settings.
    leave_out_wrong_rows
        Whether up to 5 % of rows that do not belong together are left out, instead of an error.
    without
        Rows that are left out in any case, 0-based.
    basis
        Version whose basis is kept, or ``new``; None takes that of the version in service where it can be.
    promote
        Whether the new version goes into service; None takes the settings', which by default decides by
        comparison with the version in service.
    max_training_rows
        Most rows that take part; of more, a random sample does.
    service_url
        The service that is asked to load the new decoder; None takes that of the settings.
    settings
        The other settings; by default the EMBUP_* variables.

    Raises
    ------
    InputError
        There is no such decoder, or a setting is refused.
    SourceError
        The data cannot be read or is not what it should be; nothing is published.
    TrainingError
        A fit failed, or the champion does not pass a gate; nothing is published.
    InvalidArtifactError
        What was published does not load.
    KeyboardInterrupt
        SIGINT or SIGTERM came; what was published before stays.
    """
    arguments = {
        "source": source,
        "registry": registry,
        "data": data,
        "decoder": decoder,
        "output_dims": output_dims,
        "promote": promote,
        "service_url": service_url,
    }
    settings = _with_arguments(
        settings, **{name: value for name, value in arguments.items() if value is not None}
    )
    wanted_candidates(settings.decoder)  # refused before anything is downloaded
    opened = open_registry(settings.registry, settings.cache_folder)
    BasisChoice.from_registry(opened, basis)  # likewise
    previous = PreviousVersion.in_service(opened)
    job = build_defs(settings).resolve_job_def(TRAIN_AND_PUBLISH)
    run_id = str(uuid4())
    with dg.DagsterInstance.from_config(str(prepare_dagster_home(settings.data))) as instance:
        report = ProgressReport(progress, settings.decoder)
        instance.add_event_listener(run_id, report)
        try:
            result = job.execute_in_process(
                instance=instance,
                run_id=run_id,
                run_config={
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                    "ops": {
                        "row_split": {
                            "config": {"split": split.value, "max_training_rows": max_training_rows}
                        },
                        "coordinates": {"config": {"basis": basis}},
                        "transform": {
                            "config": {"leave_out_wrong_rows": leave_out_wrong_rows, "without": list(without)}
                        },
                    },
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
                remedy=f"Dagster's records in {settings.data} hold the details, as run {run_id}.",
            ) from error
        recovery = _metadata_of(instance, "coordinates")
        sampling = _metadata_of(instance, "row_split")
    evaluation = open_evaluation(result.asset_value("evaluation"))
    matrix: MatrixHandle = result.asset_value("cosine_matrix")
    published: PublishedDecoder = result.asset_value("decoder_artifact")
    warnings = [
        *filter(None, [recovery.get("warning"), sampling.get("warning")]),
        *report.warnings,
        *evaluation_warnings(evaluation, has_groups=matrix.files.groups is not None),
        *anchor_warnings(evaluation, has_anchors=matrix.files.anchors is not None),
    ]
    return TrainingResult(
        version=published.version,
        model=opened.load(published.version),
        evaluation=evaluation,
        rows=recovery["rows"],
        left_out=tuple(open_left_out(result.asset_value("transform")).tolist()),
        recovery_s=recovery["recovery_s"],
        basis=recovery["basis"],
        published=True,
        promoted=published.promoted,
        previous=previous,
        warnings=(*warnings, *([published.warning] if published.warning else [])),
        service=report.service,
        run_id=run_id,
    )


def _with_arguments(settings: PipelineSettings | None, **arguments: str | int | Path) -> PipelineSettings:
    """The settings with some replaced; raises `InputError` for what an EMBUP_* variable cannot be."""
    given: dict[str, Any] = {} if settings is None else settings.model_dump()
    try:
        return PipelineSettings(**given | arguments)
    except ValidationError as error:
        raise refused_setting(error.errors(), listed_by="python -m pipelines.settings") from error


def _metadata_of(instance: dg.DagsterInstance, asset: str) -> dict[str, Any]:
    """Metadata of an asset's last materialization."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    materialization = event.asset_materialization if event else None
    return {name: value.value for name, value in materialization.metadata.items()} if materialization else {}


def _explain_failed_check(report: ProgressReport, run_id: str) -> None:
    """Raise the error of the first failed check, if one failed."""
    for check in report.failed_checks:
        kind = ERROR_OF_CHECK.get(check.check_name, TrainingError)
        metadata = {name: value.value for name, value in check.metadata.items()}
        failed = f"the check {check.check_name} of {check.asset_key.to_user_string()} failed"
        raise kind(
            str(metadata.get("problem", failed)),
            remedy=str(metadata.get("remedy", f"See run {run_id} in Dagster.")),
        )
