"""Which versions are needed by batches that have not ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embup_core.errors import InputFileError

if TYPE_CHECKING:
    from pathlib import Path

_PINNED = """
SELECT DISTINCT model_version FROM batch_jobs
WHERE model_version IS NOT NULL AND phase NOT IN ('COMPLETED', 'FAILED', 'CANCELLED')
"""


def pinned_versions(data: Path) -> list[str]:
    """Versions that unfinished batches of a service decode with, sorted.

    They are read from the history that the service publishes at each change of a batch. A batch that is
    queued names no version: it will take the one in service.

    Parameters
    ----------
    data
        The service's data folder. Where no service has run, nothing is pinned.

    Raises
    ------
    InputFileError
        The history cannot be read.
    """
    path = data / "history" / "history.duckdb"
    if not path.exists():
        return []
    import duckdb

    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return sorted(row[0] for row in connection.execute(_PINNED).fetchall())
    except duckdb.Error as error:
        raise InputFileError(
            f"{path}: expected the history of batches, which says what versions they need, found what cannot "
            f"be read ({error}).",
            remedy="Nothing is removed. The service publishes it anew when it starts.",
        ) from error
