"""Blocks of the input to bytes of the output: parsed, decoded, encoded. No file is touched here."""

from __future__ import annotations

from time import thread_time
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from embup_core.batch.statistics import BatchStatistics

if TYPE_CHECKING:
    from embup_core.batch.outputs.encoding import Bytes, RowEncoder
    from embup_core.text.parser import BadRow, ParsedRows

Float32Rows = npt.NDArray[np.float32]

# The last bits of a matrix product depend on its row count, and one row takes another route altogether.
_FEWEST_DECODED_ROWS: Final = 2


class RowUpsampler(Protocol):
    """What a batch needs of an upsampler."""

    @property
    def version(self) -> str:
        """The published model's name."""

    @property
    def input_dims(self) -> int:
        """Values of a short row."""

    @property
    def output_dims(self) -> int:
        """Values of a long row."""

    def upsample(self, z: Float32Rows, /) -> tuple[Float32Rows, npt.NDArray[np.float32]]:
        """Return unit rows, shape (n, output_dims), and a confidence each, for z of shape (n, input_dims)."""


class RowBlock(Protocol):
    """Consecutive rows of the input, not yet looked into."""

    @property
    def rows(self) -> int:
        """How many there are."""

    @property
    def first_line(self) -> int:
        """The number of the first one, from 1."""

    @property
    def end_offset(self) -> int:
        """Where the next block starts, in its reader's own measure."""

    @property
    def bytes_done(self) -> int:
        """How far into the input file that is."""

    @property
    def why_empty(self) -> str:
        """For a block without rows: what the row at hand will be refused for, if that is known."""

    def parse(self, dims: int) -> ParsedRows:
        """Return the rows, shape (rows, dims), and the refused ones."""


class BlockDecoder:
    """Answers blocks, one at a time.

    Parameters
    ----------
    upsampler
        The decoder.
    encoder
        The output's format.
    low_confidence
        Rows below it are counted apart.
    """

    def __init__(
        self,
        upsampler: RowUpsampler,
        encoder: RowEncoder,
        *,
        low_confidence: float = 0.0,
    ) -> None:
        self._upsampler = upsampler
        self._low_confidence = low_confidence
        self.encoder = encoder

    def answer(self, block: RowBlock, out: Bytes) -> tuple[tuple[BadRow, ...], BatchStatistics]:
        """Write the block's answer, row by row, into `out`; return the refused rows and what it took.

        Parameters
        ----------
        block
            At least one row.
        out
            uint8, shape (block.rows * row_bytes,), C-contiguous.
        """
        began = thread_time()  # without pauses: a frozen process has no processor time
        parsed = block.parse(self._upsampler.input_dims)
        count, dims = parsed.rows.shape
        refused = [bad.index_in_chunk for bad in parsed.bad]
        answers = out.reshape(count, self.encoder.row_bytes)
        decoding = formatting = thread_time()
        statistics = BatchStatistics(parse_s=decoding - began)
        if len(refused) < count:
            # Refused rows are decoded as some direction: the count, on which the others' bits depend, stays.
            z = np.full((max(count, _FEWEST_DECODED_ROWS), dims), dims**-0.5, dtype=np.float32)
            z[:count] = parsed.rows
            z[refused] = dims**-0.5
            vectors, confidence = self._upsampler.upsample(z)
            good = np.delete(np.arange(count), refused) if refused else slice(count)
            statistics.add_rows(z[good], confidence[good], self._low_confidence)
            formatting = thread_time()
            self.encoder.encode(vectors[:count], answers)
        for row in refused:
            self.encoder.encode_refused(answers[row : row + 1])
        statistics.decode_s = formatting - decoding
        statistics.format_s = thread_time() - formatting
        return parsed.bad, statistics
