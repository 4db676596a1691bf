"""The two tables that people query: which columns they have, how each is made, and what it means.

The meanings travel with the tables, as comments of a DuckDB file, so that every client can read them.
"""

from __future__ import annotations

from typing import NamedTuple

from serving.jobs.model import Phase


class Column(NamedTuple):
    """One column.

    Attributes
    ----------
    name
        In the published table.
    meaning
        In one line.
    expression
        Over the job database's table of the same name; the column of this name where it is empty.
    """

    name: str
    meaning: str
    expression: str = ""


class PublishedTable(NamedTuple):
    """One table, of the same name as in the job database.

    Attributes
    ----------
    name, meaning
        Of the table.
    parquet
        Name of the file that has it as Parquet.
    columns
        In their order.
    """

    name: str
    meaning: str
    parquet: str
    columns: tuple[Column, ...]

    @property
    def query(self) -> str:
        """The rows, from the job database; a condition and an order may follow."""
        columns = ", ".join(
            f"{column.expression} AS {column.name}" if column.expression else column.name
            for column in self.columns
        )
        return f"SELECT {columns} FROM {self.name}"  # noqa: S608 - words of our own


_STATUS = " ".join(f"WHEN '{phase}' THEN '{phase.request_status}'" for phase in Phase)

JOBS = PublishedTable(
    "batch_jobs",
    "one row a batch",
    "jobs.parquet",
    (
        Column("batch_request_id", "id that the submission returned"),
        Column(
            "status",
            "COMPLETED, IN PROGRESS or FAILED, as a status request says",
            f"CASE phase {_STATUS} END",
        ),
        Column("phase", "QUEUED, RUNNING, FINALIZING, COMPLETED, FAILED or CANCELLED"),
        Column("input_filepath", "file that is read"),
        Column("output_filepath", "file that appears when the batch is complete"),
        Column("num_records_processed", "rows that are durable in the output, failed ones included"),
        Column("failed_rows", "rows that are lines of nan, because their input could not be decoded"),
        Column("bytes_done", "bytes of the input behind those rows"),
        Column("bytes_total", "bytes of the input"),
        Column(
            "rows_per_second",
            "rows over running_s, pauses included",
            "CASE WHEN running_s > 0 THEN num_records_processed / running_s END",
        ),
        Column("running_s", "seconds of work in all attempts, pauses included"),
        Column("paused_s", "seconds of them in which realtime requests paused it"),
        Column("pause_count", "how often it was paused"),
        Column("attempts", "how often it was started or resumed"),
        Column("worker_deaths", "how often the process that computes its rows was killed"),
        Column("on_bad_row", "fail or nan, as asked for"),
        Column("overwrite", "whether an older output may be replaced"),
        Column("max_bad_rows", "rows of nan that are accepted: a count, or a share below 1; NULL for any"),
        Column("basis", "axes of its rows: decoded or original"),
        Column("model_version", "decoder of all its rows; NULL before it started"),
        Column("idempotency_key", "key that came with the submission"),
        Column("submitted_at", "when it was accepted, UTC"),
        Column("started_at", "when it first started, UTC"),
        Column("updated_at", "when this row last changed, UTC"),
        Column("finished_at", "when it ended, UTC; NULL while it is queued or runs"),
        Column("error", "why it failed, in words"),
        Column("error_code", "why it failed, for programs: bad_row, no_space, cancelled, …"),
        Column("error_line", "line of the input that made it fail"),
        Column("error_remedy", "what to do about it"),
    ),
)

EVENTS = PublishedTable(
    "batch_events",
    "one row for each thing that happened to a batch",
    "events.parquet",
    (
        Column("event_id", "rises with time, with gaps"),
        Column("batch_request_id", "which batch"),
        Column("occurred_at", "when, UTC"),
        Column("kind", "what, such as submitted, started, resumed or completed"),
        Column("phase", "phase of the batch after it"),
        Column("num_records_processed", "durable rows of the batch at that time"),
        Column("message", "details"),
    ),
)
