"""The graph as a whole: a changed asset is a change of the snapshot, to be read and accepted."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from embup_core.coordinates import recover_coordinates
from embup_core.decoders import DECODERS
from embup_core.row_split import split_rows
from pipelines.definitions import build_defs, defs
from pipelines.defs.assets import candidates, geometry
from pipelines.settings import PipelineSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from syrupy.assertion import SnapshotAssertion


def test_every_asset_is_as_agreed(snapshot: SnapshotAssertion) -> None:
    graph = build_defs(PipelineSettings()).resolve_asset_graph()
    specs = {
        node.key.to_user_string(): {
            "deps": sorted(key.to_user_string() for key in node.parent_keys),
            "group": node.group_name,
            "owners": sorted(node.owners),
            "kinds": sorted(node.kinds),
        }
        for node in graph.asset_nodes
    }
    assert specs == snapshot


def test_every_check_blocks(snapshot: SnapshotAssertion) -> None:
    graph = build_defs(PipelineSettings()).resolve_asset_graph()
    checks = {
        key.to_user_string(): graph.get_check_spec(key).blocking for key in sorted(graph.asset_check_keys)
    }
    assert all(checks.values())
    assert list(checks) == snapshot


def test_every_asset_says_what_it_is() -> None:
    graph = build_defs(PipelineSettings()).resolve_asset_graph()
    assert [node.key for node in graph.asset_nodes if not node.description] == []


def test_the_job_takes_every_asset_and_every_check() -> None:
    assembled = build_defs(PipelineSettings())
    graph = assembled.resolve_asset_graph()
    layer = assembled.resolve_job_def("train_and_publish").asset_layer
    assert set(layer.selected_asset_keys) == {node.key for node in graph.asset_nodes}
    assert len(layer.selected_asset_keys) == 11


def test_what_dagster_loads_is_what_the_assembler_makes() -> None:
    loaded = defs()
    assert isinstance(loaded, dg.Definitions)
    dg.Definitions.validate_loadable(loaded)


def test_a_resource_can_be_replaced() -> None:
    from pipelines.defs.resources import UpsamplerService

    service = UpsamplerService(url="http://example.invalid")
    assert build_defs(PipelineSettings(), {"service": service}).resources == {
        **(build_defs(PipelineSettings()).resources or {}),
        "service": service,
    }


@pytest.mark.parametrize(
    ("config", "learns"),
    [
        (candidates.LinearConfig, DECODERS["linear"]),
        (candidates.LinearResidualConfig, DECODERS["linear_residual"]),
        (candidates.KrigingConfig, DECODERS["kriging"]),
        (candidates.MlpConfig, DECODERS["mlp"]),
        (geometry.CoordinatesConfig, recover_coordinates),
        (geometry.RowSplitConfig, split_rows),
    ],
)
def test_the_launchpad_starts_from_the_defaults_of_the_core(
    config: type[dg.Config], learns: Callable[..., object]
) -> None:
    takes = inspect.signature(learns).parameters
    defaults = {name: takes[name].default for name in config.model_fields}
    assert config().model_dump() == defaults
    left_out = {
        name for name, parameter in takes.items() if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    } - set(config.model_fields)
    assert left_out <= {"on_epoch"}
    assert all(field.description for field in config.model_fields.values())


def test_the_launchpad_can_set_the_source_the_choice_and_the_service_alone() -> None:
    job = build_defs(PipelineSettings()).resolve_job_def("train_and_publish")
    for resource, config in (
        ("source", {"spec": "/data/march"}),
        ("candidates", {"decoder": "mlp"}),
        ("service", {"url": "http://127.0.0.1:8001"}),
        ("registry", {"root": "/srv/registry"}),
    ):
        assert dg.validate_run_config(job, {"resources": {resource: {"config": config}}})
