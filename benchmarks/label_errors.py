"""Wrong labels found, and labels saved: on rows whose labels are made wrong, or hidden, on purpose.

    python -m benchmarks.label_errors --data DIR [--seeds 0,1] [--shares 0.05,0.1] [--rows N]
                                      [--start 100] [--step 50] [--rounds 5] [--learning-seeds 0,1,2,3,4]
                                      [--reviewed 200] [--json FILE] [--plot FILE.png]

DIR holds `labels.npy` (integers or strings, one a row) and `features.npy` (floats, shape (n, d)) or
`texts.json` (an array of strings, which become TF-IDF features).

The first table plants errors: a share of the labels becomes another one, at random (symmetric) or the one
that its class is most confused with (pairwise). A figure is the average precision with which a ranking finds
them, over seeds and shares. Rows that a copy contradicts from the start are known to be wrong and take no
part; other labels that were wrong before count against every ranking. `self-confidence` is the default of
cleanlab 2 (1 - p of an out-of-fold classifier), `normalised margin` its other one. `label_error` is the
debugger's score, `label_error, alone` the same without a look at copies. Where cleanlab is installed, its own
ranking of the same probabilities stands beside them.

The second table corrects the first rows of a ranking, and says how often an out-of-fold classifier is right
then.

The third table starts with a few labels and asks for more, a step at a time; a figure is the accuracy on a
fifth of the rows that are never asked for. `area` is the mean over all steps.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from benchmarks.figures import run_on_one_core, say, table
from embup_core.debugging.features.duplicates import duplicate_sets
from embup_core.debugging.features.text_features import text_features
from embup_core.debugging.labels.classification import (
    geometric_mean,
    logistic_out_of_fold,
    neighbour_votes,
    out_of_fold,
    predict_from,
)
from embup_core.debugging.labels.coding import code_labels
from embup_core.debugging.labels.label_errors import heed_copies, score_labels
from embup_core.debugging.labels.suggestions import suggest_rows
from embup_core.sources import load_row_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    Indices = NDArray[np.int64]
    Scores: TypeAlias = dict[str, NDArray[np.floating]]

KINDS = ("symmetric", "pairwise")
STRATEGIES = ("random", "entropy", "margin", "suggested")
TEST_SHARE = 0.2


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows with labels.

    Attributes
    ----------
    vectors
        float32, shape (n, d).
    labels
        Strings, shape (n,).
    copies
        Number of each row's set of equal rows: int64, shape (n,).
    """

    vectors: Vectors
    labels: NDArray[np.str_]
    copies: Indices

    @cached_property
    def settled(self) -> NDArray[np.bool_]:
        """Rows that no copy contradicts: bool, shape (n,)."""
        met = np.unique(np.stack([self.copies, np.unique(self.labels, return_inverse=True)[1]]), axis=1)[0]
        names, counts = np.unique(met, return_counts=True)
        return ~np.isin(self.copies, names[counts > 1])

    @classmethod
    def load(cls, folder: Path, rows: int | None) -> Labelled:
        """Read a folder; some random rows of it where `rows` is given."""
        texts: list[str] | None = None
        if (folder / "texts.json").exists():
            texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
            vectors = text_features(texts or [])
        else:
            vectors = np.load(folder / "features.npy", allow_pickle=False).astype(np.float32)
        labels = load_row_labels(folder / "labels.npy", len(vectors), of="the features").astype(np.str_)
        copies = duplicate_sets(len(vectors), texts=texts, vectors=None if texts else vectors).copies
        taken = np.sort(np.random.default_rng(0).permutation(len(vectors))[:rows])
        return cls(vectors[taken], labels[taken], copies[taken])


def spoilt(data: Labelled, kind: str, share: float, seed: int) -> tuple[NDArray[np.str_], NDArray[np.bool_]]:
    """Labels of which a share is made wrong, and which those are."""
    coded = code_labels(data.labels.tolist(), data.copies)
    rng = np.random.default_rng(seed)
    free = np.intersect1d(coded.taught, np.flatnonzero(data.settled))
    rows = rng.choice(free, int(share * len(free)), replace=False)
    n_classes = len(coded.classes)
    if kind == "symmetric":
        wrong = (coded.codes[rows] + rng.integers(1, n_classes, len(rows))) % n_classes
    else:
        p = logistic_out_of_fold(data.vectors, coded, data.copies)
        confused = np.stack([p[coded.codes == code].mean(axis=0) for code in range(n_classes)])
        np.fill_diagonal(confused, -1)
        wrong = confused.argmax(axis=1)[coded.codes[rows]]
    labels = data.labels.copy()
    labels[rows] = np.array(coded.classes)[wrong]
    planted = np.zeros(len(labels), dtype=bool)
    planted[rows] = True
    return labels, planted


