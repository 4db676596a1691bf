"""An evaluation goes through its file unchanged and says how it was made."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from embup_core.decoders import DECODERS
from embup_core.errors import InputError
from embup_core.evaluation import PairScores, ProbeScores, Scores
from embup_core.training.selection import Evaluation, wanted_candidates
from embup_core.training.split import SplitBy

SCORES = Scores(PairScores(pairs=10, rmse=0.03, mae=0.02, bias=0.0, r2=0.5, spearman=0.5), None, 0.4, 1e-7)
BY_ROWS = Evaluation(
    choice="auto",
    settings={"kriging": {}},
    validation={"kriging": SCORES},
    test={"kriging": SCORES},
    baselines={},
)
BY_GROUPS = Evaluation(
    choice="auto",
    settings={"kriging": {}},
    validation={"kriging": SCORES},
    test={"kriging": SCORES},
    baselines={},
    split=SplitBy.groups,
    probe=ProbeScores({"kriging": 0.7, "originals": 0.9}, 0.2, 3, 100, 50),
)


def test_it_survives_its_file() -> None:
    for evaluation in (BY_ROWS, BY_GROUPS):
        assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation


def test_auto_fits_what_can_win_and_the_ladder_all_that_are_not_opt_in() -> None:
    assert wanted_candidates("auto") == {
        "linear_residual",
        "nearest_neighbours",
        "kriging",
        "mixture_kriging",
    }
    assert wanted_candidates("ladder") == set(DECODERS) - {"student"}
    assert wanted_candidates("mlp") == {"mlp", "linear_residual"}
    with pytest.raises(InputError):
        wanted_candidates("oracle")


def test_it_says_why_the_champion_is_the_champion() -> None:
    better = replace(SCORES, test_test=replace(SCORES.test_test, r2=0.6))
    both = {"kriging": SCORES, "mlp": better}
    chosen = replace(BY_ROWS, validation=both, test=both)
    assert chosen.champion == "mlp"
    assert chosen.chosen_because.endswith("(0.600), ahead of kriging (0.500)")
    assert replace(chosen, choice="kriging").chosen_because == "asked for by name"


def test_the_protocol_says_what_was_split() -> None:
    assert BY_ROWS.to_json()["protocol"].startswith("Rows are split at random")
    assert BY_GROUPS.to_json()["protocol"].startswith("Whole groups of rows are split at random")
