"""Defects that are planted in real rows, and which of them the debugger finds, and what else it calls wrong.

    python -m benchmarks.debugger_planted --originals FILE.npy --groups FILE.npy [--decoder kriging]
                                          [--group NAME] [--rows N] [--seed 0]

The originals are float16 or float32, shape (n, D); a file of groups names the corpus of each row. Rows are
projected by a random affine map, and each defect has its own known rows:

- exchanged rows: 1 % of the rows of z in each other's places,
- block of noise: 100 consecutive rows of z with noise of a tenth of their standard deviation,
- duplicates across usages: 50 training rows that are test rows, too,
- degraded slice: errors of one group 30 % larger, once in one version whose real errors are dealt out to
  random rows, so that no other slice differs, and once between two versions, where the z of the group is
  spoilt until its real errors are 30 % larger,
- forgotten group: a version that was fitted without the group.

A cluster is the slice, too, where so many of its rows are of the group that it is worse by 5 %. Exits with 1
where something planted is missed, or something else is found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.figures import say, table
from embup_core.blocks import row_blocks
from embup_core.debugging.decoded_rows import fit_folds, score_decoded_rows
from embup_core.debugging.slices import LEAST_EFFECT, Partition, cluster_rows, compare_slices
from embup_core.debugging.source import analyse_source
from embup_core.debugging.versions import ALL_ROWS, compare_versions
from embup_core.decoders import DECODERS
from embup_core.geometry.coordinates import recover_coordinates
from embup_core.sources import load_row_labels
from embup_core.sources.cosine_matrix import CosineMatrix

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from embup_core.debugging.decoded_rows import FittedFold

    Vectors = NDArray[np.float32]
    Floats = NDArray[np.float64]
    Indices = NDArray[np.int64]

DIMS = 32
EXCHANGED_SHARE = 0.01
NOISY_ROWS = 100
NOISE = 0.1
DUPLICATES = 50
WORSE_BY = 1.3
LEAST_GROUP = 100


class Planted(NamedTuple):
    """What was planted, and what became of it."""

    what: str
    planted: int
    found: int
    falsely: int


@dataclass(frozen=True, eq=False)
class Source:
    """Real rows, with defects in a second copy of z.

    Attributes
    ----------
    projected, spoilt
        z without and with defects: float32, shape (n, 32).
    coordinates
        Recovered from the matrix: float32, shape (n, r).
    matrix
        Cosines of the originals.
    groups, usages
        A value a row.
    output_dims
        Dimensions of the originals.
    exchanged, noisy, copies
        Rows of each defect: int64, sorted. `copies` are test rows that are training rows, too.
    """

    projected: Vectors
    spoilt: Vectors
    coordinates: Vectors
    matrix: CosineMatrix
    groups: list[str | None]
    usages: list[str | None]
    output_dims: int
    exchanged: Indices
    noisy: Indices
    copies: Indices

    @classmethod
    def plant(cls, originals: Vectors, groups: Sequence[str], folder: Path, seed: int) -> Source:
        """Project rows, and plant what does not depend on a decoder."""
        rng = np.random.default_rng([seed, 1])  # other rows than the landmarks of the recovery
        n_rows, dims = originals.shape
        x = _unit(originals)
        order = rng.permutation(n_rows)
        start = int(rng.integers(n_rows - NOISY_ROWS))
        noisy = np.arange(start, start + NOISY_ROWS)
        free = order[~np.isin(order, noisy)]
        trained, copies, exchanged = np.split(
            free[: 2 * DUPLICATES + int(EXCHANGED_SHARE * n_rows)], [DUPLICATES, 2 * DUPLICATES]
        )
        x[copies] = x[trained]
        usages = rng.choice(["train", "validation", "test"], n_rows, p=[0.8, 0.1, 0.1])
        usages[trained], usages[copies] = "train", "test"
        matrix_file = folder / "cosines.npy"
        matrix = np.lib.format.open_memmap(matrix_file, "w+", np.float32, (n_rows, n_rows))
        for block in row_blocks(n_rows, 512):
            matrix[block] = x[block] @ x.T
        matrix.flush()
        a = rng.standard_normal((dims, DIMS)) / dims**0.5
        projected = _unit(x @ a + 0.02 * rng.standard_normal(DIMS))
        spoilt = projected.copy()
        spoilt[exchanged] = projected[np.roll(exchanged, 1)]
        spoilt[noisy] = _noisy(projected, noisy, NOISE, rng)
        opened = CosineMatrix.open(matrix_file)
        return cls(
            projected, spoilt, recover_coordinates(opened, output_dims=dims), opened, list(groups),
            usages.tolist(), dims, np.sort(exchanged), noisy, np.sort(copies),
        )  # fmt: skip


def defects(source: Source, seed: int) -> list[Planted]:
    """Wrong rows and copies, as an analysis lists them."""
    say("looking for wrong rows and copies")
    analysis = analyse_source(
        source.spoilt,
        source.coordinates,
        source.matrix,
        groups=source.groups,
        usages=source.usages,
        seed=seed,
    )
    wrong = {
        int(one.rows[0]): one.evidence["belongs_to"] for one in analysis.findings if one.kind == "wrong_row"
    }
    moved = {row for row, place in wrong.items() if place is not None}
    exchanged, noisy = set(source.exchanged.tolist()), set(source.noisy.tolist())
    certain = [
        one for one in analysis.findings if one.kind == "duplicate_across_usages" and one.severity == "error"
    ]
    copies, leaked = set(source.copies.tolist()), {int(row) for one in certain for row in one.rows}
    false_sets = sum(copies.isdisjoint(one.rows.tolist()) for one in certain)
    return [
        Planted("rows exchanged, with the row that each belongs to", len(exchanged), len(exchanged & moved),
                len(moved - exchanged)),
        Planted("rows of the noisy block", len(noisy), len(noisy & set(wrong)),
                len(set(wrong) - noisy - exchanged)),
        Planted("duplicates across usages", len(copies), len(copies & leaked), false_sets),
    ]  # fmt: skip


def pair_errors(folds: Iterable[FittedFold], projected: Vectors, source: Source) -> Floats:
    """Error of each row by a decoder that has not seen it: float64, shape (n,)."""
    return score_decoded_rows(folds, projected, source.matrix).pair_error


def degraded_slice(errors: Floats, partitions: Sequence[Partition], group: str, seed: int) -> Planted:
    """One group's errors made 30 % larger, all errors dealt out to random rows before."""
    rows = _rows_of(partitions, group)
    values = np.random.default_rng(seed).permutation(errors)
    values[rows] *= WORSE_BY
    worse = [one for one in compare_slices({"pair_error": values}, partitions) if one.worse]
    return _named(
        "slice degraded by 30 %", group, rows, [(one.partition, one.name, one.rows) for one in worse]
    )


