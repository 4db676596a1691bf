"""What fewer bytes a training row and a faster search cost: storage, search, and the student beside them.

    python -m benchmarks.storage [--source DIR] [--decoder mixture_kriging]
                                 [--student student|none] [--rows N] [--set NAME=VALUE ...]

The decoder is fitted once on training rows; what it learned is then kept in each storage and searched in each
way that its settings know. R2 is over pairs of validation rows, "lost" against the first line. Recall is the
share of the true nearest rows that the search finds, of as many as the decoder looks at. All on one core.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np

from benchmarks.figures import MEGABYTE, Rows, Speed, import_what_fits, run_on_one_core, say, setting, table
from embup_core.artifacts.artifact import decoder_bytes
from embup_core.decoders import DECODERS
from embup_core.decoders.parts.neighbours import NearestRows
from embup_core.decoders.parts.quantized_residuals import QuantizedResiduals
from embup_core.errors import EmbupError
from embup_core.evaluation import evaluate_decoder
from embup_core.training.split import SplitBy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.decoders import Decoder
    from embup_core.training.split import RowSplit

COLUMNS = ("search", "MB", "R2", "R2 lost", "recall", "rows/s", "one row ms")
IN_FULL = {"storage": "float32", "search": "exact"}


def values_of(decoder_type: type[Decoder], name: str) -> tuple[str, ...]:
    """What a setting may be, the value in full first; nothing where there is no such setting."""
    found = get_args(get_type_hints(decoder_type.__init__).get(name))
    return tuple(sorted(found, key=lambda value: value != IN_FULL[name]))


def kept_as(decoder: Decoder, storage: str, search: str) -> Decoder:
    """A decoder that was fitted in full, with its table in another storage and its rows in another search."""
    arrays = decoder.arrays()
    arrays |= QuantizedResiduals.from_rows(arrays["residuals"], storage).arrays()  # type: ignore[arg-type]  # by name
    settings = {**decoder.settings(), "storage": storage, "search": search}
    return type(decoder).from_arrays(settings, arrays)


def recall(points: NDArray[np.float32], asked: NDArray[np.float32], search: Any, k: int) -> float:
    """Share of the k nearest points that a search finds."""
    true, _, _ = NearestRows(points).query(asked, k)
    found, _, _ = NearestRows(points, search).query(asked, k)
    return float((true[:, :, None] == found[:, None, :]).any(axis=2).mean())


def r2(decoder: Decoder, rows: Rows, parts: RowSplit) -> float:
    """Of the cosines between validation rows."""
    return evaluate_decoder(
        decoder,
        rows.projected,
        rows.matrix,
        fit_rows=parts.train,
        eval_rows=parts.validation,
        intervals=False,
    ).test_test.r2


def fitted(name: str, settings: dict[str, Any], rows: Rows, parts: RowSplit) -> Decoder:
    """The decoder with those of the settings that it has, fitted on training rows."""
    say(f"fitting {name} on {len(parts.train):,} rows")
    known = inspect.signature(DECODERS[name]).parameters
    decoder = DECODERS[name](**{key: value for key, value in settings.items() if key in known})
    return decoder.fit(rows.projected[parts.train], rows.coordinates[parts.train])


def compared(name: str, student: str | None, settings: dict[str, Any], rows: Rows) -> list[list[str]]:
    """The lines of the table."""
    import_what_fits()
    parts = rows.split(SplitBy.rows, 0)
    full = fitted(name, settings | IN_FULL, rows, parts)
    arrays, neighbours = full.arrays(), full.settings()["neighbours"]
    asked = (rows.projected[parts.validation] - arrays["centre"]) / np.float32(arrays["scale"][0])
    kept: list[tuple[str, str, str, Decoder]] = []  # with what its line begins
    for search in values_of(type(full), "search"):
        found = recall(arrays["points"], asked, search, neighbours)
        kept += [
            (f"{name}, {storage}", search, f"{found:.4f}", kept_as(full, storage, search))
            for storage in values_of(type(full), "storage")
        ]
    if student:
        kept.append((student, "none", "-", fitted(student, settings, rows, parts)))
    speeds = Speed.of_each([decoder for *_, decoder in kept], rows.projected[parts.validation])
    lines: list[list[str]] = []
    best = None
    for (label, search, found_share, decoder), speed in zip(kept, speeds, strict=True):
        say(f"  comparing {label}, search {search}")
        reached = r2(decoder, rows, parts)
        best = reached if best is None else best
        lines.append(
            [
                label,
                search,
                f"{len(decoder_bytes(decoder)) / MEGABYTE:.1f}",
                f"{reached:.4f}",
                f"{best - reached:+.4f}",
                found_share,
                f"{speed.rows_per_s:,.0f}",
                f"{speed.one_row_ms:.2f}",
            ]
        )
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    with_tables = [name for name, kind in DECODERS.items() if values_of(kind, "storage")]
    parser = argparse.ArgumentParser(description="Bytes and speed of a decoder's training rows.")
    parser.add_argument("--source", default="sample", help="folder, two URLs, or sample[:ROWS]")
    parser.add_argument("--decoder", choices=with_tables, default=with_tables[-1])
    parser.add_argument("--student", choices=["student", "none"], default="student", help="beside it")
    parser.add_argument("--rows", type=int, help="take so many rows at random; default: all")
    parser.add_argument("--set", type=setting, action="append", default=[], help="a setting of the decoders")
    parser.add_argument("--cache", type=Path, default=Path("data/sources"), help="for samples and downloads")
    options = parser.parse_args(arguments)
    student = None if options.student == "none" else options.student
    try:
        rows = Rows.of(options.source, cache_dir=options.cache, rows=options.rows)
        lines = compared(options.decoder, student, dict(options.set), rows)
    except EmbupError as error:
        parser.error(str(error))
    print(table(["", *COLUMNS], lines))


if __name__ == "__main__":
    run_on_one_core()
    main()
