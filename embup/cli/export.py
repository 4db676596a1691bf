"""`embup export`: decode a file into the store where vectors are searched."""

import os
from typing import Annotated, Literal

import typer

from embup.cli import options
from embup.cli.output import print_fields, print_json, progress, say

Store = Literal["lancedb", "qdrant", "pgvector", "milvus", "faiss", "parquet"]


def export(
    input_path: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="Projected embeddings, in any format of `embup upsample`: a path or s3://bucket/key.",
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Folder, file or address of the store: data/lance, http://…, postgresql://…",
        ),
    ],
    *,
    to: Annotated[Store, typer.Option("--to", help="The store.")],
    collection: Annotated[
        str,
        typer.Option("--collection", metavar="NAME", help="Collection or table; not for faiss and parquet."),
    ] = "embeddings",
    id_column: Annotated[
        str | None,
        typer.Option("--id-column", metavar="NAME", help="Column of ids; by default they are row numbers."),
    ] = None,
    columns: Annotated[
        str, typer.Option("--columns", metavar="A,B", help="Columns that are stored beside the vectors.")
    ] = "",
    payload: Annotated[
        str | None,
        typer.Option(
            "--payload",
            metavar="PARQUET",
            help="Where these columns are, a row for each row of IN; by default IN itself.",
        ),
    ] = None,
    first_id: Annotated[
        int, typer.Option("--first-id", min=0, help="Id of the first row, where ids are row numbers.")
    ] = 0,
    basis: options.Basis = "decoded",
    dims: Annotated[
        str,
        typer.Option(
            "--dims",
            metavar="all|mean|N",
            help="All dimensions, the regression alone, or the N leading ones.",
        ),
    ] = "all",
    dtype: Annotated[
        Literal["float32", "float16"], typer.Option("--dtype", help="Of the stored numbers.")
    ] = "float32",
    index: Annotated[
        Literal["exact", "hnsw"], typer.Option("--index", help="Compare each vector, or build a graph.")
    ] = "exact",
    on_bad_row: Annotated[
        Literal["fail", "skip"], typer.Option("--on-bad-row", help="Stop at a bad row, or leave it out.")
    ] = "fail",
    recreate: Annotated[
        bool, typer.Option("--recreate", help="Remove first what an export made there.")
    ] = False,
    commit_rows: Annotated[
        int,
        typer.Option("--commit-rows", min=128, help="Rows between two commits: the most that a kill costs."),
    ] = 4096,
    registry: options.Registry = options.REGISTRY,
    version: Annotated[
        str | None, typer.Option("--version", help="Version; by default the current one.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Decode a file and load it into a vector store.

    A row replaces the one of its id. Stopped or killed, the same command goes on where it stopped; after the
    last row it does nothing. Vectors of another basis are refused.
    """
    from embup_core.files.processes import ONE_MATH_THREAD, spare_cores

    os.environ.update(ONE_MATH_THREAD)  # before the libraries are loaded, which start their threads at once
    from embup_core.artifacts.remote import open_registry

    upsampler = open_registry(registry).load(version)
    with progress("exporting") as bar:
        done = upsampler.export(
            input_path,
            target,
            to=to,
            collection=collection,
            id_column=id_column,
            columns=tuple(name.strip() for name in columns.split(",") if name.strip()),
            payload=payload,
            first_id=first_id,
            basis=basis,
            dims=int(dims) if dims.isdecimal() else dims,
            dtype=dtype,
            index=index,
            on_bad_row=on_bad_row,
            recreate=recreate,
            commit_rows=commit_rows,
            processes=1 + spare_cores(),
            progress=bar,
        )
    for notice in done.notices:
        say(f"note: {notice}")
    for number, reason in done.refused:
        say(f"left out: row {number}: {reason}")
    space = done.state.space
    rows_per_s = done.written / done.elapsed_s
    if json:
        print_json(
            {
                "store": to,
                "collection": collection,
                "rows": done.rows,
                "written": done.written,
                "resumed_at": done.resumed_at,
                "left_out": done.left_out,
                "model_version": upsampler.version,
                "basis": space.basis,
                "basis_id": space.basis_id,
                "dims": space.dims,
                "elapsed_s": round(done.elapsed_s, 3),
                "index_s": round(done.index_s, 3),
                "rows_per_s": round(rows_per_s, 1),
            }
        )
        return
    print_fields(
        [
            ("rows", done.rows),
            ("written", done.written),
            ("left out", done.left_out),
            ("rows/s", f"{rows_per_s:.0f}"),
            ("model", upsampler.version),
            ("basis", f"{space.basis} {space.basis_id}"),
            ("dimensions", space.dims),
            ("index", index),
        ]
    )