def rankings(data: Labelled, labels: NDArray[np.str_]) -> Scores:
    """Scores of each row by each ranking, higher is more suspicious: shape (n,) each."""
    coded = code_labels(labels.tolist(), data.copies)
    p = logistic_out_of_fold(data.vectors, coded, data.copies)
    logistic = score_labels(p, coded.codes)
    alone = out_of_fold(data.vectors, coded, data.copies)
    both = heed_copies(alone, coded.codes, data.copies)
    return {
        "self-confidence": 1 - logistic.label_probability,
        "normalised margin": logistic.lead,
        **cleanlab_rankings(p, coded.codes),
        "label_error, alone": score_labels(alone, coded.codes).label_error,
        "label_error": score_labels(both, coded.codes).label_error,
    }


def cleanlab_rankings(probabilities: Vectors, codes: Indices) -> Scores:
    """The rankings of cleanlab itself where it is installed: its default, and with its adjustment."""
    if find_spec("cleanlab") is None:
        return {}
    from cleanlab.rank import get_label_quality_scores

    judged = np.flatnonzero((codes >= 0) & np.isfinite(probabilities).all(axis=1))
    found = {}
    for name, adjust in (("cleanlab", False), ("cleanlab, adjusted", True)):
        quality = get_label_quality_scores(
            codes[judged], probabilities[judged].astype(np.float64), adjust_pred_probs=adjust
        )
        found[name] = np.full(len(codes), np.nan)
        found[name][judged] = 1 - quality
    return found


