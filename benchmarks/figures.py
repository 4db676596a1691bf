"""What benchmarks of decoders share: rows to fit on, how fast a decoder decodes, tables that line up."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.blocks import BLOCK_ROWS
from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.geometry.landmark_source import recovered_originals, with_coordinates
from embup_core.sources import load_projected, load_row_labels, resolve_source
from embup_core.sources.cosine_matrix import CosineMatrix
from embup_core.training.split import RowSplit, SplitBy, split_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder

TIMED_BLOCKS = 12
TIMED_ROWS = 300
MEGABYTE = 1e6


def run_on_one_core() -> None:
    """Begin again with one thread, unless it is so: libraries read the number when they are loaded."""
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "OMP_NUM_THREADS": "1"})  # noqa: S606


def import_what_fits() -> None:
    """Bring in what fits import, and what that imports when it is first used: no fit is charged for it."""
    import sklearn.cluster
    import torch

    sklearn.cluster.MiniBatchKMeans(2, n_init=1).fit(np.eye(4))
    weight = torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.AdamW([weight], fused=True)
    torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.1, total_steps=2)
    weight.sum().backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@dataclass(frozen=True)
class Rows:
    """Rows of a source, and which of them are looked at.

    Attributes
    ----------
    projected
        z of all rows: float32, shape (N, 32).
    coordinates
        c of all rows: float32, shape (N, r).
    matrix
        True cosines of all rows.
    taken
        Row numbers that are looked at, sorted: int64, shape (n,).
    groups
        Which group each of the N rows belongs to; None where the source does not say.
    """

    projected: NDArray[np.float32]
    coordinates: NDArray[np.float32]
    matrix: CosineMatrix
    taken: NDArray[np.int64]
    groups: NDArray[Any] | None

    @classmethod
    def of(cls, source: str, *, cache_dir: Path, rows: int | None = None) -> Rows:
        """Open a source as `embup train` does, and take all its rows or some at random."""
        files = resolve_source(source, cache_dir=cache_dir)
        files = with_coordinates(files, cache_dir, output_dims=DEFAULT_OUTPUT_DIMS)
        projected = load_projected(files.projected)
        matrix = CosineMatrix.open(files.cosines)
        order = np.random.default_rng(0).permutation(len(projected))
        return cls(
            projected,
            recovered_originals(files, matrix, output_dims=DEFAULT_OUTPUT_DIMS)[0],
            matrix,
            np.sort(order[:rows]),
            None if files.groups is None else load_row_labels(files.groups, rows=len(projected)),
        )

    def split(self, by: SplitBy, seed: int) -> RowSplit:
        """The rows taken, divided; the numbers are those of all rows."""
        groups = None if self.groups is None else self.groups[self.taken]
        parts = split_rows(len(self.taken), groups, split=by, seed=seed)
        return RowSplit(self.taken[parts.train], self.taken[parts.validation], self.taken[parts.test], by)


@dataclass(frozen=True)
class Speed:
    """How fast a decoder decodes.

    Attributes
    ----------
    rows_per_s
        In blocks of 256 rows, median.
    one_row_ms
        Of a row that comes alone, median.
    """

    rows_per_s: float
    one_row_ms: float

    @classmethod
    def of(cls, decoder: Decoder, projected: NDArray[np.float32]) -> Speed:
        """Time a fitted decoder on rows like these: float32, shape (n, 32)."""
        return cls.of_each([decoder], projected)[0]

    @classmethod
    def of_each(cls, decoders: Sequence[Decoder], projected: NDArray[np.float32]) -> list[Speed]:
        """Time decoders in turns, so that a busy moment of the machine hits all."""
        turns = np.resize(np.arange(len(projected)), TIMED_BLOCKS * BLOCK_ROWS)
        blocks = projected[turns].reshape(TIMED_BLOCKS, BLOCK_ROWS, -1)
        for decoder in decoders:
            decoder.predict(blocks[0])
        block_s = _median_s(decoders, blocks)
        row_s = _median_s(decoders, projected[turns[:TIMED_ROWS], None])
        return [
            cls(BLOCK_ROWS / of_block, 1e3 * of_row) for of_block, of_row in zip(block_s, row_s, strict=True)
        ]


def _median_s(decoders: Sequence[Decoder], calls: Iterable[NDArray[np.float32]]) -> list[float]:
    seconds: list[list[float]] = [[] for _ in decoders]
    for rows in calls:
        for decoder, taken in zip(decoders, seconds, strict=True):
            started_s = time.perf_counter()
            decoder.predict(rows)
            taken.append(time.perf_counter() - started_s)
    return [float(np.median(taken)) for taken in seconds]


def setting(text: str) -> tuple[str, Any]:
    """A name and a value; what is no JSON is taken as a string."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown whose cells line up: the first column to the left, numbers to the right."""
    widths = [max(len(row[place]) for row in (columns, *rows)) for place in range(len(columns))]

    def line(cells: Sequence[str]) -> str:
        first, *numbers = cells
        padded = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True)]
        return f"| {' | '.join([first.ljust(widths[0]), *padded])} |"

    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([line(columns), f"|{rule}|", *map(line, rows)])


def say(text: str) -> None:
    """Tell a person how far it is, apart from the figures."""
    print(text, file=sys.stderr, flush=True)
