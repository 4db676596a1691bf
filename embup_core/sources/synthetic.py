"""Generated training data: deterministic, offline, and alike to real embeddings where decoders care.

What is imitated are statistics of ada-002 embeddings of text: a mean vector that holds 69 % of the length (so
cosines lie around 0.69), cosines that spread by 0.037 to the right more than to the left, a spectrum whose
largest component has 4 % of the variance and whose first 425 have 90 %, and near neighbours at a cosine of
about 0.9. Rows are drawn from a tree: topics, sub-topics, passages, rows. Upper levels live in few directions
and lower ones in many, so a linear map recovers the upper levels only, a local decoder also what neighbours
share.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from embup_core.blocks import row_blocks
from embup_core.dims import DEFAULT_INPUT_DIMS, DEFAULT_OUTPUT_DIMS
from embup_core.errors import SourceUnavailableError
from embup_core.sources.files import COSINES_FILE, PROJECTED_FILE, SourceFiles

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.progress import Progress

Float32: TypeAlias = npt.NDArray[np.float32]

GENERATOR_VERSION = 2
"""Raise it with any change that alters the bytes; the cache is keyed by it."""

BLOCK_ROWS = 512


@dataclass(frozen=True)
class Level:
    """One level of the tree.

    Parameters
    ----------
    share
        Share of a row's variance that this level brings.
    branches
        Children of each node of the level above; 0 stands for one node a row.
    decay, floor
        Standard deviation of component k falls as ``(k + floor) ** -decay``.
    """

    share: float
    branches: int
    decay: float
    floor: float


@dataclass(frozen=True)
class SampleParameters:
    """What the sample depends on; equal parameters give equal files.

    Parameters
    ----------
    rows
        Training rows, at least 100.
    dims
        Dimensions of the originals.
    mean_share
        Squared length of the mean vector, which is about the mean cosine.
    topic_evenness
        Concentration of the Dirichlet distribution of topic sizes; smaller is more uneven.
    levels
        Topics, sub-topics, passages, rows.
    seed
        Of all random draws.
    """

    rows: int = 4000
    dims: int = DEFAULT_OUTPUT_DIMS
    mean_share: float = 0.683
    topic_evenness: float = 1.5
    levels: tuple[Level, ...] = (
        Level(share=0.38, branches=60, decay=1.0, floor=24.0),
        Level(share=0.26, branches=5, decay=1.0, floor=40.0),
        Level(share=0.15, branches=5, decay=0.6, floor=60.0),
        Level(share=0.21, branches=0, decay=0.42, floor=60.0),
    )
    seed: int = 0

    def key(self) -> str:
        """Eight hexadecimal digits that name these parameters and this generator."""
        text = json.dumps([GENERATOR_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def draw_originals(parameters: SampleParameters) -> Float32:
    """Draw the original embeddings.

    Returns
    -------
    float32, shape (rows, dims), unit rows
    """
    rng = np.random.default_rng(parameters.seed)
    rows, free_dims = parameters.rows, parameters.dims - 1  # the first axis is the mean's
    x = np.empty((rows, parameters.dims), np.float32)
    x[:, 0] = np.sqrt(parameters.mean_share)
    x[:, 1:] = 0

    node = np.zeros(rows, np.int64)
    nodes = 1
    for depth, level in enumerate(parameters.levels):
        if level.branches == 0:
            nodes, node = rows, np.arange(rows)
        else:
            weights = None if depth else rng.dirichlet(np.full(level.branches, parameters.topic_evenness))
            node = node * level.branches + rng.choice(level.branches, rows, p=weights)
            nodes *= level.branches
        deviation = (np.arange(free_dims) + level.floor) ** -level.decay
        deviation *= np.sqrt((1 - parameters.mean_share) * level.share) / np.linalg.norm(deviation)
        vectors = rng.standard_normal((nodes, free_dims), np.float32) * deviation.astype(np.float32)
        x[:, 1:] += vectors[node]

    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def project(x: Float32, *, seed: int, dims: int = DEFAULT_INPUT_DIMS) -> Float32:
    """Apply a random affine map and normalise.

    Parameters
    ----------
    x
        float32, shape (n, d).
    seed
        Of the map.
    dims
        Dimensions to keep.

    Returns
    -------
    float32, shape (n, dims), unit rows
    """
    rng = np.random.default_rng([seed, 1])
    linear = rng.standard_normal((x.shape[1], dims)) / np.sqrt(x.shape[1])
    offset = rng.standard_normal(dims) * 0.02
    z = x @ linear + offset
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return np.asarray(z, np.float32)


def write_cosines(path: Path, x: Float32, progress: Callable[[int, int], None] | None = None) -> None:
    """Write the cosines of all pairs of rows block by block, as ``.npy`` of shape (n, n), float32.

    Parameters
    ----------
    path
        File to create.
    x
        float32, shape (n, d), unit rows.
    progress
        Called with rows done and rows in all.
    """
    n = len(x)
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, n))
    with path.open("r+b") as file:
        # Reserved at once: a mapped file that outgrows its disk ends the process without a word.
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    for block in row_blocks(n, BLOCK_ROWS):
        matrix[block] = x[block] @ x.T
        if progress:
            progress(block.stop, n)
    np.fill_diagonal(matrix, 1)
    matrix.flush()


def generate_sample(
    cache_dir: Path,
    *,
    parameters: SampleParameters | None = None,
    progress: Progress | None = None,
) -> SourceFiles:
    """Give the sample's two files, generating them unless they are in the cache.

    The folder is written beside and renamed, so it holds both files or does not exist.

    Parameters
    ----------
    cache_dir
        Where generated data is kept; created when missing.
    parameters
        What to generate; the defaults make 4,000 rows and 64 MB.
    progress
        Called with a label, rows done and rows in all.

    Raises
    ------
    SourceUnavailableError
        The files cannot be written.
    """
    parameters = parameters or SampleParameters()
    name = "sample" if parameters.rows == SampleParameters.rows else f"sample:{parameters.rows}"
    folder = cache_dir / f"sample-{parameters.rows}-{parameters.key()}"
    files = SourceFiles(folder / PROJECTED_FILE, folder / COSINES_FILE, name)
    if folder.is_dir():
        return files

    try:
        return _generated(folder, files, parameters, progress)
    except OSError as error:
        raise SourceUnavailableError(
            f"the sample of {parameters.rows} rows cannot be written to {cache_dir}: {error.strerror}; "
            f"it takes {4 * parameters.rows**2 / 1e9:.2f} GB.",
            remedy="Make room, name another data folder, or ask for fewer rows.",
        ) from error


def _generated(
    folder: Path,
    files: SourceFiles,
    parameters: SampleParameters,
    progress: Progress | None,
) -> SourceFiles:
    """Generate into a folder beside, and rename it."""
    cache_dir = folder.parent
    cache_dir.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=cache_dir))
    try:
        with threadpool_limits(1):  # the bytes, and so the fingerprint, would depend on the number of threads
            x = draw_originals(parameters)
            np.save(staged / PROJECTED_FILE, project(x, seed=parameters.seed))
            write_cosines(
                staged / COSINES_FILE,
                x,
                (lambda done, total: progress("generating the sample", done, total)) if progress else None,
            )
        staged.chmod(0o755)  # mkdtemp's folder is for its owner alone
        try:
            staged.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same bytes
                raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return files
