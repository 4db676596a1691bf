"""The graph as a whole: a changed asset is a change of the snapshot, to be read and accepted."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import dagster as dg
import pytest
from pydantic import ValidationError

from embup_core.decoders import DECODERS, Decoder
from embup_core.decoders.baselines.linear_residual import LinearResidual
from embup_core.geometry.coordinates import recover_coordinates
from embup_core.training.split import split_rows
from embup_core.training.step_progress import decoder_step
from embup_core.training.train import train
from pipelines.definitions import build_defs, defs
from pipelines.defs.assets import geometry
from pipelines.defs.assets.decoder_config import decoder_config
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
    # Of the decoders, which are as many as there are, one; the others differ from it in the kinds.
    candidates = {decoder_step(name): specs.pop(decoder_step(name)) for name in DECODERS}
    for name, decoder in DECODERS.items():
        kinds = {"kinds": sorted(decoder.fitted_with)}
        assert candidates[decoder_step(name)] == candidates["decoder_linear"] | kinds
    named = set(specs["fitted_decoders"]["deps"])
    assert named >= set(candidates)
    specs["fitted_decoders"]["deps"] = sorted(named - set(candidates))
    assert specs | {"decoder_linear": candidates["decoder_linear"]} == snapshot


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


def test_the_jobs_take_every_asset_and_every_check() -> None:
    assembled = build_defs(PipelineSettings())
    graph = assembled.resolve_asset_graph()
    layer = assembled.resolve_job_def("train_and_publish").asset_layer
    debugger = assembled.resolve_job_def("debug_training_data").asset_layer.selected_asset_keys
    assert debugger == {node.key for node in graph.asset_nodes if node.group_name == "debugger"}
    assert set(layer.selected_asset_keys) | debugger == {node.key for node in graph.asset_nodes}
    assert not set(layer.selected_asset_keys) & debugger
    assert len(layer.selected_asset_keys) == 9 + len(DECODERS)


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


OF_A_RESOURCE = {"output_dims"}
"""Set for the whole run, in the launchpad's resources: it is asked of more than one step."""


@pytest.mark.parametrize(
    ("config", "learns"),
    [
        *((decoder_config(decoder), decoder) for decoder in DECODERS.values()),
        (geometry.CoordinatesConfig, recover_coordinates),
        (geometry.RowSplitConfig, split_rows),
    ],
)
def test_the_launchpad_starts_from_the_defaults_of_the_core(
    config: type[dg.Config], learns: Callable[..., object]
) -> None:
    takes = dict(inspect.signature(learns).parameters)
    if config is geometry.CoordinatesConfig:
        takes["basis"] = inspect.signature(train).parameters["basis"]
    if config is geometry.RowSplitConfig:
        takes["max_training_rows"] = inspect.signature(train).parameters["max_training_rows"]
    defaults = {name: takes[name].default for name in config.model_fields}
    assert config().model_dump() == defaults
    assert set(config.model_fields) == {
        name
        for name, parameter in takes.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in OF_A_RESOURCE
    }
    assert all(field.description for field in config.model_fields.values())


def test_bounds_and_meanings_of_settings_reach_the_launchpad() -> None:
    config = decoder_config(LinearResidual)
    assert config(alpha=0, mean_dims=128).model_dump()["mean_dims"] == 128
    for refused in ({"alpha": -1}, {"mean_dims": 63}, {"seed": "x"}):
        with pytest.raises(ValidationError, match=next(iter(refused))):
            config(**refused)
    described = config.model_fields["complement_length_scale"].description
    assert described == "Distance, in standard units of z, over which two complements stay alike."


class Undescribed(LinearResidual):
    """Has a setting that nobody knows the meaning of.

    Parameters
    ----------
    alpha
        Ridge penalty.
    """

    def __init__(self, *, alpha: float = 1.0, secret: float = 1.0) -> None:
        super().__init__(alpha=alpha)
        self.secret = secret


class Untyped(LinearResidual):
    """Has a setting without a type.

    Parameters
    ----------
    alpha
        Ridge penalty.
    """

    def __init__(self, *, alpha=1.0) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        super().__init__(alpha=alpha)


@pytest.mark.parametrize(("decoder", "setting"), [(Undescribed, "secret"), (Untyped, "alpha")])
def test_a_setting_that_says_too_little_is_refused(decoder: type[Decoder], setting: str) -> None:
    with pytest.raises(TypeError, match=f"{decoder.__name__}: the setting '{setting}' needs a type"):
        decoder_config(decoder)


def test_the_launchpad_can_set_the_source_the_choice_and_the_service_alone() -> None:
    job = build_defs(PipelineSettings()).resolve_job_def("train_and_publish")
    for resource, config in (
        ("source", {"spec": "/data/march"}),
        ("candidates", {"decoder": "mlp"}),
        ("service", {"url": "http://127.0.0.1:8001"}),
        ("registry", {"root": "/srv/registry"}),
    ):
        assert dg.validate_run_config(job, {"resources": {resource: {"config": config}}})
