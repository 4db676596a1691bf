"""How often the promotion gate is wrong: good decoders that it holds, and worse ones that it promotes.

    python -m benchmarks.gate --source DIR [--replacements 40] [--held-out 1200,300,100] [--shuffled 0.15]
                              [--decoder kriging] [--share 0.9] [--seed 0] [--rows N] [--json FILE]

A share of the rows is held out for ever. Each replacement is a pair of decoders in one basis, fitted on
random shares of the other rows: the old one, and either an equally good one (other random rows) or one of
which a share of the rows have the z of another. Both kinds meet the same old decoder. Slices are the quarters
of the file (drops) and 16 clusters of the originals. Smaller held-out sets are random rows of the largest.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.figures import run_on_one_core, say, table
from embup_core.decoders import DECODERS
from embup_core.geometry.basis import recover_in_new_basis
from embup_core.sources import load_projected, resolve_source
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.training.promotion import compare_on_held_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder
    from embup_core.geometry.basis import Basis
    from embup_core.training.promotion import GateResult

EQUAL, WORSE = "equally good", "trained on shuffled rows"
CLUSTERS = 16
DROPS = 4


class Pool(NamedTuple):
    """Rows of one source.

    Attributes
    ----------
    projected, coordinates
        float32, shapes (N, d) and (N, r).
    basis
        Of the coordinates.
    slices
        Labels of the rows, shape (N,), by kind.
    """

    projected: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    basis: Basis
    slices: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, source: Path, rows: int | None) -> Pool:
        """Recover the coordinates of a source, or of its first rows."""
        from sklearn.cluster import MiniBatchKMeans

        files = resolve_source(str(source), cache_dir=source)
        projected = load_projected(files.projected)[:rows]
        matrix = CosineMatrix.open(files.cosines)
        n = len(projected)
        found = recover_in_new_basis(
            CosineMatrix(matrix.path, matrix.memory_map[:n, :n]), projected, output_dims=1536
        )
        clusters = MiniBatchKMeans(CLUSTERS, n_init=1, random_state=0).fit_predict(found.coordinates)
        drops = np.arange(n) * DROPS // n
        return cls(projected, found.coordinates, found.basis, {"drop": drops, "cluster": clusters})

    def fit(self, name: str, rows: NDArray[np.int64], *, shuffled: float, seed: int) -> Decoder:
        """Fit on rows, of which a share have the z of another."""
        z = self.projected[rows].copy()
        rng = np.random.default_rng(seed)
        wrong = rng.choice(len(rows), int(shuffled * len(rows)), replace=False)
        z[wrong] = z[np.roll(wrong, 1)]
        return DECODERS[name]().fit(z, self.coordinates[rows], output_dims=1536, basis=self.basis)

    def compare(self, old: Decoder, new: Decoder, rows: NDArray[np.int64]) -> GateResult:
        """The gate's result on some held-out rows."""
        slices = {kind: labels[rows] for kind, labels in self.slices.items()}
        return compare_on_held_out(old, new, self.projected[rows], self.coordinates[rows], slices)


def measure(
    pool: Pool,
    decoder: str,
    *,
    replacements: int,
    held_out: Sequence[int],
    share: float,
    shuffled: float,
    first_seed: int = 0,
) -> list[dict[str, Any]]:
    """One record a comparison: kind, held-out rows, difference in R2, and which checks held it."""
    order = np.random.default_rng(first_seed).permutation(len(pool.projected))
    held, free = order[: max(held_out)], order[max(held_out) :]
    found = []
    for seed in range(first_seed, first_seed + replacements):
        say(f"replacement {seed - first_seed + 1} of {replacements}")
        rng = np.random.default_rng(seed)

        def fitted(spoilt: float, rng: np.random.Generator = rng, seed: int = seed) -> Decoder:
            rows = np.sort(rng.permutation(free)[: int(share * len(free))])
            return pool.fit(decoder, rows, shuffled=spoilt, seed=seed)

        old = fitted(0.0)
        for kind, spoilt in ((EQUAL, 0.0), (WORSE, shuffled)):
            new = fitted(spoilt)
            for n in held_out:
                gate = pool.compare(old, new, np.sort(held[:n]))
                r2 = gate.check("R2 of cosines")
                found.append(
                    {
                        "kind": kind,
                        "held_out": n,
                        "passed": gate.passed,
                        "difference": r2.difference,
                        "interval": r2.interval,
                        "old": r2.old,
                        "held_by": [check.name for check in gate.checks if not check.passed],
                        "figures": {check.name: (check.old, check.new) for check in gate.checks},
                    }
                )
    return found


def summary(found: list[dict[str, Any]], kind: str, held_out: int) -> list[str]:
    """A line of the table."""
    some = [one for one in found if one["kind"] == kind and one["held_out"] == held_out]
    moved = np.array([one["difference"] for one in some])
    width = np.mean([(one["interval"][1] - one["interval"][0]) / 2 for one in some])
    by = sorted({name for one in some for name in one["held_by"]})
    return [
        kind,
        f"{held_out:,}",
        f"{np.mean([one['old'] for one in some]):.3f}",
        f"{moved.mean():+.4f} ± {moved.std(ddof=1):.4f}" if len(moved) > 1 else f"{moved.mean():+.4f}",
        f"{width:.4f}",
        f"{sum(not one['passed'] for one in some)} of {len(some)}",
        ", ".join(by) or "-",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How often the promotion gate is wrong.")
    parser.add_argument("--source", type=Path, required=True, help="folder with the two training files")
    parser.add_argument("--replacements", type=int, default=40)
    parser.add_argument("--held-out", default="1200,300,100", help="sizes of held-out sets")
    parser.add_argument("--shuffled", type=float, default=0.15, help="share of wrong rows of the worse ones")
    parser.add_argument("--decoder", default="kriging", choices=sorted(DECODERS))
    parser.add_argument(
        "--share", type=float, default=0.9, help="of the other rows that a decoder is fitted on"
    )
    parser.add_argument("--seed", type=int, default=0, help="the first one; they also choose held-out rows")
    parser.add_argument("--rows", type=int, help="the first rows of the source alone")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    given = parser.parse_args(arguments)
    sizes = [int(size) for size in given.held_out.split(",")]
    found = measure(
        Pool.of(given.source, given.rows),
        given.decoder,
        replacements=given.replacements,
        held_out=sizes,
        share=given.share,
        shuffled=given.shuffled,
        first_seed=given.seed,
    )
    columns = ["new decoder", "held-out rows", "R2 old", "R2 new - old", "half interval", "held", "by"]
    print(table(columns, [summary(found, kind, size) for size in sizes for kind in (EQUAL, WORSE)]))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    run_on_one_core()  # begins the process again, which only its owner may do
    main()
