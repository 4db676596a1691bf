"""What happened to one batch, read from the job database; for `JobStore.call`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from serving.jobs.model import JobEvent

if TYPE_CHECKING:
    from serving.jobs.storage.tables import JobTables

_COLUMNS = JobEvent.__struct_fields__


def read_events(tables: JobTables, batch_request_id: str, limit: int) -> list[JobEvent]:
    """List the last things that happened to a batch, in their order.

    Parameters
    ----------
    tables
        In the hands of the store's thread.
    batch_request_id
        Of which batch.
    limit
        Most of them.
    """
    # Two statements without ORDER BY and LIMIT: see `JobTables`.
    last = f"SELECT list_min(max(event_id, {limit:d})) FROM batch_events WHERE batch_request_id = ?"  # noqa: S608
    found: list[tuple[int | None]] = tables.connection.execute(last, [batch_request_id]).fetchall()
    first = found[0][0]
    if first is None:
        return []
    query = f"SELECT {', '.join(_COLUMNS)} FROM batch_events WHERE batch_request_id = ? AND event_id >= ?"  # noqa: S608
    rows = tables.connection.execute(query, [batch_request_id, first]).fetchall()
    events = [msgspec.convert(dict(zip(_COLUMNS, row, strict=True)), JobEvent) for row in rows]
    return sorted(events, key=lambda event: event.event_id)
