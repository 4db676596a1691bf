"""The text format of embeddings: one row a line, values separated by commas.

`formatter` writes rows with a fixed width, `parser` reads a block of lines, `reader` streams a file of
any length in chunks of whole lines. Nothing here knows of decoders or jobs.
"""

from embup_core.text.formatter import (
    VALUE_BYTES,
    format_json_row,
    format_json_rows,
    format_nan_row,
    format_rows,
    row_bytes,
)
from embup_core.text.parser import MAX_LINE_BYTES, BadRow, ParsedRows, parse_rows
from embup_core.text.reader import Block, FileText, LineReader

__all__ = [
    "MAX_LINE_BYTES",
    "VALUE_BYTES",
    "BadRow",
    "Block",
    "FileText",
    "LineReader",
    "ParsedRows",
    "format_json_row",
    "format_json_rows",
    "format_nan_row",
    "format_rows",
    "parse_rows",
    "row_bytes",
]
