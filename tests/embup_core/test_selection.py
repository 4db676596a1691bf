"""An evaluation goes through its file unchanged and says how it was made."""

from __future__ import annotations

import json

from embup_core.evaluation import PairScores, ProbeScores, Scores
from embup_core.row_split import SplitBy
from embup_core.selection import Evaluation

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


def test_the_protocol_says_what_was_split() -> None:
    assert BY_ROWS.to_json()["protocol"].startswith("Rows are split at random")
    assert BY_GROUPS.to_json()["protocol"].startswith("Whole groups of rows are split at random")
