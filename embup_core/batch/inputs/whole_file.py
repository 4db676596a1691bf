"""All rows of an input at once, for what needs few of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from embup_core.batch.inputs.formats import format_of, open_reader, row_remedy
from embup_core.batch.inputs.input_file import OpenInput, no_rows, open_input
from embup_core.errors import BadRowError
from embup_core.files.readable import close_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_CHUNK_ROWS = 1024


def read_rows(path: Path, *, input_dims: int) -> NDArray[np.float32]:
    """Read a file of projected embeddings, in the format of its ending: float32, shape (n, input_dims).

    Parameters
    ----------
    path
        Resolved: links are not followed.
    input_dims
        Numbers in a row.

    Raises
    ------
    InputFileError
        The file cannot be read, holds no rows, or is not what its ending says.
    BadRowError
        A row cannot be used.
    """
    descriptor = open_input(path)
    blocks = []
    try:
        reader = open_reader(OpenInput(path, descriptor, input_dims=input_dims, chunk_rows=_CHUNK_ROWS))
        while (block := reader.read_block()) is not None:
            if not block.rows:  # the reader passes over something; the rows come with the next one
                continue
            parsed = block.parse(input_dims)
            for bad in parsed.bad[:1]:
                raise BadRowError(
                    bad.line,
                    bad.reason,
                    bad.raw,
                    file=path,
                    unit=format_of(path).unit,
                    remedy=row_remedy(path),
                )
            blocks.append(parsed.rows)
    finally:
        close_file(descriptor)
    if not blocks:
        raise no_rows(path)
    return np.concatenate(blocks)
