"""`embup train`: wrong data is named before anything is trained, and what is printed. The rest: tests/e2e."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.sources import SourceFiles


def test_a_source_that_is_not_there_is_bad_input(embup: Callable[..., Any], tmp_path: Path) -> None:
    result = embup(
        "train", "--source", tmp_path / "none", "--registry", tmp_path / "r", "--data", tmp_path / "d"
    )
    assert result.returncode == 2
    assert str(tmp_path / "none") in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "r").exists() or not any((tmp_path / "r").iterdir())


def test_data_that_is_not_what_it_should_be_is_named(embup: Callable[..., Any], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    rows = np.random.default_rng(0).standard_normal((100, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[41, 3] = np.nan
    np.save(source / "projected_train_embs.npy", rows)
    np.save(source / "og_train_cos_theta.npy", np.eye(100, dtype=np.float32))
    result = embup("train", "--source", source, "--registry", tmp_path / "r", "--data", tmp_path / "d")
    assert result.returncode == 2
    assert "projected_train_embs.npy" in result.stderr
    assert "41" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_decoder_is_answered_with_the_known_ones(
    embup: Callable[..., Any], tmp_path: Path
) -> None:
    result = embup("train", "--decoder", "oracle", "--registry", tmp_path / "r", "--data", tmp_path / "d")
    assert result.returncode == 2
    assert "oracle" in result.stderr
    assert "kriging" in result.stderr


@pytest.mark.slow
def test_it_says_how_long_recovery_and_fit_took(
    embup: Callable[..., Any], sample_source: SourceFiles, tmp_path: Path
) -> None:
    command = ["train", "--source", sample_source.projected.parent, "--decoder", "linear_residual"]
    command += ["--registry", tmp_path / "r", "--data", tmp_path / "d"]
    alone = {"EMBUP_SERVICE_URL": "http://127.0.0.1:9"}
    told = embup(*command, **alone).stdout
    assert re.search(
        r"^recovered  600 rows of coordinates in \d+\.\d s, linear_residual fitted in \d+\.\d s$",
        told,
        re.MULTILINE,
    ), told
    answer = json.loads(embup(*command, "--json", **alone).stdout)
    assert answer["rows"] == 600
    assert 0 < answer["recovery_s"] < 60


@pytest.mark.slow
def test_an_interrupted_training_ends_as_one_without_a_traceback(tmp_path: Path) -> None:
    embup = Path(sys.executable).with_name("embup")
    places = ["--registry", str(tmp_path / "r"), "--data", str(tmp_path / "d")]
    with subprocess.Popen(
        [str(embup), "train", "--source", "sample:600", "--decoder", "mlp", *places],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stderr is not None
        said = []
        for line in child.stderr:  # until the perceptron is being fitted, which takes seconds
            said.append(line)
            if "decoder_mlp" in line:
                break
        os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to all processes
        said += child.stderr.readlines()
        assert child.wait(30) == 130
    assert said[-1] == "interrupted\n"
    assert "Traceback" not in "".join(said)
    assert not (tmp_path / "r" / "LATEST").exists()


@pytest.mark.slow
def test_whole_groups_are_held_out_where_asked_for_and_else_said_to_be_ignored(
    embup: Callable[..., Any], sample_source: SourceFiles, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "projected_train_embs.npy").symlink_to(sample_source.projected)
    (source / "og_train_cos_theta.npy").symlink_to(sample_source.cosines)
    np.save(source / "groups.npy", np.arange(600) // 20)
    np.save(source / "labels.npy", np.zeros(600, int))
    command = ["train", "--registry", tmp_path / "r", "--data", tmp_path / "d", "--json"]
    # What the options do not say, the variables do.
    said = {
        "EMBUP_SOURCE": str(source),
        "EMBUP_DECODER": "linear_residual",
        "EMBUP_SERVICE_URL": "http://127.0.0.1:9",
    }
    by_rows = json.loads(embup(*command, **said).stdout)
    by_groups = json.loads(embup(*command, "--split", "groups", **said).stdout)
    assert by_rows["champion"] == by_groups["champion"] == "linear_residual"
    labels, groups = by_rows["warnings"]
    assert labels.startswith("labels.npy was not used: of the validation rows")
    assert "All 60 labels are 0" in labels
    assert groups.startswith("groups.npy was not used")
    assert not any("groups.npy" in one for one in by_groups["warnings"])
    cards = [(tmp_path / "r" / one["version"] / "MODEL_CARD.md").read_text() for one in (by_rows, by_groups)]
    assert "Whole groups of rows are split" not in cards[0]
    assert "Whole groups of rows are split" in cards[1]
