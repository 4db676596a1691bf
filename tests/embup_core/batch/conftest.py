"""A small second upsampler, and files of rows for it: the engine's tests need no trained decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pytest

from embup_core.batch import BatchSpec

if TYPE_CHECKING:
    from pathlib import Path

Rows = npt.NDArray[np.float32]

INPUT_DIMS = 32
OUTPUT_DIMS = 48


class RandomMapUpsampler:
    """A random linear map, normalised. Refuses what the real one refuses."""

    version = "20260101-000000-00000000"
    input_dims = INPUT_DIMS
    output_dims = OUTPUT_DIMS

    def __init__(self) -> None:
        generator = np.random.default_rng(7)
        self._map = generator.standard_normal((INPUT_DIMS, OUTPUT_DIMS)).astype(np.float32)
        self.row_counts: list[int] = []

    def upsample(self, z: Rows) -> tuple[Rows, Rows]:
        """Decode rows; `row_counts` remembers how many at once."""
        assert z.dtype == np.float32
        assert np.isfinite(z).all()
        assert z.any(axis=1).all()
        self.row_counts.append(len(z))
        rows = (z / np.linalg.norm(z, axis=1, keepdims=True)) @ self._map
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows.astype(np.float32), np.ones(len(z), np.float32)


@pytest.fixture
def random_map() -> RandomMapUpsampler:
    return RandomMapUpsampler()


class WriteRows(Protocol):
    """Write `count` good rows, `changed` by 1-based line, and return the batch on them."""

    def __call__(
        self,
        count: int,
        changed: dict[int, str] | None = None,
        *,
        on_bad_row: Literal["fail", "nan"] = "fail",
        overwrite: bool = False,
    ) -> BatchSpec: ...


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    def write(
        count: int,
        changed: dict[int, str] | None = None,
        *,
        on_bad_row: Literal["fail", "nan"] = "fail",
        overwrite: bool = False,
    ) -> BatchSpec:
        rows = np.random.default_rng(count).standard_normal((count, INPUT_DIMS))
        lines = [",".join(f"{value:.8f}" for value in row) for row in rows]
        for line, text in (changed or {}).items():
            lines[line - 1] = text
        (tmp_path / "in.txt").write_text("\n".join(lines) + "\n")
        return BatchSpec(tmp_path / "in.txt", tmp_path / "out.txt", on_bad_row, overwrite)

    return write
