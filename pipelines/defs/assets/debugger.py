"""The training data in the data debugger: imported once, and analysed where somebody asks for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from debugger.importing.source import import_source
from debugger.queries import list_findings
from debugger.reading import open_dataset
from debugger.runs import run
from debugger.store.names import DEFAULT_DECODER, list_datasets
from pipelines.defs.assets.handles import OWNERS, Handle, MatrixHandle
from pipelines.defs.resources import DataFolder, Originals
from pipelines.progress_lines import now_and_then

GROUP = "debugger"
SHOWN_FINDINGS = 20


class DebugConfig(dg.Config):
    """How the training data is judged."""

    decoder: str = Field(
        DEFAULT_DECODER, description="Decoder that judges rows which it has not seen; none for no judgement."
    )
    seed: int = Field(0, description="Of what is drawn at random.")


class DatasetHandle(Handle):
    """A data set of the data debugger."""

    name: str
    rows: int


@dg.asset(group_name=GROUP, owners=OWNERS, kinds={"duckdb"})
def debug_rows(
    context: dg.AssetExecutionContext, cosine_matrix: MatrixHandle, data_folder: DataFolder
) -> dg.MaterializeResult[DatasetHandle]:
    """The training data as a data set of the data debugger, named by its fingerprint.

    Imported once; later materializations find it and leave it, with its reviews, as it is.
    """
    name = f"training-{cosine_matrix.fingerprint[:12]}"
    root = Path(data_folder.root)
    new = name not in list_datasets(root)
    if new:
        source = cosine_matrix.files.source
        import_source(source, root, name, progress=now_and_then(context.log.info))
    with open_dataset(root, name) as opened:
        rows, labelled = opened.count("rows"), opened.count("labels")
    return dg.MaterializeResult(
        value=DatasetHandle(name=name, rows=rows),
        metadata={
            "data_set": name,
            "rows": rows,
            "labelled": labelled,
            "imported_now": new,
            "source": cosine_matrix.files.source,
        },
        data_version=dg.DataVersion(cosine_matrix.fingerprint),
    )


@dg.multi_asset(
    group_name=GROUP,
    specs=[
        dg.AssetSpec(
            "debug_scores",
            deps=["debug_rows"],
            owners=OWNERS,
            kinds={"duckdb"},
            description="What each row of the training data scores: error, distance, neighbours kept.",
        ),
        dg.AssetSpec(
            "debug_findings",
            deps=["debug_rows"],
            owners=OWNERS,
            kinds={"duckdb"},
            description="Rows and slices of the training data that a person should look at, ranked.",
        ),
    ],
    ins={"debug_rows": dg.AssetIn("debug_rows")},
)
def debug_analysis(
    context: dg.AssetExecutionContext,
    config: DebugConfig,
    debug_rows: DatasetHandle,
    data_folder: DataFolder,
    originals: Originals,
) -> Iterator[dg.MaterializeResult[None]]:
    """One analysis of the training data, a new version beside the earlier ones. It heeds all reviews."""
    root = Path(data_folder.root)
    report = run(
        root,
        debug_rows.name,
        seed=config.seed,
        decoder=config.decoder,
        output_dims=originals.output_dims,
        progress=now_and_then(context.log.info),
    )
    facts: dict[str, Any] = {"data_set": report.name, "analysis": report.version, "seconds": report.took_s}
    with open_dataset(root, report.name, version=report.version) as opened:
        scores = opened.query("SELECT kind, count(*) AS n FROM scores GROUP BY kind ORDER BY kind")
        findings = list_findings(opened, limit=SHOWN_FINDINGS)
    version = dg.DataVersion(f"{report.name}-{report.version}")
    yield dg.MaterializeResult(
        asset_key="debug_scores",
        metadata={**facts, "rows": report.rows, **{one["kind"]: one["n"] for one in scores}},
        data_version=version,
    )
    yield dg.MaterializeResult(
        asset_key="debug_findings",
        metadata={
            **facts,
            "reviews": report.reviews,
            **report.findings,
            "first": _table(findings),
            "look": f"embup debug findings {report.name} --data {root}; or the page /console/debug",
        },
        data_version=version,
    )


def _table(findings: list[dict[str, Any]]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [
            dg.TableRecord({"kind": one["kind"], "severity": one["severity"], "finding": one["title"]})
            for one in findings
        ],
        dg.TableSchema([dg.TableColumn(name) for name in ("kind", "severity", "finding")]),
    )
