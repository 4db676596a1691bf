"""Every decoder and baseline on rows that none of them has seen: how good, how fast, how large.

    python -m benchmarks.decoders [--source DIR] [--seeds 0,1,2] [--split rows|groups] [--decoders a,b]
                                  [--rows N] [--json FILE]

For each seed 15 % of the rows, or of the groups, are test rows and the others are fitted on; the seed is the
decoder's own too. A figure is the mean over the seeds, with the standard deviation behind it. R2, RMSE, bias
and Spearman are over pairs of test rows, recall@10 is over test and fitted rows. All on one core: rows/s in
blocks of 256 rows, ms for a row that comes alone. MB is the artifact's arrays.
"""

from __future__ import annotations

import argparse
import inspect
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from benchmarks.figures import MEGABYTE, Rows, Speed, import_what_fits, run_on_one_core, say, table
from embup_core.artifacts.artifact import decoder_bytes
from embup_core.decoders import DECODERS
from embup_core.errors import EmbupError
from embup_core.evaluation import baselines, evaluate_decoder
from embup_core.training.split import SplitBy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embup_core.decoders import Decoder
    from embup_core.evaluation import Scores
    from embup_core.training.split import RowSplit

Figures: TypeAlias = "dict[str, float | None]"

COLUMNS = {
    "R2": ".3f",
    "RMSE": ".4f",
    "bias": "+.4f",
    "Spearman": ".3f",
    "recall@10": ".3f",
    "fit s": ".1f",
    "rows/s": ",.0f",
    "one row ms": ".2f",
    "MB": ".1f",
}
TOLD_EVERY_S = 10.0


def of_scores(scores: Scores) -> Figures:
    """The columns that a baseline has too."""
    pairs = scores.test_test
    return {
        "R2": pairs.r2,
        "RMSE": pairs.rmse,
        "bias": pairs.bias,
        "Spearman": pairs.spearman,
        "recall@10": scores.recall_at_10,
    }


def of_decoder(decoder: Decoder, rows: Rows, parts: RowSplit) -> Figures:
    """Fit and measure."""
    fit_rows = parts.fit_rows
    started_s = time.perf_counter()
    decoder.fit(rows.projected[fit_rows], rows.coordinates[fit_rows])
    fit_s = time.perf_counter() - started_s
    scores = evaluate_decoder(
        decoder, rows.projected, rows.matrix, fit_rows=fit_rows, eval_rows=parts.test, intervals=False
    )
    speed = Speed.of(decoder, rows.projected[parts.test])
    return {
        **of_scores(scores),
        "fit s": fit_s,
        "rows/s": speed.rows_per_s,
        "one row ms": speed.one_row_ms,
        "MB": len(decoder_bytes(decoder)) / MEGABYTE,
    }


def unfitted(name: str, seed: int) -> Decoder:
    """The decoder with its defaults and this seed, if it draws anything."""
    seeded = "seed" in inspect.signature(DECODERS[name]).parameters
    decoder = DECODERS[name](**({"seed": seed} if seeded else {}))
    told_s = time.perf_counter()

    def tell(done: int, total: int) -> None:
        nonlocal told_s
        if time.perf_counter() - told_s > TOLD_EVERY_S:
            told_s = time.perf_counter()
            say(f"    step {done} of {total}")

    decoder.on_progress = tell
    return decoder


def measured(rows: Rows, names: Sequence[str], seeds: Sequence[int], by: SplitBy) -> dict[str, list[Figures]]:
    """Figures of each baseline and decoder, one a seed."""
    import_what_fits()
    found: dict[str, list[Figures]] = {}
    for turn, seed in enumerate(seeds, 1):
        parts = rows.split(by, seed)
        say(f"seed {seed} ({turn} of {len(seeds)}): {len(parts.fit_rows)} rows, {len(parts.test)} test rows")
        without = baselines(
            rows.projected,
            rows.coordinates,
            rows.matrix,
            fit_rows=parts.fit_rows,
            eval_rows=parts.test,
            intervals=False,
        )
        for name, scores in without.items():
            found.setdefault(name, []).append(of_scores(scores))
        for place, name in enumerate(names, 1):
            say(f"  {name} ({place} of {len(names)})")
            found.setdefault(name, []).append(of_decoder(unfitted(name, seed), rows, parts))
    return found


def cells(runs: Sequence[Figures]) -> list[str]:
    """Mean and spread over the seeds, a column each."""
    shown = []
    for column, spec in COLUMNS.items():
        values = [value for run in runs if (value := run.get(column)) is not None]
        if not values:
            shown.append("-")
            continue
        spread = f" ± {np.std(values, ddof=1):{spec.lstrip('+')}}" if len(values) > 1 else ""
        shown.append(f"{np.mean(values):{spec}}{spread}")
    return shown


def in_order(found: Mapping[str, list[Figures]]) -> list[tuple[str, list[Figures]]]:
    """Baselines first, then decoders from the worst to the best."""

    def place(item: tuple[str, list[Figures]]) -> tuple[bool, float]:
        name, runs = item
        return name in DECODERS, float(np.mean([run["R2"] or 0.0 for run in runs]))

    return sorted(found.items(), key=place)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Every decoder and baseline, over several seeds.")
    parser.add_argument("--source", default="sample", help="folder, two URLs, or sample[:ROWS]")
    parser.add_argument("--seeds", default="0,1,2", help="of the divisions into fitted and test rows")
    parser.add_argument("--split", type=SplitBy, choices=list(SplitBy), default=SplitBy.rows)
    parser.add_argument("--decoders", default=",".join(DECODERS), help="names; default: all")
    parser.add_argument("--rows", type=int, help="take so many rows at random; default: all")
    parser.add_argument("--json", type=Path, help="write the figures of each seed there")
    parser.add_argument("--cache", type=Path, default=Path("data/sources"), help="for samples and downloads")
    options = parser.parse_args(arguments)
    names = options.decoders.split(",")
    if unknown := [name for name in names if name not in DECODERS]:
        parser.error(f"no decoder is called {', '.join(unknown)}; there are {', '.join(DECODERS)}")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    try:
        rows = Rows.of(options.source, cache_dir=options.cache, rows=options.rows)
        found = measured(rows, names, seeds, options.split)
    except EmbupError as error:
        parser.error(str(error))
    if options.json:
        options.json.write_text(
            json.dumps({"source": options.source, "rows": len(rows.taken), "seeds": seeds, "runs": found})
        )
    print(table(["", *COLUMNS], [[name, *cells(runs)] for name, runs in in_order(found)]))


if __name__ == "__main__":
    run_on_one_core()
    main()
