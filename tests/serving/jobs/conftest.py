"""The batch engine's small upsampler and its files of rows, for the confinement of batch files."""

from tests.embup_core.batch.conftest import random_map, write_rows

__all__ = ["random_map", "write_rows"]
