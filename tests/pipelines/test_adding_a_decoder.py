"""A decoder is one file and one line: the page's example is put there, and the pipeline runs with it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from pydantic import ValidationError

import embup_core.decoders
from embup_core.decoders import DECODERS, decoder_in
from embup_core.registry import Registry
from pipelines.definitions import build_defs
from pipelines.defs.assets.decoder_config import decoder_config
from pipelines.defs.jobs import TRAIN_AND_PUBLISH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipelines.settings import PipelineSettings

    Run = Callable[..., dg.ExecuteInProcessResult]

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-decoder.md"
BLOCKS = re.compile(r"^```(?:python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Any]]:
    """The page's file in the folder of decoders, and its line in `DECODERS`."""
    file, line = BLOCKS.findall(PAGE.read_text())
    name = line.strip().rstrip(",").strip('"')
    (tmp_path / f"{name}.py").write_text(file)
    monkeypatch.setattr(embup_core.decoders, "__path__", [*embup_core.decoders.__path__, str(tmp_path)])
    monkeypatch.setitem(DECODERS, name, decoder_in(name))
    yield DECODERS[name]
    del sys.modules[f"embup_core.decoders.{name}"]
    delattr(embup_core.decoders, name)


def test_it_is_fitted_scored_published_and_loaded(
    added: type[Any], run: Run, settings: PipelineSettings
) -> None:
    result = run(decoder=added.name, config={f"decoder_{added.name}": {"cells": 100}})
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
    asset = f"decoder_{added.name}"
    node = defs.resolve_asset_graph().get(dg.AssetKey(asset))
    assert node.kinds == {"scikitlearn"}
    assert added.summary in str(node.description)
    job = defs.resolve_job_def(TRAIN_AND_PUBLISH)
    assert dg.validate_run_config(job, {"ops": {asset: {"config": {"cells": 10, "seed": 1}}}})
    with pytest.raises(dg.DagsterInvalidConfigError, match="cell"):
        dg.validate_run_config(job, {"ops": {asset: {"config": {"cell": 10}}}})
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        decoder_config(added)(cells=0)
