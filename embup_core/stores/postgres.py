"""PostgreSQL with pgvector: a table, and the table `embup_exports` with the state of each.

Rows and the state that counts them are committed together.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from embup_core.errors import OutputError
from embup_core.extras import extra_required
from embup_core.stores.store import ID, VECTOR, Found, made_elsewhere

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.stores.store import IndexKind

_STATES: Final = "embup_exports"
_MOST_INDEXED_DIMS: Final = {"vector": 2000, "halfvec": 4000}
_TYPES: Final = {
    "bool": "bool",
    "int8": "int2",
    "int16": "int2",
    "int32": "int4",
    "int64": "int8",
    "float": "float4",
    "double": "float8",
}
"""PostgreSQL's types of Arrow's; all other columns are text."""


class PostgresStore:
    """One table.

    Parameters
    ----------
    target
        Address of the database, `postgresql://user@host/name`; the password is best in PGPASSWORD or
        ~/.pgpass. The database has the extension `vector`, or the user may create it.
    collection
        Name of the table.
    index
        "hnsw" builds a graph at the end.
    """

    errors: tuple[type[Exception], ...]

    def __init__(self, target: str, collection: str, index: IndexKind) -> None:
        with extra_required():
            import psycopg
            from pgvector.psycopg import register_vector
            from psycopg import sql

        self.errors = (psycopg.Error, ValueError)
        self._sql = sql
        self._name = collection
        self._table = sql.Identifier(collection)
        self._index = index
        self._columns: dict[str, str] = {}
        try:
            self._connection = psycopg.connect(target)
        except psycopg.ProgrammingError:  # which repeats what it cannot read, perhaps of the password
            raise OutputError(
                "Expected an address such as postgresql://user@host/database, found another form.",
                remedy="Give one; the password is best in PGPASSWORD.",
            ) from None
        except psycopg.Error as error:
            raise OutputError(
                f"The database cannot be reached ({str(error).strip()}).", remedy="Check the address."
            ) from error
        try:
            self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            self._run("CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, state jsonb NOT NULL)", _STATES)
            self._connection.commit()
            register_vector(self._connection)
        except psycopg.Error as error:
            self._connection.close()
            raise OutputError(
                f"The database cannot be prepared ({str(error).strip()}).",
                remedy="Install pgvector, and let an administrator run CREATE EXTENSION vector.",
            ) from error

    def _run(self, query: str, *names: str, **values: Any) -> Any:
        """Run a statement, its {} filled with identifiers."""
        composed = self._sql.SQL(query).format(*(self._sql.Identifier(name) for name in names))
        return self._connection.execute(composed, values or None)

    def _exists(self) -> bool:
        found = self._connection.execute(
            "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = current_schema() AND tablename = %s",
            [self._name],
        )
        return found.fetchone() is not None

    def read_state(self) -> dict[str, Any] | None:
        """See `VectorStore.read_state`."""
        row = self._run("SELECT state FROM {} WHERE name = %(name)s", _STATES, name=self._name).fetchone()
        there = self._exists()
        self._connection.commit()
        if not there:  # a state alone is left of a table that somebody dropped
            return None
        if row is None:
            raise made_elsewhere(f"The table {self._name}")
        state: dict[str, Any] = row[0]
        return state

    def drop(self) -> None:
        """See `VectorStore.drop`."""
        self._run("DROP TABLE IF EXISTS {}", self._name)
        self._run("DELETE FROM {} WHERE name = %(name)s", _STATES, name=self._name)
        self._connection.commit()

    def open(self, schema: Any, state: dict[str, Any]) -> None:
        """See `VectorStore.open`."""
        dims = schema.field(VECTOR).type.list_size
        kind = "halfvec" if str(schema.field(VECTOR).type.value_type) == "halffloat" else "vector"
        if self._index == "hnsw" and dims > _MOST_INDEXED_DIMS[kind]:
            raise OutputError(
                f"Expected at most {_MOST_INDEXED_DIMS[kind]} dimensions for an index, found {dims}.",
                remedy="Export fewer with --dims, or with --dtype float16.",
            )
        self._columns = {field.name: _TYPES.get(str(field.type), "text") for field in schema}
        self._columns[VECTOR] = kind
        if not self._exists():
            sql = self._sql
            declared = sql.SQL(", ").join(
                sql.SQL("{} {}").format(
                    sql.Identifier(name), sql.SQL(f"vector_kind({dims})".replace("vector_kind", found))
                )
                if name == VECTOR
                else sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(found))
                for name, found in self._columns.items()
            )
            self._connection.execute(
                sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(
                    self._table, declared, sql.Identifier(ID)
                )
            )
            self._store(state)
        self._connection.execute(
            self._sql.SQL("CREATE TEMPORARY TABLE embup_rows (LIKE {})").format(self._table)
        )
        self._connection.commit()

    def upsert(self, batch: Any) -> None:
        """See `VectorStore.upsert`."""
        from pgvector import HalfVector, Vector

        sql = self._sql
        wrapped = HalfVector if self._columns[VECTOR] == "halfvec" else Vector
        names = list(self._columns)
        columns = [
            list(map(wrapped, batch[name].flatten().to_numpy().reshape(batch.num_rows, -1)))
            if name == VECTOR
            else batch[name].to_pylist()
            for name in names
        ]
        with self._connection.cursor() as cursor:
            cursor.execute("TRUNCATE embup_rows")
            with cursor.copy("COPY embup_rows FROM STDIN WITH (FORMAT BINARY)") as copy:
                copy.set_types(list(self._columns.values()))
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
            replaced = sql.SQL(", ").join(
                sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in names if name != ID
            )
            cursor.execute(
                sql.SQL("INSERT INTO {} SELECT * FROM embup_rows ON CONFLICT ({}) DO UPDATE SET {}").format(
                    self._table, sql.Identifier(ID), replaced
                )
            )

    def write_state(self, state: dict[str, Any]) -> None:
        """See `VectorStore.write_state`."""
        self._store(state)
        self._connection.commit()

    def _store(self, state: dict[str, Any]) -> None:
        self._run(
            "INSERT INTO {} VALUES (%(name)s, %(state)s)"
            " ON CONFLICT (name) DO UPDATE SET state = EXCLUDED.state",
            _STATES,
            name=self._name,
            state=json.dumps(state),
        )

    def finish(self) -> None:
        """See `VectorStore.finish`."""
        if self._index == "hnsw":
            self._connection.execute(
                self._sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} USING hnsw ({} {})").format(
                    self._sql.Identifier(f"{self._name}_embup_hnsw"),
                    self._table,
                    self._sql.Identifier(VECTOR),
                    self._sql.SQL(f"{self._columns[VECTOR]}_ip_ops"),
                )
            )
        self._connection.commit()

    def count(self) -> int:
        """See `VectorStore.count`."""
        row = self._run("SELECT count(*) FROM {}", self._name).fetchone()
        self._connection.commit()
        return int(row[0])

    def search(self, queries: NDArray[np.float32], k: int) -> Found:
        """See `VectorStore.search`."""
        from pgvector import HalfVector, Vector

        found = self._connection.execute(
            "SELECT atttypid::regtype::text FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
            [f'"{self._name}"', VECTOR],
        ).fetchone()
        wrapped = HalfVector if found is not None and found[0] == "halfvec" else Vector
        statement = self._sql.SQL(
            "SELECT {0}, -({1} <#> %(q)s) FROM {2} ORDER BY {1} <#> %(q)s LIMIT %(k)s"
        ).format(self._sql.Identifier(ID), self._sql.Identifier(VECTOR), self._table)
        ids, products = [], []
        for query in queries:
            rows = self._connection.execute(statement, {"q": wrapped(query), "k": k}).fetchall()
            ids.append([row[0] for row in rows])
            products.append([row[1] for row in rows])
        self._connection.commit()
        return Found(ids, products)

    def close(self) -> None:
        """See `VectorStore.close`."""
        self._connection.close()
