"""Text in and out: the formatter against orjson, Polars and np.savetxt, and the parser against its rivals.

    python -m benchmarks.text

Rounds are interleaved in a changing order, so that a busy moment of the machine hits all rivals; figures are
medians. All on one core. The last line is the figure.
"""

from __future__ import annotations

import io
import os
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from benchmarks.figures import run_on_one_core
from embup_core.text import format_rows, parse_rows, row_bytes
from embup_core.text.parser import _parse_line_by_line

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
FORMATTED_ROWS = 256
PARSED_ROWS = 64
LONG_DIMS = 1536
SHORT_DIMS = 32
PARSES_A_ROUND = 10

Rivals = dict[str, "Callable[[], object]"]


def unit_rows(count: int, dims: int) -> Any:
    """Make float32 rows, shape (count, dims), of unit length."""
    rows = np.random.default_rng(0).standard_normal((count, dims))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def medians_s(rivals: Rivals, calls: int = 1) -> dict[str, float]:
    """Seconds of one call of each rival."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    names = list(rivals)
    shuffler = random.Random(0)
    for _ in range(ROUNDS):
        # What ran before leaves caches and heap as it likes: each rival follows each other one.
        shuffler.shuffle(names)
        for name in names:
            rival = rivals[name]
            start = time.perf_counter()
            for _ in range(calls):
                rival()
            seconds[name].append((time.perf_counter() - start) / calls)
    return {name: statistics.median(values) for name, values in seconds.items()}


def formatters(rows: Any) -> Rivals:
    """Ways to turn rows into bytes that os.write takes, eight decimals or more; the lengths differ."""
    import orjson
    import polars as pl

    def savetxt() -> bytes:
        text = io.BytesIO()
        np.savetxt(text, rows, fmt="%.8f", delimiter=",")
        return text.getvalue()

    names = [str(i) for i in range(rows.shape[1])]
    frame = pl.DataFrame(np.asfortranarray(rows), schema=names, orient="row")

    def write_csv(decimals: int | None) -> str:
        return frame.write_csv(include_header=False, float_precision=decimals)

    at_hand = np.empty(len(rows) * row_bytes(rows.shape[1]), np.uint8)
    return {
        "embup": lambda: format_rows(rows, at_hand),
        "embup, new memory": lambda: format_rows(rows),
        "orjson": lambda: orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY),
        "polars write_csv": lambda: write_csv(8),
        "polars, shortest": lambda: write_csv(None),
        "np.savetxt": savetxt,
    }


def parsers(block: bytes) -> Rivals:
    """Ways to turn a block of good lines into float32 rows; only ours gives reasons for bad ones."""
    import orjson
    import polars as pl

    names = [str(i) for i in range(SHORT_DIMS)]
    read = pyarrow.csv.ReadOptions(use_threads=False, column_names=names)
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.float64()), null_values=[])
    schema = dict.fromkeys(names, pl.Float64)

    def arrow_csv() -> Any:
        table = pyarrow.csv.read_csv(pa.BufferReader(block), read, convert_options=convert)
        return np.stack([column.to_numpy() for column in table.columns], axis=1).astype(np.float32)

    def arrow_cast() -> Any:
        separators = np.flatnonzero(np.isin(np.frombuffer(block, np.uint8), (ord(","), ord("\n"))))
        starts = np.append(0, separators + 1).astype(np.int32)
        buffers = [None, pa.py_buffer(starts), pa.py_buffer(block)]
        values = pa.Array.from_buffers(pa.string(), len(separators), buffers)
        numbers = pa.compute.ascii_trim(values, ", \n").cast(pa.float64())
        return numbers.to_numpy().reshape(-1, SHORT_DIMS).astype(np.float32)

    def polars_csv() -> Any:
        return pl.read_csv(block, has_header=False, schema=schema).to_numpy().astype(np.float32)

    def orjson_loads() -> Any:
        rows = orjson.loads(b"[[" + block[:-1].replace(b"\n", b"],[") + b"]]")
        return np.array(rows, dtype=np.float64).astype(np.float32)

    def loadtxt() -> Any:
        return np.loadtxt(io.BytesIO(block), delimiter=",").astype(np.float32)

    return {
        "embup (msgspec JSON)": lambda: parse_rows(block, dims=SHORT_DIMS).rows,
        "orjson, unchecked": orjson_loads,
        "pyarrow string cast": arrow_cast,
        "pyarrow.csv": arrow_csv,
        "polars read_csv": polars_csv,
        "np.loadtxt": loadtxt,
        "embup, line by line": lambda: _parse_line_by_line(block, SHORT_DIMS, 1).rows,
    }


def ratios(medians: dict[str, float]) -> str:
    """How many times the time of the first rival each other takes."""
    ours, *others = medians
    return ", ".join(f"{medians[name] / medians[ours]:.1f} x {name}" for name in others)


def main() -> None:
    """Measure and print."""
    rows = unit_rows(FORMATTED_ROWS, LONG_DIMS)
    figures = []
    medians = medians_s(formatters(rows))
    print(f"format {FORMATTED_ROWS} x {LONG_DIMS} float32, one call")
    for name, seconds in medians.items():
        print(f"  {name:22} {seconds * 1e3:8.2f} ms  {rows.size / seconds / 1e6:7.1f} M numbers/s")
    speed = rows.size / medians["embup"] / 1e6
    figures.append(f"format {speed:.0f} M numbers/s, {ratios(medians)}")
    for number_format in ("%.8f", "%.18e"):
        text = io.BytesIO()
        np.savetxt(text, unit_rows(PARSED_ROWS, SHORT_DIMS), fmt=number_format, delimiter=",")
        rivals = parsers(text.getvalue())
        medians = medians_s(rivals, PARSES_A_ROUND)
        print(f"parse {PARSED_ROWS} x {SHORT_DIMS} of {number_format}, one call")
        for name, seconds in medians.items():
            speed = PARSED_ROWS * SHORT_DIMS / seconds / 1e6
            print(f"  {name:22} {seconds * 1e6:8.0f} µs  {speed:7.1f} M numbers/s")
        figures.append(f"parse {number_format} {ratios(medians)}")
    print(f"text: {'; '.join(figures)}")


if __name__ == "__main__":
    os.environ["POLARS_MAX_THREADS"] = "1"
    run_on_one_core()
    main()
