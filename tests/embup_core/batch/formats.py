"""Files of rows in every format of an input, and what outputs of every format hold."""

from __future__ import annotations

import gzip
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from embup_core.batch import check_request as check_request_of
from embup_core.text import row_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Rows = npt.NDArray[Any]

INPUT_DIMS = 32
OUTPUT_DIMS = 1536
check_request = partial(check_request_of, input_dims=INPUT_DIMS, output_dims=OUTPUT_DIMS)
ROW_GROUP_ROWS = 100


def random_rows(count: int, *, seed: int = 0) -> Rows:
    """Rows of float32, shape (count, 32)."""
    return np.random.default_rng(seed).standard_normal((count, INPUT_DIMS)).astype(np.float32)


def text_of(rows: Rows) -> bytes:
    """Rows as text that reads back as the same float32."""
    return b"".join(",".join(f"{value:.9g}" for value in row).encode() + b"\n" for row in rows)


def zstd(text: bytes) -> bytes:
    """A Zstandard frame."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(text)
    return bytes(sink.getvalue())


def save(path: Path, rows: Rows) -> None:
    """Write a NumPy file."""
    with path.open("wb") as file:
        np.save(file, rows)


def save_lists(path: Path, rows: Rows, kind: Any) -> None:
    """Write a Parquet file of one column of lists, beside one that is none."""
    lists = pa.array(list(rows.tolist()), type=kind)
    table = pa.table({"name": [f"row {index}" for index in range(len(rows))], "z": lists})
    pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS)


def save_columns(path: Path, rows: Rows) -> None:
    """Write a Parquet file of a column a value."""
    table = pa.table({f"z{index}": pa.array(column) for index, column in enumerate(rows.T)})
    pq.write_table(table, path, row_group_size=ROW_GROUP_ROWS)


INPUTS: dict[str, tuple[str, Callable[[Path, Rows], Any]]] = {
    "gzip": (".txt.gz", lambda path, rows: path.write_bytes(gzip.compress(text_of(rows)))),
    "gzip of csv": (".csv.GZ", lambda path, rows: path.write_bytes(gzip.compress(text_of(rows)))),
    "zstd": (".txt.zst", lambda path, rows: path.write_bytes(zstd(text_of(rows)))),
    "npy float32": (".npy", save),
    "npy float64": (".npy", lambda path, rows: save(path, rows.astype(np.float64))),
    "npy big-endian": (".npy", lambda path, rows: save(path, rows.astype(">f4"))),
    "parquet lists": (".parquet", lambda path, rows: save_lists(path, rows, pa.list_(pa.float32()))),
    "parquet large lists": (
        ".parquet",
        lambda path, rows: save_lists(path, rows, pa.large_list(pa.float64())),
    ),
    "parquet fixed lists": (
        ".parquet",
        lambda path, rows: save_lists(path, rows, pa.list_(pa.float32(), INPUT_DIMS)),
    ),
    "parquet tensors": (
        ".parquet",
        lambda path, rows: pq.write_table(
            pa.table({"z": pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(rows))}), path
        ),
    ),
    "parquet columns": (".parquet", save_columns),
}


def write_input(kind: str, folder: Path, rows: Rows) -> Path:
    """Write rows in one of the formats of `INPUTS`."""
    ending, write = INPUTS[kind]
    path = folder / f"in{ending}"
    write(path, rows)
    return path


def read_output(path: Path, dims: int) -> Rows:
    """Read an output of any format: float32, shape (n, dims)."""
    if path.suffix == ".npy":
        rows: Rows = np.load(path, mmap_mode="r")
    elif path.suffix == ".parquet":
        column = pq.read_table(path)["embedding"].combine_chunks()
        assert column.null_count == 0
        rows = column.flatten().to_numpy().reshape(-1, dims)
    else:
        assert path.stat().st_size % row_bytes(dims) == 0
        rows = np.loadtxt(path, delimiter=",", ndmin=2).astype(np.float32)
    assert rows.dtype == np.float32
    assert rows.shape[1:] == (dims,)
    return rows
