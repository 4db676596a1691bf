"""A decoder is one file and one line: the page's example is put there, and the pipeline runs with it."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from pydantic import ValidationError

from embup_core.artifacts.registry import Registry
from embup_core.decoders import DECODERS
from pipelines.definitions import build_defs
from pipelines.defs.assets.decoder_config import decoder_config
from pipelines.defs.jobs import TRAIN_AND_PUBLISH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipelines.settings import PipelineSettings

    Run = Callable[..., dg.ExecuteInProcessResult]

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "adding-a-decoder.md"
BLOCKS = re.compile(r"^```(?:python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Any]]:
    """The page's module, imported and registered as an entry point would."""
    file, _ = BLOCKS.findall(PAGE.read_text())
    (tmp_path / "cell_means.py").write_text(file)
    monkeypatch.syspath_prepend(str(tmp_path))
    decoder = importlib.import_module("cell_means").CellMeans
    monkeypatch.setitem(DECODERS, decoder.name, decoder)
    yield decoder
    del sys.modules["cell_means"]


def test_it_is_fitted_scored_published_and_loaded(
    added: type[Any], run: Run, settings: PipelineSettings
) -> None:
    result = run(decoder=added.name, config={"fitted_decoders": {added.name: {"cells": 100}}})
    assert result.success
    published = Registry(settings.registry).load_artifact()
    assert published.manifest["decoder"]["name"] == added.name
    assert published.decoder.settings() == added(cells=100).settings()
    assert published.decoder.arrays()["means"].shape == (100, 64)
    scores = json.loads((published.folder / "evaluation.json").read_text())["validation"]
    assert scores[added.name]["test_test"]["r2"] > scores["linear_residual"]["test_test"]["r2"] > 0
    assert (published.folder / "plots" / f"cosines_{added.name}.png").is_file()


def test_the_launchpad_knows_it(added: type[Any], settings: PipelineSettings) -> None:
    defs = build_defs(settings)
    node = defs.resolve_asset_graph().get(dg.AssetKey(f"decoder_{added.name}"))
    assert node.kinds == {"scikitlearn"}
    assert added.summary in str(node.description)
    job = defs.resolve_job_def(TRAIN_AND_PUBLISH)

    def launchpad(settings: dict[str, int]) -> dict[str, Any]:
        return {"ops": {"fitted_decoders": {"config": {added.name: settings}}}}

    assert dg.validate_run_config(job, launchpad({"cells": 10, "seed": 1}))
    with pytest.raises(dg.DagsterInvalidConfigError, match="cell"):
        dg.validate_run_config(job, launchpad({"cell": 10}))
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        decoder_config(added)(cells=0)
