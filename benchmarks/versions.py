"""Whether vectors that one month's version decoded are found by queries of the next one.

    python -m benchmarks.versions --source DIR [--first 5000] [--month 1000] [--months 6]
                                  [--decoder kriging] [--json FILE]

The rows of a source, in random order, arrive as a first delivery and then month by month; a tenth of each is
never trained on. Each month's version is trained on all rows so far, once in the basis of the first, once in
a basis of its own. Every held-out row of all deliveries is a query and a document; recall@10 is the share of
its 10 nearest others, by true cosine, that are found. "both" decodes queries and documents by the new
version, "stored" decodes the documents by that of the month before; "before" is the old version alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figures import run_on_one_core, say, table
from embup_core.decoders import DECODERS
from embup_core.evaluation import predict_in_blocks
from embup_core.evaluation.ranking import shared_nearest
from embup_core.geometry.basis import recover_in_kept_basis, recover_in_new_basis
from embup_core.sources import load_projected, resolve_source
from embup_core.sources.cosine_matrix import CosineMatrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.geometry.basis import Basis

HELD_OUT = 0.1
OUTPUT_DIMS = 1536


def recall_at_10(
    queries: NDArray[np.float32], documents: NDArray[np.float32], true: NDArray[np.float32]
) -> float:
    """Mean share of the 10 nearest others found; shapes (n, D), (n, D) and (n, n)."""
    predicted, actual = queries @ documents.T, true.copy()
    for cosines in (predicted, actual):
        np.fill_diagonal(cosines, -np.inf)
    return float(shared_nearest(predicted, actual, (10,)).mean() / 10)


def measure(source: Path, decoder: str, *, first: int, month: int, months: int) -> list[dict[str, Any]]:
    """One record a month."""
    files = resolve_source(str(source), cache_dir=source)
    projected = load_projected(files.projected)
    matrix = CosineMatrix.open(files.cosines)
    rng = np.random.default_rng(0)
    order = rng.permutation(len(projected))[: first + months * month]
    is_held = rng.random(len(order)) < HELD_OUT
    test = order[is_held]
    true = matrix.rows(test)[:, test]
    kept: Basis | None = None
    before: dict[str, NDArray[np.float32]] = {}
    found = []
    for number in range(months + 1):
        rows = order[: first + number * month][~is_held[: first + number * month]]
        say(f"month {number}: {len(rows):,} rows")
        part = CosineMatrix(matrix.path, matrix.rows(rows)[:, rows])
        new = recover_in_new_basis(part, projected[rows], output_dims=OUTPUT_DIMS)
        same = (
            new
            if kept is None
            else recover_in_kept_basis(kept, part, projected[rows], output_dims=OUTPUT_DIMS)
        )
        kept = same.basis
        decoded = {}
        for name, coordinates in {"kept": same, "new": new}.items():
            fitted = DECODERS[decoder]().fit(
                projected[rows], coordinates.coordinates, output_dims=OUTPUT_DIMS, basis=coordinates.basis
            )
            decoded[name] = predict_in_blocks(fitted, projected[test])
        if before:
            found.append(
                {"month": number, "rows": len(rows), "test_rows": len(test)}
                | {
                    name: {
                        "before": recall_at_10(before[name], before[name], true),
                        "both": recall_at_10(decoded[name], decoded[name], true),
                        "stored": recall_at_10(decoded[name], before[name], true),
                        "same_row": float(np.median(np.vecdot(decoded[name], before[name]))),
                    }
                    for name in ("kept", "new")
                }
            )
        before = decoded
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Recall across versions.")
    parser.add_argument("--source", type=Path, required=True, help="folder with the two training files")
    parser.add_argument("--first", type=int, default=5000, help="rows of the first delivery")
    parser.add_argument("--month", type=int, default=1000, help="rows of a later one")
    parser.add_argument("--months", type=int, default=6, help="later deliveries")
    parser.add_argument("--decoder", default="kriging", choices=sorted(DECODERS))
    parser.add_argument("--json", type=Path, help="where to write all figures")
    given = parser.parse_args(arguments)
    run_on_one_core()
    found = measure(given.source, given.decoder, first=given.first, month=given.month, months=given.months)
    columns = ["month", "rows", "before", "both", "stored", "stored - both", "own basis: both", "stored"]
    print(
        table(
            columns,
            [
                [
                    str(one["month"]),
                    f"{one['rows']:,}",
                    *(f"{one['kept'][name]:.3f}" for name in ("before", "both", "stored")),
                    f"{one['kept']['stored'] - one['kept']['both']:+.3f}",
                    *(f"{one['new'][name]:.3f}" for name in ("both", "stored")),
                ]
                for one in found
            ],
        )
    )
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
