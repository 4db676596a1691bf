"""Text in and out: the formatter against orjson, Polars and np.savetxt, and the parser against its rivals.

Run as ``OMP_NUM_THREADS=1 python -m benchmarks.text``. Rounds are interleaved in a changing order, so
that a busy moment of the machine hits all rivals; figures are medians. Polars and orjson are wanted for
this alone.
"""

from __future__ import annotations

import io
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.csv

from embup_core.text import format_rows, parse_rows
from embup_core.text.parser import _parse_line_by_line

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 15
ROWS = 64
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

    def write_csv() -> str:
        frame = pl.DataFrame(rows, schema=[str(i) for i in range(rows.shape[1])], orient="row")
        return frame.write_csv(include_header=False, float_precision=8)

    return {
        "embup": lambda: format_rows(rows),
        "orjson": lambda: orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY),
        "polars write_csv": write_csv,
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
        "embup (msgspec JSON)": lambda: parse_rows(block).rows,
        "orjson, unchecked": orjson_loads,
        "pyarrow string cast": arrow_cast,
        "pyarrow.csv": arrow_csv,
        "polars read_csv": polars_csv,
        "np.loadtxt": loadtxt,
        "embup, line by line": lambda: _parse_line_by_line(block, SHORT_DIMS, 1).rows,
    }


def print_ratios(title: str, medians: dict[str, float]) -> None:
    """Print how many times the time of the first rival each other takes."""
    ours, *others = medians
    ratios = ", ".join(f"{name} {medians[name] / medians[ours]:.1f}x" for name in others)
    print(f"{title}: {ours} 1, {ratios}")


def main() -> None:
    """Measure and print; ratios last."""
    rows = unit_rows(ROWS, LONG_DIMS)
    ratios: list[tuple[str, dict[str, float]]] = []
    medians = medians_s(formatters(rows))
    print(f"format {ROWS} x {LONG_DIMS} float32, one call")
    for name, seconds in medians.items():
        print(f"  {name:22} {seconds * 1e3:8.2f} ms  {rows.size / seconds / 1e6:7.1f} M numbers/s")
    ratios.append(("format", medians))
    for number_format in ("%.8f", "%.18e"):
        text = io.BytesIO()
        np.savetxt(text, unit_rows(ROWS, SHORT_DIMS), fmt=number_format, delimiter=",")
        rivals = parsers(text.getvalue())
        medians = medians_s(rivals, PARSES_A_ROUND)
        print(f"parse {ROWS} x {SHORT_DIMS} of {number_format}, one call")
        for name, seconds in medians.items():
            speed = ROWS * SHORT_DIMS / seconds / 1e6
            print(f"  {name:22} {seconds * 1e6:8.0f} µs  {speed:7.1f} M numbers/s")
        ratios.append((f"parse {number_format}", medians))
    for title, values in ratios:
        print_ratios(title, values)


if __name__ == "__main__":
    main()
