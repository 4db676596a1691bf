"""The README's picture: true against decoded cosines of unseen rows, of some decoders side by side.

    python -m benchmarks.cosines_picture --source DIR --out FILE [--decoders mlp neural_kriging] [--rows N]

Fitted on train and validation rows, drawn for all pairs of test rows; seed 0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.figures import Rows, import_what_fits, say
from embup_core.decoders import DECODERS
from embup_core.training.split import SplitBy


def main() -> None:
    """Fit, decode, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--source", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--decoders", nargs="+", choices=list(DECODERS), default=["mlp", "neural_kriging"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--cache", type=Path, default=Path("data/sources"))
    options = parser.parse_args()
    import_what_fits()
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    rows = Rows.of(options.source, cache_dir=options.cache, rows=options.rows)
    split = rows.split(SplitBy.rows, 0)
    test = split.test
    pairs = np.triu_indices(len(test), 1)  # each pair once, never the diagonal
    true = rows.matrix.rows(test)[:, test][pairs]
    low, high = np.quantile(true, [0.0005, 0.9995])
    figure, axes = plt.subplots(1, len(options.decoders), figsize=(9, 4.2), sharey=True, squeeze=False)
    for axis, name in zip(axes[0], options.decoders, strict=True):
        decoder = DECODERS[name]().fit(rows.projected[split.fit_rows], rows.coordinates[split.fit_rows])
        decoded = decoder.predict(rows.projected[test])
        predicted = (decoded @ decoded.T)[pairs]
        r2 = 1 - np.mean((predicted - true) ** 2) / true.var()
        say(f"{name}: R2 {r2:.3f} over {len(true):,} pairs of {len(test):,} test rows")
        axis.hexbin(true, predicted, gridsize=60, bins="log", mincnt=1, extent=(low, high, low, high))
        axis.plot((low, high), (low, high), color="crimson", linewidth=1)
        axis.set(title=f"{name}, R2 {r2:.2f}", xlabel="true cosine", xlim=(low, high), ylim=(low, high))
    axes[0][0].set_ylabel("cosine of decoded vectors")
    figure.tight_layout()
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