def degraded_version(
    folds: Sequence[FittedFold], before: Floats, partitions: Sequence[Partition], group: str, source: Source
) -> Planted:
    """One group's z spoilt until its errors are 30 % larger, against the version before."""
    rows = _rows_of(partitions, group)
    noise, aim, after = NOISE, WORSE_BY**2 - 1, before
    for _ in range(3):  # squares of errors grow with the square of the noise
        spoilt = source.projected.copy()
        spoilt[rows] = _noisy(source.projected, rows, noise, np.random.default_rng(0))
        after = pair_errors(folds, spoilt, source)
        grown = float(np.mean(after[rows] ** 2) / np.mean(before[rows] ** 2)) - 1
        say(f"noise of {noise:.3f} standard deviations: errors {np.sqrt(1 + grown):.3f} times")
        if abs(np.sqrt(1 + grown) - WORSE_BY) < 0.02:
            break
        noise *= float(np.sqrt(aim / grown))
    return _worse_versions(
        "slice degraded by 30 %, version against version", before, after, partitions, group
    )


def forgotten_group(
    decoder: str, before: Floats, partitions: Sequence[Partition], group: str, source: Source, seed: int
) -> Planted:
    """A version fitted without the group, against the version before."""
    say(f"fitting without {group}")
    left_out = np.zeros(len(before), dtype=bool)
    left_out[_rows_of(partitions, group)] = True
    folds = fit_folds(
        DECODERS[decoder], source.projected, source.coordinates, output_dims=source.output_dims,
        left_out=left_out, seed=seed,
    )  # fmt: skip
    after = pair_errors(folds, source.projected, source)
    return _worse_versions("a version that forgot a group", before, after, partitions, group)


