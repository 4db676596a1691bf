"""The assets of a month: its drop with all checks, the training set up to it, and the decoder."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from embup_core.drops import Check, DropReport, check_drop, keep_verdict
from embup_core.drops.month import promotion_asked, train_on_drops, training_folder, unite_drops
from embup_core.drops.report import CHECKS, Status
from embup_core.errors import EmbupError, ObjectStoreError, RegistryUnavailableError
from pipelines.defs.assets.handles import OWNERS
from pipelines.defs.jobs import MONTHLY
from pipelines.defs.monthly.place import DropsPlace
from pipelines.defs.resources import (
    CandidateChoice,
    DataFolder,
    DecoderRegistry,
    Notifications,
    Originals,
    PromotionChoice,
)
from pipelines.notifications.drop_news import drop_messages, training_message
from pipelines.progress_lines import now_and_then

NETWORK_RETRIES = 3
RETRY_WAIT_S = 60.0


@contextmanager
def network_is_tried_again() -> Iterator[None]:
    """Ask for another try where the system fails; bad data fails at once, as it will be no better then."""
    try:
        yield
    except (ObjectStoreError, RegistryUnavailableError) as error:
        raise dg.RetryRequested(max_retries=NETWORK_RETRIES, seconds_to_wait=RETRY_WAIT_S) from error
    except EmbupError as error:
        raise dg.Failure(str(error), allow_retries=False) from error
    except OSError as error:
        raise dg.RetryRequested(max_retries=NETWORK_RETRIES, seconds_to_wait=RETRY_WAIT_S) from error


def monthly_assets(months: dg.MonthlyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The three assets, a partition a month each."""

    @dg.asset(
        group_name=MONTHLY,
        owners=OWNERS,
        kinds={"numpy"},
        partitions_def=months,
        check_specs=[
            dg.AssetCheckSpec(name, asset="drop", blocking=True, description=expected)
            for name, expected in CHECKS.items()
        ],
    )
    def drop(
        context: dg.AssetExecutionContext,
        drops: DropsPlace,
        originals: Originals,
        notifications: Notifications,
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult[None]]:
        """A delivery, checked against all accepted ones before it.

        A refused drop fails its checks, and the version in service stays.
        """
        month = context.partition_key
        with network_is_tried_again():
            place = drops.open()
            checked = check_drop(
                place,
                month,
                output_dims=originals.output_dims,
                progress=now_and_then(context.log.info),
            )
            keep_verdict(place, checked)
        report = checked.report
        tags = {"drop": month, "rows": str(report.rows), "verdict": str(report.verdict)}
        context.instance.add_run_tags(context.run.run_id, tags)
        for message in drop_messages(report, run_id=context.run.run_id):
            notifications.tell(message, context.log.info)
        yield dg.MaterializeResult(
            metadata=_described(report),
            data_version=dg.DataVersion(report.drop_sha256),
            check_results=[_result(one, accepted=report.accepted) for one in report.checks],
        )

    @dg.asset(group_name=MONTHLY, owners=OWNERS, kinds={"numpy"}, partitions_def=months, deps=[drop])
    def training_set(
        context: dg.AssetExecutionContext, drops: DropsPlace, data_folder: DataFolder
    ) -> dg.MaterializeResult[None]:
        """All accepted drops up to this month as one source, with the rows that are held out for ever."""
        with network_is_tried_again():
            made = unite_drops(drops.open(), data_folder.root, context.partition_key)
        return dg.MaterializeResult(
            metadata={
                "rows": made.rows,
                "held_out_rows": made.held_out_rows,
                "rows_by_drop": made.months,
                "basis": made.basis,
                "folder": dg.MetadataValue.path(str(made.folder)),
            }
        )

    @dg.asset(
        group_name=MONTHLY,
        owners=OWNERS,
        kinds={"numpy"},
        partitions_def=months,
        deps=[training_set],
    )
    def monthly_decoder(
        context: dg.AssetExecutionContext,
        drops: DropsPlace,
        originals: Originals,
        candidates: CandidateChoice,
        promotion: PromotionChoice,
        registry: DecoderRegistry,
        data_folder: DataFolder,
        notifications: Notifications,
    ) -> dg.MaterializeResult[None]:
        """The decoder trained on the training set and published; promoted where the gate lets it."""
        source = training_folder(data_folder.root, context.partition_key)
        with network_is_tried_again():
            trained = train_on_drops(
                source,
                registry.open(),
                work=data_folder.root,
                decoder=candidates.decoder,
                output_dims=originals.output_dims,
                promote=promotion_asked(drops.open(), context.partition_key, promotion.promote),
                progress=now_and_then(context.log.info),
            )
        decision = "promoted" if trained.promoted else "held"
        context.instance.add_run_tags(context.run.run_id, {"version": trained.version, "decision": decision})
        notifications.tell(training_message(trained, run_id=context.run.run_id), context.log.info)
        scores = trained.scores
        return dg.MaterializeResult(
            metadata={
                "version": trained.version,
                "decision": decision,
                "previous": trained.previous.version if trained.previous else "none",
                "reasons": " ".join(trained.warnings),
                "champion": trained.champion,
                "R2": scores.test_test.r2,
                "recall_at_10": scores.recall_at_10 or float("nan"),
                "basis": trained.basis,
                **({} if trained.gate is None else {"gate": dg.MetadataValue.md(trained.gate.to_markdown())}),
            },
            data_version=dg.DataVersion(trained.version),
        )

    return [drop, training_set, monthly_decoder]


def _described(report: DropReport) -> dict[str, dg.MetadataValue]:
    lines = "\n".join(f"| {one.name} | {one.status} | {one.found} |" for one in report.checks)
    return {
        "verdict": dg.MetadataValue.text(str(report.verdict)),
        "rows": dg.MetadataValue.int(report.rows),
        "accepted_rows": dg.MetadataValue.int(report.accepted_rows),
        "held_out_rows": dg.MetadataValue.int(report.held_out_rows),
        "quarantined": dg.MetadataValue.json(list(report.quarantined)),
        "duplicates": dg.MetadataValue.int(len(report.duplicates)),
        "basis": dg.MetadataValue.text(report.basis),
        "checks": dg.MetadataValue.md(f"| check | status | found |\n|---|---|---|\n{lines}"),
    }


def _result(check: Check, *, accepted: bool) -> dg.AssetCheckResult:
    """A check of a drop as Dagster's; one that was not run in an accepted drop had nothing to compare."""
    failed = check.status == Status.failed
    return dg.AssetCheckResult(
        asset_key="drop",
        check_name=check.name,
        passed=check.status == Status.passed or (check.status == Status.not_run and accepted),
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        description=check.found,
        metadata={
            "status": str(check.status),
            "expected": check.expected,
            "found": check.found,
            **({"problem": check.found, "remedy": check.remedy} if failed else {}),
            **({"offenders": dg.MetadataValue.json(list(check.offenders))} if check.offenders else {}),
            **{name: float(value) for name, value in check.figures.items()},
        },
    )