def measure_errors(
    data: Labelled, shares: Sequence[float], seeds: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Average precision of each ranking by kind of noise, one a share and seed."""
    from sklearn.metrics import average_precision_score

    found: dict[str, dict[str, Any]] = {}
    for kind, share, seed in itertools.product(KINDS, shares, seeds):
        say(f"{kind} noise, {share:.0%}, seed {seed}")
        labels, planted = spoilt(data, kind, share, seed)
        for name, scores in rankings(data, labels).items():
            value = average_precision_score(
                planted[data.settled], np.nan_to_num(scores[data.settled], nan=-1.0)
            )
            found.setdefault(name, {}).setdefault(kind, []).append(float(value))
    return found


def measure_review(
    data: Labelled, shares: Sequence[float], seeds: Sequence[int], count: int
) -> dict[str, list[float]]:
    """Accuracy on the right labels, out of fold, once the first rows of an order are corrected."""
    found: dict[str, list[float]] = {}
    for kind, share, seed in itertools.product(KINDS, shares, seeds):
        say(f"review of {kind} noise, {share:.0%}, seed {seed}")
        labels, _ = spoilt(data, kind, share, seed)
        doubts = np.nan_to_num(rankings(data, labels)["label_error"], nan=-1.0)
        orders = {
            "nothing": np.empty(0, np.int64),
            f"{count} rows at random": np.random.default_rng(seed).permutation(len(labels))[:count],
            f"the first {count} by label_error": np.argsort(-doubts, kind="stable")[:count],
            "all rows": np.arange(len(labels)),
        }
        for name, rows in orders.items():
            reviewed = labels.copy()
            reviewed[rows] = data.labels[rows]
            coded = code_labels(reviewed.tolist(), data.copies)
            p = np.nan_to_num(out_of_fold(data.vectors, coded, data.copies), nan=-1.0)
            right = np.array(coded.classes)[p.argmax(axis=1)] == data.labels
            found.setdefault(name, []).append(float(right[data.settled].mean()))
    return found


def learning_curve(
    data: Labelled, strategy: str, *, start: int, step: int, rounds: int, seed: int
) -> list[float]:
    """Accuracy on the test rows after each step."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(data.labels))
    test, pool = np.split(order, [int(TEST_SHARE * len(order))])
    asked = np.zeros(len(order), dtype=bool)
    asked[pool[:start]] = True
    reachable = np.zeros(len(order), dtype=bool)
    reachable[pool] = True
    accuracy = []
    for _ in range(rounds + 1):
        known = [
            label if is_asked else None for label, is_asked in zip(data.labels.tolist(), asked, strict=True)
        ]
        coded = code_labels(known, data.copies)
        p = geometric_mean(
            predict_from(data.vectors, coded, coded.taught), neighbour_votes(data.vectors, coded, data.copies)
        )
        predicted = np.array(coded.classes)[p.argmax(axis=1)]
        accuracy.append(float((predicted[test] == data.labels[test]).mean()))
        scores = score_labels(p, np.full(len(order), -1))
        open_rows = np.flatnonzero(reachable & ~asked)
        match strategy:
            case "random":
                chosen = rng.permutation(open_rows)[:step]
            case "entropy":
                chosen = open_rows[np.argsort(-scores.entropy[open_rows], kind="stable")[:step]]
            case "margin":
                chosen = open_rows[np.argsort(scores.margin[open_rows], kind="stable")[:step]]
            case _:
                chosen = suggest_rows(
                    scores.margin, data.vectors, reachable & ~asked, count=step, sets=data.copies, seed=seed
                )
        asked[chosen] = True
    return accuracy


def plot_learning(counts: Sequence[int], curves: dict[str, list[list[float]]], path: Path) -> None:
    """Draw accuracy by number of labels, a line for each order, mean and range over seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for name, runs in curves.items():
        values = np.array(runs)
        (drawn,) = axes.plot(counts, values.mean(axis=0), label=name, marker="o", markersize=3)
        axes.fill_between(
            counts, values.min(axis=0), values.max(axis=0), color=drawn.get_color(), alpha=0.12, lw=0
        )
    axes.set(xlabel="labelled rows", ylabel="accuracy on test rows", xticks=counts)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Wrong labels found, and labels saved.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with labels.npy and features or texts"
    )
    parser.add_argument("--seeds", default="0,1", help="of planted errors")
    parser.add_argument("--shares", default="0.05,0.1", help="of labels that are made wrong")
    parser.add_argument("--rows", type=int, help="at most this many random rows")
    parser.add_argument("--start", type=int, default=100, help="labels at first")
    parser.add_argument("--step", type=int, default=50, help="labels asked for at a time")
    parser.add_argument("--rounds", type=int, default=5, help="how often")
    parser.add_argument("--learning-seeds", default="0,1,2,3,4", help="of test rows and first labels")
    parser.add_argument("--reviewed", type=int, default=200, help="rows that a review corrects")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--plot", type=Path, help="where to draw the last table")
    given = parser.parse_args(arguments)
    run_on_one_core()
    data = Labelled.load(given.data, given.rows)
    shares = [float(share) for share in given.shares.split(",")]
    seeds = [int(seed) for seed in given.seeds.split(",")]
    errors = measure_errors(data, shares, seeds)
    rows = [
        [name, *(f"{np.mean(by_kind[kind]):.3f}" for kind in KINDS), f"{np.mean(list(by_kind.values())):.3f}"]
        for name, by_kind in errors.items()
    ]
    print(table(["ranking", *KINDS, "mean"], rows))
    reviewed = measure_review(data, shares, seeds, given.reviewed)
    print()
    print(table(["reviewed", "accuracy"], [[name, f"{np.mean(a):.3f}"] for name, a in reviewed.items()]))
    curves: dict[str, list[list[float]]] = {}
    for seed, strategy in itertools.product(map(int, given.learning_seeds.split(",")), STRATEGIES):
        say(f"{strategy}, seed {seed}")
        curve = learning_curve(
            data, strategy, start=given.start, step=given.step, rounds=given.rounds, seed=seed
        )
        curves.setdefault(strategy, []).append(curve)
    counts = [given.start + done * given.step for done in range(given.rounds + 1)]
    print()
    print(
        table(
            ["labels", *map(str, counts), "area"],
            [
                [name, *(f"{value:.3f}" for value in np.mean(runs, axis=0)), f"{np.mean(runs):.3f}"]
                for name, runs in curves.items()
            ],
        )
    )
    if given.plot:
        plot_learning(counts, curves, given.plot)
    if given.json:
        given.json.write_text(
            json.dumps(
                {"errors": errors, "reviewed": reviewed, "labels": counts, "learning": curves}, indent=2
            )
        )


if __name__ == "__main__":
    main()
