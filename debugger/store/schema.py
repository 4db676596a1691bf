"""The tables of a data set: which file has them, their columns, and what each means.

The meanings travel with the tables, as comments of the DuckDB file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION: Final = 1
CANDIDATES: Final = "STRUCT(label VARCHAR, confidence DOUBLE)[]"


class Column(NamedTuple):
    """One column.

    Attributes
    ----------
    name, kind, meaning
        Its name, type in DuckDB's SQL, and meaning in one line.
    """

    name: str
    kind: str
    meaning: str


class Table(NamedTuple):
    """One table.

    Attributes
    ----------
    name, meaning, columns
        Its name, meaning in one line, and columns in their order.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]


_ROW: Final = Column("row", "BIGINT NOT NULL", "number of the row, from 0")
_VERSION: Final = Column("version", "INTEGER NOT NULL", "run that wrote it, from 1")

DATASET: Final = Table(
    "dataset",
    "one row: what was imported",
    (
        Column("schema_version", "INTEGER NOT NULL", "form of these tables"),
        Column("name", "VARCHAR NOT NULL", "name of the data set"),
        Column("kind", "VARCHAR NOT NULL", "annotated, or source: training data of a decoder"),
        Column("source", "VARCHAR NOT NULL", "file or folder as it was named"),
        Column("format", "VARCHAR NOT NULL", "json, jsonl, csv, parquet or folder"),
        Column("sha256", "VARCHAR NOT NULL", "of the file; of both files of a folder"),
        Column("fields", "JSON NOT NULL", "field of the file by meaning"),
        Column("vectors", "JSON NOT NULL", "dimensions of the rows' vectors by name"),
        Column("records", "BIGINT NOT NULL", "records of the file, those that were skipped included"),
        Column("skipped", "BIGINT NOT NULL", "records that could not be imported"),
        Column("imported_at", "TIMESTAMP NOT NULL", "when, UTC"),
    ),
)
ROWS: Final = Table(
    "rows",
    "one row for each text or vector",
    (
        _ROW,
        Column("record", "BIGINT NOT NULL", "number of its record in the file, from 0"),
        Column("external_id", "VARCHAR", "id in the file"),
        Column("text", "VARCHAR", "the text"),
        Column("complete", "BOOLEAN NOT NULL", "whether people are done with it"),
        Column("usage", "VARCHAR", "train, validation or test; NULL for none"),
        Column("given_score", "DOUBLE", "active-learning score in the file; higher is less certain"),
        Column("group_name", "VARCHAR", "group in the file"),
    ),
)
LABELS: Final = Table(
    "labels",
    "labels as imported, of the rows that have one",
    (_ROW, Column("label", "VARCHAR NOT NULL", "the label")),
)
REFUSED: Final = Table(
    "refused",
    "records that were skipped at import",
    (
        Column("line", "BIGINT NOT NULL", "where in the file, from 1"),
        Column("field", "VARCHAR NOT NULL", "meaning at fault; empty for the record as a whole"),
        Column("reason", "VARCHAR NOT NULL", "what was expected and found"),
        Column("remedy", "VARCHAR NOT NULL", "what to do about it"),
    ),
)
PREDICTIONS: Final = Table(
    "predictions",
    "one row for each row and classifier",
    (
        _ROW,
        Column("source", "VARCHAR NOT NULL", "which classifier"),
        Column("label", "VARCHAR NOT NULL", "the likeliest label"),
        Column("confidence", "DOUBLE NOT NULL", "its probability"),
        Column("candidates", CANDIDATES, "likeliest labels, the first included"),
        Column("in_sample", "BOOLEAN NOT NULL", "whether the classifier was fitted on the row"),
        Column("predicted_at", "TIMESTAMP", "when, UTC"),
    ),
)
FAILURES: Final = Table(
    "prediction_failures",
    "rows that a classifier was asked about in vain",
    (
        _ROW,
        Column("source", "VARCHAR NOT NULL", "which classifier"),
        Column("reason", "VARCHAR NOT NULL", "why there is no prediction"),
        Column("failed_at", "TIMESTAMP", "when, UTC"),
    ),
)
ANALYSIS: Final = Table(
    "analysis",
    "one row: the run and the figures of the whole",
    (
        _VERSION,
        Column("summary", "JSON NOT NULL", "figures of the whole by name"),
        Column("seed", "BIGINT NOT NULL", "of what was drawn at random"),
        Column("review_seq", "BIGINT NOT NULL", "last review whose decision it knew; 0 for none"),
        Column("analysed_at", "TIMESTAMP NOT NULL", "when, UTC"),
        Column("took_s", "DOUBLE NOT NULL", "seconds that it took"),
    ),
)
SCORES: Final = Table(
    "scores",
    "one row for each row and kind of score",
    (
        _ROW,
        Column("kind", "VARCHAR NOT NULL", "such as label_error, entropy or pair_error"),
        Column("value", "DOUBLE NOT NULL", "the score; higher is worse or less certain"),
        Column("expected", "DOUBLE", "what was predicted for it, where something was"),
        _VERSION,
    ),
)
FINDINGS: Final = Table(
    "findings",
    "what there is to look at, most severe first",
    (
        Column("finding", "BIGINT NOT NULL", "number, from 1, in the order of importance"),
        Column("kind", "VARCHAR NOT NULL", "such as label_error or duplicate_across_usages"),
        Column("severity", "VARCHAR NOT NULL", "error, warning or note"),
        Column("title", "VARCHAR NOT NULL", "what was found"),
        Column("suggestion", "VARCHAR NOT NULL", "what to do"),
        Column("score", "DOUBLE", "ranks findings of a kind; higher is worse"),
        Column("evidence", "JSON NOT NULL", "figures and names that show it"),
        Column("rows", "BIGINT[] NOT NULL", "rows it is about, worst first"),
        Column("key", "VARCHAR NOT NULL", "hash of kind and rows: the same finding in another version"),
        _VERSION,
    ),
)
SLICES: Final = Table(
    "slices",
    "parts of the rows, and whether their errors are worse than those of the rest",
    (
        Column("partition", "VARCHAR NOT NULL", "what rows were divided by: cluster, group, label or usage"),
        Column("name", "VARCHAR NOT NULL", "the part"),
        Column("metric", "VARCHAR NOT NULL", "which error was compared"),
        Column("value", "DOUBLE", "its mean in the part"),
        Column("low", "DOUBLE", "lower end of its 95 % interval"),
        Column("high", "DOUBLE", "upper end"),
        Column("rest", "DOUBLE", "its mean over all other rows"),
        Column("p", "DOUBLE", "probability of such a difference by chance"),
        Column("q", "DOUBLE", "the same, corrected for how many slices were looked at"),
        Column("worse", "BOOLEAN NOT NULL", "whether it is significantly worse, and by enough to matter"),
        Column("rows", "BIGINT[] NOT NULL", "its rows"),
        _VERSION,
    ),
)
POSITIONS: Final = Table(
    "positions",
    "place of each row on the map",
    (_ROW, Column("x", "FLOAT NOT NULL", "across"), Column("y", "FLOAT NOT NULL", "up"), _VERSION),
)
NEIGHBOURS: Final = Table(
    "neighbours",
    "rows most like each row",
    (
        _ROW,
        Column("kind", "VARCHAR NOT NULL", "what they are alike in, such as embedding, originals or decoded"),
        Column("rank", "INTEGER NOT NULL", "1 is the nearest"),
        Column("other", "BIGINT NOT NULL", "the other row"),
        Column("cosine", "FLOAT NOT NULL", "of the two"),
        _VERSION,
    ),
)
REVIEWS: Final = Table(
    "reviews",
    "what people decided; only added to",
    (
        Column("seq", "BIGINT NOT NULL", "number, from 1, in the order of decision"),
        _ROW,
        Column("action", "VARCHAR NOT NULL", "relabel, confirm, drop, keep, annotate_next or undo"),
        Column("label", "VARCHAR", "new label of a relabel"),
        Column("note", "VARCHAR", "in the reviewer's words"),
        Column("reviewer", "VARCHAR NOT NULL", "who"),
        Column("version", "INTEGER", "analysis that was looked at; NULL where there was none"),
        Column("reviewed_at", "TIMESTAMP NOT NULL", "when, UTC"),
    ),
)
DECISIONS: Final = Table(
    "decisions",
    "the reviews that hold: the last one of each row that was not undone",
    REVIEWS.columns,
)

