"""The data debugger's assets: the training data becomes a data set, and an analysis a version of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dagster import TableMetadataValue

from debugger.reading import open_dataset
from debugger.reviews import Review, add_reviews
from debugger.store.names import list_datasets

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg

    from pipelines.settings import PipelineSettings

ASSETS = ("projected_embeddings", "cosine_matrix", "debug_rows", "debug_scores", "debug_findings")
CONFIG = {"debug_analysis": {"decoder": "kriging"}}


def test_training_data_is_imported_once_and_analysed_each_time(
    run: Callable[..., dg.ExecuteInProcessResult], settings: PipelineSettings
) -> None:
    first = run(*ASSETS, config=CONFIG)
    assert first.success
    (name,) = list_datasets(settings.data)
    found = first.asset_materializations_for_node("debug_analysis")
    scores, findings = sorted(found, key=lambda one: str(one.asset_key), reverse=True)
    with open_dataset(settings.data, name) as opened:
        rows = opened.count("rows")
        assert scores.metadata["rows"].value == rows > 0
        assert scores.metadata["analysis"].value == 1
        first_findings = findings.metadata["first"]
        assert isinstance(first_findings, TableMetadataValue)
        assert len(first_findings.records) == min(20, opened.count("findings")) > 0
        review = Review(row=3, action="drop", reviewer="somebody")
        add_reviews(opened.folder, [review], rows=rows)
    second = run(*ASSETS, config=CONFIG)
    (again,) = second.asset_materializations_for_node("debug_rows")
    assert second.success
    assert again.metadata["imported_now"].value is False
    with open_dataset(settings.data, name) as opened:
        assert opened.folder.versions() == [1, 2]
    latest = second.asset_materializations_for_node("debug_analysis")
    assert {one.metadata["reviews"].value for one in latest if "reviews" in one.metadata} == {1}
