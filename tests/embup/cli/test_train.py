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


def test_only_one_choice_of_decoders_is_taken(embup: Callable[..., Any], tmp_path: Path) -> None:
    places = ("--registry", tmp_path / "r", "--data", tmp_path / "d")
    assert embup("train", "--ladder", "--decoder", "kriging", *places).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_basis_of_no_version_is_refused_at_once(embup: Callable[..., Any], tmp_path: Path) -> None:
    places = ("--registry", tmp_path / "r", "--data", tmp_path / "d")
    result = embup("train", "--basis", "20260101-000000-00000000", *places)
    assert result.returncode == 2
    assert "20260101-000000-00000000" in result.stderr
    assert list(tmp_path.iterdir()) == []


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
        r"^recovered +600 rows of coordinates in \d+\.\d s, linear_residual fitted in \d+\.\d s$",
        told,
        re.MULTILINE,
    ), told
    answer = json.loads(embup(*command, "--json", "--no-promote", **alone).stdout)
    assert answer["rows"] == 600
    assert answer["promoted"] is False
    assert answer["version"] != answer["previous"] == (tmp_path / "r" / "CURRENT").read_text().strip()
    # The data folder remembers its source: the same rows again, without naming them.
    again = json.loads(embup(*command[:1], *command[3:], "--json", **alone).stdout)
    assert again["rows"] == 600
    assert again["promoted"] is True
    assert 0 < answer["recovery_s"] < 60


def test_wrong_rows_are_refused_and_the_remedies_named(
    embup: Callable[..., Any], affine_source: SourceFiles, tmp_path: Path
) -> None:
    z = np.load(affine_source.projected)
    z[[3, 500]] = z[[500, 3]]
    np.save(affine_source.projected, z)
    folder = affine_source.projected.parent
    command = ("train", "--source", folder, "--output-dims", 100, "--decoder", "linear_residual")
    places = ("--registry", tmp_path / "r", "--data", tmp_path / "d")
    result = embup(*command, *places)
    assert result.returncode == 2
    assert "3, 500 (2 rows)" in result.stderr
    assert f"embup check {folder} --repair" in result.stderr
    assert "--leave-out-wrong-rows" in result.stderr
    # With the option it gets as far as the gate, which these rows do not pass.
    result = embup(*command, *places, "--leave-out-wrong-rows")
    assert "3, 500 (2 rows)" not in result.stderr
    assert result.returncode != 2


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
    assert not (tmp_path / "r" / "CURRENT").exists()


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
    few_rows, labels, groups = by_rows["warnings"]
    assert "too few" in few_rows
    assert labels.startswith("labels.npy was not used: of the validation rows")
    assert "All 60 labels are 0" in labels
    assert groups.startswith("groups.npy was not used")
    assert not any("groups.npy" in one for one in by_groups["warnings"])
    cards = [(tmp_path / "r" / one["version"] / "MODEL_CARD.md").read_text() for one in (by_rows, by_groups)]
    assert "Whole groups of rows are split" not in cards[0]
    assert "Whole groups of rows are split" in cards[1]