FILES: Final[Mapping[str, tuple[Table, ...]]] = {
    "dataset.duckdb": (DATASET, ROWS, LABELS, REFUSED),
    "predictions.duckdb": (PREDICTIONS, FAILURES),
    "analysis-VERSION.duckdb": (ANALYSIS, SCORES, FINDINGS, SLICES, PREDICTIONS, POSITIONS, NEIGHBOURS),
    "reviews.jsonl": (REVIEWS,),
}
"""The tables by file."""
OF_DATASET: Final = FILES["dataset.duckdb"]
OF_PREDICTIONS: Final = FILES["predictions.duckdb"]
OF_ANALYSIS: Final = FILES["analysis-VERSION.duckdb"]


def definition(table: Table, *, temporary: bool = False) -> str:
    """The statement that makes a table."""
    columns = ", ".join(f'"{column.name}" {column.kind}' for column in table.columns)
    return f'CREATE {"TEMP " if temporary else ""}TABLE "{table.name}" ({columns})'


def quoted(text: object) -> str:
    """A string literal of DuckDB's SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def reference() -> str:
    """The tables as Markdown."""
    parts = []
    for file, tables in FILES.items():
        parts.append(f"## `{file}`\n")
        for table in tables:
            columns = "\n".join(
                f"| `{column.name}` | {column.kind.replace(' NOT NULL', '')} | {column.meaning} |"
                for column in table.columns
            )
            parts.append(
                f"### {table.name}\n\n{table.meaning[0].upper()}{table.meaning[1:]}.\n\n"
                f"| column | type | meaning |\n|---|---|---|\n{columns}\n"
            )
    return "\n".join(parts)


if __name__ == "__main__":
    print(reference(), end="")  # noqa: T201  the table is what is asked for
