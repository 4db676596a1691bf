"""One ephemeral Dagster instance a test, settings that touch nothing outside the test's folder, fast fits."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from pipelines.definitions import build_defs
from pipelines.defs.assets.handles import CoordinatesHandle, InputFiles, MatrixHandle
from pipelines.settings import PipelineSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embup_core.sources import SourceFiles

FAST: dict[str, Any] = {
    "ops": {
        "fitted_decoders": {
            "config": {
                "mlp": {"epochs": 1},
                "mlp_coordinates": {"epochs": 1},
                "metric_kriging": {"steps": 2},
                "neural_kriging": {"epochs": 2},
            }
        },
        "evaluation": {"config": {"plotted_pairs": 500, "learning_curve_shares": []}},
    },
    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
}
_LOG = logging.getLogger(__name__)
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of the machine must not change what is tested, nor a proxy stand before 127.0.0.1."""
    for name in PipelineSettings.model_fields:
        monkeypatch.delenv(f"EMBUP_{name.upper()}", raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


@pytest.fixture
def dagster_instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral(tempdir=str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.fixture
def settings(tmp_path: Path, sample_source: SourceFiles) -> PipelineSettings:
    return PipelineSettings(
        source=str(sample_source.projected.parent),
        registry=tmp_path / "registry",
        data=tmp_path / "data",
        service_url=NOWHERE,
    )


@pytest.fixture
def run(
    dagster_instance: dg.DagsterInstance, settings: PipelineSettings
) -> Callable[..., dg.ExecuteInProcessResult]:
    """Materialize the graph: ``run(*assets, config={asset: settings}, **settings)``; by default all of it."""

    def materialize(
        *assets: str, config: dict[str, dict[str, Any]] | None = None, **changes: Any
    ) -> dg.ExecuteInProcessResult:
        defs = build_defs(settings.model_copy(update=changes))
        # One decoder's asset is made with all others, as in Dagster's UI.
        some = dg.AssetSelection.assets(*assets).required_multi_asset_neighbors()
        selection: dg.AssetSelection = (
            some if assets else dg.AssetSelection.all() - dg.AssetSelection.groups("debugger")
        )
        job = dg.define_asset_job("test", selection=selection)
        resolved = dg.Definitions.merge(defs, dg.Definitions(jobs=[job])).resolve_job_def("test")
        selected = {node.name for node in resolved.nodes}
        ops = {name: value for name, value in FAST["ops"].items() if name in selected}
        for name, value in (config or {}).items():
            ops[name] = {"config": ops.get(name, {}).get("config", {}) | value}
        result = resolved.execute_in_process(
            instance=dagster_instance, run_config={**FAST, "ops": ops}, raise_on_error=False
        )
        for event in result.all_events:  # pytest shows them where a test fails
            if event.is_failure:
                _LOG.error("%s %s %s", event.step_key, event.message, event.event_specific_data)
        return result

    return materialize


@pytest.fixture(scope="session")
def inputs(sample_source: SourceFiles) -> InputFiles:
    return InputFiles.now(sample_source)


@pytest.fixture(scope="session")
def matrix_handle(inputs: InputFiles) -> MatrixHandle:
    return MatrixHandle(files=inputs, rows=600, fingerprint="f" * 64, cosine_deviation=0.037)


@pytest.fixture
def stage(tmp_path: Path) -> Callable[[Any], CoordinatesHandle]:
    """Put coordinates where the asset would have put them."""
    import numpy as np

    def save(array: Any) -> CoordinatesHandle:
        np.save(tmp_path / "staged.npy", array)
        path = str(tmp_path / "staged.npy")
        return CoordinatesHandle(
            path=path, version="1", made_from={}, output_dims=1536, basis_path="", basis_note=""
        )

    return save
