"""Training from landmark columns: time and memory by rows, and what half precision and sampling cost.

    python -m benchmarks.landmarks generate FOLDER [--rows 1000000] [--landmarks 2048] [--dtype float16]
    python -m benchmarks.landmarks recover FOLDER --work WORK
    python -m benchmarks.landmarks train FOLDER --work WORK [--decoder mixture_kriging] [--max-rows 100000]
    python -m benchmarks.landmarks sample FOLDER --work WORK [--decoder mixture_kriging] [--sizes 10000,30000]
    python -m benchmarks.landmarks quality SEED_FILES [--decoders mixture_kriging,kriging]

`generate` draws rows as the sample is drawn, a block at a time, so that no file is ever held in memory.
`recover` is `embup check` and `train` is `embup train`, each in a fresh process. `sample` fits on more and
more rows and scores each fit on the same 2,000 other rows. `quality` compares fits on the rows of a folder
that holds the N x N matrix, `test_projected.npy` and `test_originals.npy`, by way of the matrix and by way of
columns of it.

"MB" is the highest resident memory in millions of bytes, pages of mapped files among it, which the system
takes back when it needs them; "own MB" is the most without these, looked at twenty times a second.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

import embup_core.geometry.coordinates as coordinates_module
from benchmarks.figures import MEGABYTE, say, table
from benchmarks.month import watched_memory
from benchmarks.scale import highest_bytes, sizes, status_bytes
from embup_core.artifacts.artifact import decoder_bytes
from embup_core.artifacts.manifest import BASIS_FILE
from embup_core.blocks import row_blocks
from embup_core.decoders import DECODERS
from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.evaluation.cosines import Comparison, DotProducts
from embup_core.evaluation.held_out import DecodedRows
from embup_core.evaluation.scores import pair_scores_within
from embup_core.geometry.basis import Basis, recover_in_new_basis
from embup_core.geometry.landmark_source import recorded_recovery, with_coordinates
from embup_core.geometry.source_check import check_source
from embup_core.sources import (
    LANDMARK_COSINES_FILE,
    LANDMARK_ROWS_FILE,
    PROJECTED_FILE,
    load_projected,
    resolve_source,
)
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.sources.folder import files_in_folder
from embup_core.sources.synthetic import SampleParameters, project
from embup_core.training.split import MAX_TRAINING_ROWS
from embup_core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.decoders.base import Decoder
    from embup_core.geometry.noise import MatrixNoise

Figures: TypeAlias = "dict[str, Any]"

DRAWN_ROWS = 16_384
ASKED_ROWS = 2000


@dataclass(frozen=True)
class Draw:
    """Rows of the sample's distribution, each block of them drawn from a seed of its own.

    Attributes
    ----------
    parameters
        Of the sample.
    nodes
        Vectors of the upper levels of the tree: float32, shape (n, dims - 1).
    weights
        Share of each of the nodes.
    spread
        Standard deviations of what is each row's own: float32, shape (dims - 1,).
    """

    parameters: SampleParameters
    nodes: NDArray[np.float32]
    weights: NDArray[np.float64]
    spread: NDArray[np.float32]

    @classmethod
    def begin(cls, parameters: SampleParameters) -> Draw:
        """Draw the upper levels."""
        rng = np.random.default_rng(parameters.seed)
        free_dims = parameters.dims - 1
        vectors, weights = np.zeros((1, free_dims), np.float32), np.ones(1)
        spread = np.zeros(free_dims, np.float32)
        for depth, level in enumerate(parameters.levels):
            deviation = (np.arange(free_dims) + level.floor) ** -level.decay
            deviation *= np.sqrt((1 - parameters.mean_share) * level.share) / np.linalg.norm(deviation)
            spread = deviation.astype(np.float32)
            if level.branches == 0:
                break
            shares = (
                np.full(level.branches, 1 / level.branches)
                if depth
                else rng.dirichlet(np.full(level.branches, parameters.topic_evenness))
            )
            weights = np.outer(weights, shares).ravel()
            vectors = np.repeat(vectors, level.branches, axis=0)
            vectors = vectors + rng.standard_normal(vectors.shape, np.float32) * spread
        return cls(parameters, vectors, weights, spread)

    def block(self, place: slice) -> NDArray[np.float32]:
        """Originals of some rows: float32, shape (b, dims), unit rows."""
        rng, rows = np.random.default_rng([self.parameters.seed, 2, place.start]), place.stop - place.start
        x = np.empty((rows, self.parameters.dims), np.float32)
        x[:, 0] = np.sqrt(self.parameters.mean_share)
        x[:, 1:] = rng.standard_normal((rows, self.parameters.dims - 1), np.float32)
        x[:, 1:] *= self.spread
        x[:, 1:] += self.nodes[rng.choice(len(self.weights), rows, p=self.weights)]
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x


def generate(folder: Path, parameters: SampleParameters, landmarks: int, dtype: str) -> None:
    """Write a source of landmark columns; blocks are drawn twice, first for the landmarks alone."""
    draw, rows = Draw.begin(parameters), parameters.rows
    chosen = np.sort(np.random.default_rng(parameters.seed).permutation(rows)[:landmarks])
    originals = np.empty((landmarks, parameters.dims), np.float32)
    z = np.empty((rows, 32), np.float32)
    for place in row_blocks(rows, DRAWN_ROWS):
        x = draw.block(place)
        z[place] = project(x, seed=parameters.seed)
        here = (chosen >= place.start) & (chosen < place.stop)
        originals[here] = x[chosen[here] - place.start]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / PROJECTED_FILE, z)
    np.save(folder / LANDMARK_ROWS_FILE, chosen)
    columns: Any = np.lib.format.open_memmap(
        folder / LANDMARK_COSINES_FILE, mode="w+", dtype=np.dtype(dtype), shape=(rows, landmarks)
    )
    for place in row_blocks(rows, DRAWN_ROWS):
        columns[place] = draw.block(place) @ originals.T
    columns.flush()


def recover_and_check(folder: Path, work: Path) -> Figures:
    """Coordinates, map and the comparison of all rows."""
    started_s = time.perf_counter()
    files = resolve_source(str(folder), cache_dir=work / "sources")
    files = with_coordinates(files, work / "sources", output_dims=DEFAULT_OUTPUT_DIMS)
    recovered_s = time.perf_counter()
    report = check_source(files)
    record = recorded_recovery(files.cosines)
    return {
        "rows": report.profile.rows,
        "rank": report.rank,
        "checks of values s": recovered_s - started_s - (record.seconds if record else 0),
        "recovery s": record.seconds if record else 0,
        "map and rows s": time.perf_counter() - recovered_s,
        "wrong rows": len(report.rows.wrong_rows),
        "residual": report.noise.residual,
        "map R2": report.rows.transform.explained,
    }


def train_all(folder: Path, work: Path, decoder: str, most: int) -> Figures:
    """A whole training, from files to the published version."""
    started_s = time.perf_counter()
    result = train(
        folder, registry=work / "registry", decoder=decoder, max_training_rows=most, work=work, basis="new"
    )
    return {
        "rows": result.rows,
        "all s": time.perf_counter() - started_s,
        "fit s": result.scores.fit_s or 0,
        "R2": result.scores.test_test.r2,
        "recall@10": result.scores.recall_at_10 or 0,
    }


def sample_sizes(folder: Path, work: Path, decoder: str, sizes: Sequence[int]) -> list[Figures]:
    """Fits on samples of a source, the smaller ones within the larger ones, on the same other rows."""
    files = resolve_source(str(folder), cache_dir=work / "sources")
    files = with_coordinates(files, work / "sources", output_dims=DEFAULT_OUTPUT_DIMS)
    projected = load_projected(files.projected)
    coordinates = np.load(files.cosines, mmap_mode="r")
    order = np.random.default_rng(0).permutation(len(projected))
    asked, others = np.sort(order[:ASKED_ROWS]), order[ASKED_ROWS:]
    originals = coordinates[asked]
    found = []
    for size in sizes:
        rows = np.sort(others[:size])
        z, c = projected[rows], coordinates[rows]
        with watched_memory() as own:
            before = status_bytes("RssAnon")
            started_s = time.perf_counter()
            fitted = DECODERS[decoder]().fit(z, c, output_dims=DEFAULT_OUTPUT_DIMS)
            fit_s = time.perf_counter() - started_s
        found.append(
            {
                "rows": size,
                "fit s": fit_s,
                "fit own MB": (max(own) - before) / MEGABYTE,
                "artifact MB": len(decoder_bytes(fitted)) / MEGABYTE,
                "R2": r2_of_cosines(fitted, projected[asked], originals),
            }
        )
        say(f"{size:,} rows: {found[-1]}")
    return found


def r2_of_cosines(decoder: Decoder, projected: NDArray[np.float32], originals: NDArray[np.float32]) -> float:
    """R2 of the cosines of all pairs of some rows: float32, shapes (m, d) and (m, D), unit rows."""
    decoded = DecodedRows.by(decoder, projected).rows
    comparison = Comparison(DotProducts(decoded, decoded), DotProducts(originals, originals))
    return pair_scores_within(comparison).r2


def quality(folder: Path, decoders: Sequence[str], landmarks: int, factors: Sequence[float]) -> list[Figures]:
    """R2 on the same held-out rows by way of the matrix and of landmark columns."""
    files = resolve_source(str(folder), cache_dir=folder)
    projected, matrix = load_projected(files.projected), CosineMatrix.open(files.cosines)
    asked = np.load(folder / "test_projected.npy").astype(np.float32)
    originals = np.load(folder / "test_originals.npy").astype(np.float32)
    originals /= np.linalg.norm(originals, axis=1, keepdims=True)
    rows = np.sort(np.random.default_rng(0).permutation(len(projected))[:landmarks])
    ways: list[tuple[str, float, Basis, NDArray[np.float32], MatrixNoise]] = []
    found = recover_in_new_basis(matrix, projected, output_dims=DEFAULT_OUTPUT_DIMS)
    ways.append(("matrix", coordinates_module.NOISE_FACTOR, found.basis, found.coordinates, found.noise))
    columns = matrix.rows(rows).T
    for dtype in ("float32", "float16"):
        for factor in factors if dtype == "float16" else factors[:1]:
            with tempfile.TemporaryDirectory(prefix="embup-landmarks-") as made:
                place, usual = Path(made), coordinates_module.NOISE_FACTOR
                shutil.copy(files.projected, place / PROJECTED_FILE)
                np.save(place / LANDMARK_ROWS_FILE, rows)
                np.save(place / LANDMARK_COSINES_FILE, np.ascontiguousarray(columns, dtype))
                try:
                    coordinates_module.NOISE_FACTOR = factor
                    source = with_coordinates(files_in_folder(place), place, output_dims=DEFAULT_OUTPUT_DIMS)
                finally:
                    coordinates_module.NOISE_FACTOR = usual
                basis = Basis.from_bytes(source.cosines.with_name(BASIS_FILE).read_bytes())
                record = recorded_recovery(source.cosines)
                if record is None:
                    raise SystemExit("no record of the recovery")
                ways.append((dtype, factor, basis, np.load(source.cosines), record.noise))
    answers = []
    for name, factor, basis, coordinates, noise in ways:
        line: Figures = {"way": name, "factor": factor, "rank": basis.dims, "residual": noise.residual}
        for decoder in decoders:
            fitted = DECODERS[decoder]().fit(
                projected, coordinates, output_dims=DEFAULT_OUTPUT_DIMS, basis=basis
            )
            line[f"R2 {decoder}"] = r2_of_cosines(fitted, asked, originals)
        answers.append(line)
        say(str(line))
    return answers


def in_a_fresh_process(arguments: Sequence[str]) -> None:
    """Print one line of figures, with the memory that it took."""
    command = [sys.executable, "-m", "benchmarks.landmarks", *arguments, "--fresh"]
    show([json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)])


def show(lines: Sequence[Figures]) -> None:
    """Print figures as a table."""
    print(table(tuple(lines[0]), [[shown(value) for value in line.values()] for line in lines]))


def shown(value: float | str) -> str:
    """A cell."""
    if isinstance(value, str):
        return value
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.4g}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Generate or measure."""
    parser = argparse.ArgumentParser(description="Training from landmark columns.")
    commands = parser.add_subparsers(dest="command", required=True)
    made = commands.add_parser("generate", help="write a source")
    made.add_argument("--rows", type=int, default=1_000_000)
    made.add_argument("--dims", type=int, default=1536)
    made.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    recovered = commands.add_parser("recover", help="check a source")
    trained = commands.add_parser("train", help="train on a source")
    trained.add_argument("--max-rows", type=int, default=MAX_TRAINING_ROWS)
    sampled = commands.add_parser("sample", help="fit on samples of a source")
    sampled.add_argument("--sizes", type=sizes, default=[10_000, 30_000, 100_000])
    compared = commands.add_parser("quality", help="compare with the matrix")
    compared.add_argument("--decoders", default="mixture_kriging,kriging")
    compared.add_argument("--factors", default="0.6", help="bounds of eigenvalues, for float16 columns")
    for command in (made, recovered, trained, sampled, compared):
        command.add_argument("folder", type=Path)
        command.add_argument("--fresh", action="store_true", help=argparse.SUPPRESS)
    for command in (made, compared):
        command.add_argument("--landmarks", type=int, default=2048)
    for command in (recovered, trained, sampled):
        command.add_argument("--work", type=Path, required=True, help="data folder, for coordinates")
    for command in (trained, sampled):
        command.add_argument("--decoder", choices=list(DECODERS), default="mixture_kriging")
    options = parser.parse_args(arguments)
    if options.command == "generate":
        say(f"drawing {options.rows:,} rows")
        parameters = SampleParameters(rows=options.rows, dims=options.dims)
        generate(options.folder, parameters, options.landmarks, options.dtype)
    elif options.command == "sample":
        show(sample_sizes(options.folder, options.work, options.decoder, options.sizes))
    elif options.command == "quality":
        factors = [float(factor) for factor in options.factors.split(",")]
        show(quality(options.folder, options.decoders.split(","), options.landmarks, factors))
    elif not options.fresh:
        in_a_fresh_process(sys.argv[1:] if arguments is None else arguments)
    else:
        with watched_memory() as own:
            figures = (
                recover_and_check(options.folder, options.work)
                if options.command == "recover"
                else train_all(options.folder, options.work, options.decoder, options.max_rows)
            )
        memory = {"MB": highest_bytes() / MEGABYTE, "own MB": max(own) / MEGABYTE}
        print(json.dumps(figures | memory))


if __name__ == "__main__":
    main()