def _worse_versions(
    what: str, before: Floats, after: Floats, partitions: Sequence[Partition], group: str
) -> Planted:
    found = [one for one in compare_versions(before, after, partitions).slices if one.worse]
    return _named(
        what, group, _rows_of(partitions, group),
        [(one.partition, one.name, one.rows) for one in found if one.partition != ALL_ROWS],
    )  # fmt: skip


def _named(what: str, group: str, rows: Indices, worse: Sequence[tuple[str, str, Indices]]) -> Planted:
    """Whether the group is among the slices that are worse, and how many of the others are not of it."""
    enough = LEAST_EFFECT / (WORSE_BY - 1)
    others = [
        (partition, name, share)
        for partition, name, its in worse
        if (partition, name) != ("group", group) and (share := np.isin(its, rows).mean()) < enough
    ]
    for partition, name, share in others:
        say(f"{what}: {partition} {name} is called worse, {share:.0%} of its rows are of {group}")
    return Planted(what, 1, int(("group", group) in {(one[0], one[1]) for one in worse}), len(others))


def _rows_of(partitions: Sequence[Partition], group: str) -> Indices:
    groups = next(one for one in partitions if one.name == "group")
    return np.flatnonzero(groups.codes == groups.parts.index(group))


def _noisy(projected: Vectors, rows: Indices, noise: float, rng: np.random.Generator) -> Vectors:
    return _unit(projected[rows] + noise * projected.std(axis=0) * rng.standard_normal((len(rows), DIMS)))


def _unit(rows: NDArray[np.floating]) -> Vectors:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def main(arguments: Sequence[str] | None = None) -> int:
    """Plant, look, and print the table."""
    parser = argparse.ArgumentParser(description="Planted defects, and which of them are found.")
    parser.add_argument("--originals", type=Path, required=True, help=".npy of originals")
    parser.add_argument("--groups", type=Path, required=True, help=".npy with the group of each row")
    parser.add_argument("--decoder", default="kriging", help="judges rows that it has not seen")
    parser.add_argument("--group", help="that is degraded and forgotten; by default one of middle size")
    parser.add_argument("--rows", type=int, help="at most the first so many")
    parser.add_argument("--seed", type=int, default=0, help="of what is planted")
    given = parser.parse_args(arguments)
    originals = np.load(given.originals, allow_pickle=False)[: given.rows].astype(np.float32)
    groups = load_row_labels(given.groups, len(np.load(given.groups, mmap_mode="r")))[: given.rows].astype(
        np.str_
    )
    names, counts = np.unique(groups, return_counts=True)
    large = names[counts >= LEAST_GROUP][np.argsort(counts[counts >= LEAST_GROUP], kind="stable")].tolist()
    group = given.group or large[len(large) // 2]
    with tempfile.TemporaryDirectory() as folder:
        say("projecting and recovering")
        source = Source.plant(originals, groups.tolist(), Path(folder), given.seed)
        planted = defects(source, given.seed)
        say("fitting on other rows")
        folds = list(
            fit_folds(
                DECODERS[given.decoder], source.projected, source.coordinates,
                output_dims=source.output_dims, seed=given.seed,
            )
        )  # fmt: skip
        errors = pair_errors(folds, source.projected, source)
        partitions = [
            Partition.from_values("group", source.groups), cluster_rows(source.coordinates, seed=given.seed)
        ]  # fmt: skip
        planted += [
            degraded_slice(errors, partitions, group, given.seed),
            degraded_version(folds, errors, partitions, group, source),
            forgotten_group(given.decoder, errors, partitions, group, source, given.seed),
        ]
    print(f"{len(originals):,} rows; the slice is group {group}, {(groups == group).sum()} rows\n")
    print(
        table(
            ["planted", "rows", "found", "falsely found"],
            [[what, *map(str, rest)] for what, *rest in planted],
        )
    )
    return int(any(one.found < one.planted or one.falsely for one in planted))


if __name__ == "__main__":
    sys.exit(main())
