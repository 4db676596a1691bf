"""Rows in blocks: the working memory of a few hundred rows, however many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_ROWS = 256


def row_blocks(rows: int, block_rows: int = BLOCK_ROWS) -> Iterator[slice]:
    """Slices that cover `rows` rows in order, each of `block_rows` but the last."""
    return (slice(start, min(start + block_rows, rows)) for start in range(0, rows, block_rows))
