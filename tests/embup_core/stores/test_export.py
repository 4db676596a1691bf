"""Exports into each store: what is there afterwards, again, after kills, and what is refused."""

from __future__ import annotations

import copy
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embup_core.artifacts.registry import Registry
from embup_core.errors import (
    BadRowError,
    InputError,
    InputFileError,
    InvalidArgumentError,
    NoAnchorsError,
    OutputError,
)
from embup_core.object_store import ObjectStore
from embup_core.stores.faiss_folder import FaissIndex
from embup_core.stores.store import State
from embup_core.stores.vectors import query_of_originals
from embup_core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.stores.kinds import StoreKind
    from embup_core.upsampler import Upsampler
    from tests.conftest import AnchoredSource
    from tests.embup_core.stores.conftest import Place
    from tests.s3 import S3Server

KILLED = """
import os, signal, sys
from embup_core.stores import kinds
opened, left = kinds.open_store, int(sys.argv.pop(1))
def open_store(*args, **named):
    global left
    store = opened(*args, **named)
    upsert = store.upsert
    def upsert_and_die(batch):
        global left
        upsert(batch)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    store.upsert = upsert_and_die
    return store
from embup_core.stores import export
export.open_store = open_store
from embup.cli.main import app
app(prog_name="embup")
"""


@pytest.fixture(scope="session")
def model(anchored_registry: Registry) -> Upsampler:
    """A decoder with anchors: 16 to 100 dimensions."""
    return anchored_registry.load()


def state_in(place: Place) -> State:
    """What a store says of its collection."""
    store = place.open()
    found = State.from_json(store.read_state(), where="")
    store.close()
    return found


def ids_in(place: Place, vectors: np.ndarray) -> list[Any]:
    """The nearest row of each vector, as the store finds it."""
    store = place.open()
    found = [ids[0] for ids in store.search(vectors, 1).ids]
    store.close()
    return found


def count_in(place: Place) -> int:
    """How many rows a store has."""
    store = place.open()
    count = store.count()
    store.close()
    return count


def test_every_row_is_there_once_with_its_vector(
    place: Place, model: Upsampler, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    z = anchored_source.unseen_projected
    np.save(tmp_path / "in.npy", z)
    done = model.export(tmp_path / "in.npy", place.target, to=place.kind, commit_rows=128)
    assert (done.rows, done.written, done.left_out, done.resumed_at) == (400, 400, 0, 0)
    vectors = model.upsample(z)[0]
    assert count_in(place) == 400
    assert ids_in(place, vectors) == list(range(400))
    store = place.open()
    found = store.search(vectors[:5], 10)
    store.close()
    for row, products in enumerate(found.products):
        np.testing.assert_allclose(products, vectors[found.ids[row]] @ vectors[row], atol=1e-5)
    again = model.export(tmp_path / "in.npy", place.target, to=place.kind)
    assert (again.rows, again.written, again.resumed_at) == (400, 0, 400)
    state = state_in(place)
    assert state.model_versions == (model.version,)
    assert (state.space.basis, state.space.basis_id, state.space.dims) == ("decoded", model.basis_id, 100)


@pytest.mark.parametrize("id_column", ["key", "number"])
def test_ids_and_payload_come_from_columns(
    place: Place, id_column: str, model: Upsampler, archive: Path, anchored_source: AnchoredSource
) -> None:
    columns = ("language", "weight", "checked")
    more: dict[str, Any] = {"to": place.kind, "id_column": id_column, "columns": columns, "commit_rows": 128}
    if place.kind == "milvus":
        with pytest.raises(OutputError):  # Milvus Lite has no float16
            model.export(archive, place.target, **more, dtype="float16")
        model.export(archive, place.target, **more)
    else:
        model.export(archive, place.target, **more, dtype="float16")
    vectors, confidence = model.upsample(anchored_source.unseen_projected)
    table = pq.read_table(archive)
    assert ids_in(place, vectors[:50]) == table[id_column].to_pylist()[:50]
    rows = payload_in(place)
    assert len(rows) == 400
    for row in range(0, 400, 13):
        found = rows[table[id_column][row].as_py()]
        assert {name: found[name] for name in columns} == {name: table[name][row].as_py() for name in columns}
        assert found["confidence"] == pytest.approx(confidence[row], abs=1e-6)


def payload_in(place: Place) -> dict[Any, dict[str, Any]]:
    """All rows by their ids, as each store's own package reads them."""
    store: Any = place.open()
    if place.kind == "lancedb":
        rows = store._opened().to_arrow().to_pylist()
    elif place.kind == "qdrant":
        rows = [point.payload for point in store._client.scroll("embeddings", limit=1000)[0]]
    elif place.kind == "milvus":
        store._client.load_collection("embeddings")
        rows = store._client.query("embeddings", filter="", limit=1000, output_fields=["*"])
    elif place.kind == "pgvector":
        cursor = store._connection.execute("SELECT * FROM embeddings")
        rows = [dict(zip([one.name for one in cursor.description], row, strict=True)) for row in cursor]
    elif place.kind == "faiss":
        rows = FaissIndex.load(place.target).table.to_pylist()
    else:
        rows = [row for table in store.read_parts() for row in table.to_pylist()]
    store.close()
    return {row["id"]: row for row in rows}


def test_a_killed_export_goes_on_and_no_row_is_lost_or_doubled(
    place: Place,
    model: Upsampler,
    anchored_registry: Registry,
    anchored_source: AnchoredSource,
    tmp_path: Path,
) -> None:
    """SIGKILL after rows were written and before they are counted, through the real command line."""
    killed_at = 2
    z = np.concatenate([anchored_source.unseen_projected] * 2)
    z[400:] += 0.05 * np.random.default_rng(0).standard_normal(z[400:].shape).astype(np.float32)
    np.save(tmp_path / "in.npy", z)
    command = [
        *("export", str(tmp_path / "in.npy"), place.target, "--to", place.kind, "--commit-rows", "256"),
        *("--registry", str(anchored_registry.root), "--json"),
    ]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed_at), *command], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert state_in(place).progress.rows == 256 * (killed_at - 1)
    said = subprocess.run(
        [sys.executable, "-m", "embup.cli", *command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert said.returncode == 0, said.stderr
    assert f'"resumed_at": {256 * (killed_at - 1)}' in said.stdout
    assert '"rows": 800' in said.stdout
    assert count_in(place) == 800
    assert ids_in(place, model.upsample(z)[0]) == list(range(800))
    assert state_in(place).progress.complete


def test_another_input_replaces_rows_of_the_same_ids(
    place: Place, model: Upsampler, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    z = anchored_source.unseen_projected
    np.save(tmp_path / "old.npy", z[:300])
    np.save(tmp_path / "new.npy", z[350:])
    model.export(tmp_path / "old.npy", place.target, to=place.kind)
    if place.kind in {"faiss", "parquet"}:
        with pytest.raises(OutputError):
            model.export(tmp_path / "new.npy", place.target, to=place.kind, first_id=10)
        return
    model.export(tmp_path / "new.npy", place.target, to=place.kind, first_id=10)
    assert count_in(place) == 300
    assert ids_in(place, model.upsample(z[350:])[0]) == list(range(10, 60))
    model.export(tmp_path / "new.npy", place.target, to=place.kind, first_id=300)
    assert count_in(place) == 350


def test_vectors_of_another_basis_or_kind_are_refused(
    place: Place, model: Upsampler, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    np.save(tmp_path / "in.npy", anchored_source.unseen_projected[:200])
    kwargs: dict[str, Any] = {"to": place.kind}
    model.export(tmp_path / "in.npy", place.target, **kwargs)
    other = copy.copy(model)
    other.basis_id = "0" * 16
    for upsampler, more in (
        (model, {"basis": "original"}),
        (model, {"dims": 50}),
        (model, {"dtype": "float16"}),
        (other, {}),
    ):
        with pytest.raises(OutputError) as refused:
            upsampler.export(tmp_path / "in.npy", place.target, **kwargs, **more)
        assert refused.value.code == "basis_conflict"
        assert "--recreate" in refused.value.remedy
    assert count_in(place) == 200
    done = other.export(tmp_path / "in.npy", place.target, **kwargs, recreate=True)
    assert done.written == 200
    assert state_in(place).space.basis_id == other.basis_id


def test_a_version_of_the_same_basis_replaces_the_rows(
    place_of: Callable[[StoreKind], Place],
    model: Upsampler,
    anchored_registry: Registry,
    anchored_source: AnchoredSource,
    tmp_path: Path,
) -> None:
    shutil.copytree(anchored_registry.root, tmp_path / "registry")
    registry = Registry(tmp_path / "registry")
    train(
        anchored_source.files.name,
        decoder="linear_residual",
        output_dims=100,
        registry=registry,
        promote=True,
    )
    newer = registry.load()
    assert (newer.version != model.version, newer.basis_id) == (True, model.basis_id)
    place = place_of("lancedb")
    np.save(tmp_path / "in.npy", anchored_source.unseen_projected)
    model.export(tmp_path / "in.npy", place.target, to="lancedb")
    done = newer.export(tmp_path / "in.npy", place.target, to="lancedb")
    assert (done.written, count_in(place)) == (400, 400)
    assert state_in(place).model_versions == (model.version, newer.version)


def test_what_something_else_made_is_left_alone(place: Place, model: Upsampler, archive: Path) -> None:
    """With --recreate as well."""
    there = make_elsewhere(place)
    for recreate in (False, True):
        with pytest.raises(OutputError) as refused:
            model.export(archive, place.target, to=place.kind, recreate=recreate)
        assert "--recreate" not in refused.value.remedy
    assert there()


def make_elsewhere(place: Place) -> Callable[[], bool]:
    """Make what exports would take by default without one; return what tells whether it is still there."""
    folder = Path(place.target)
    if place.kind in {"faiss", "parquet"}:
        mine = folder / "mine.txt"
        folder.mkdir()
        mine.write_text("mine")
        return mine.exists
    store: Any = place.open()
    if place.kind == "lancedb":
        store._database.create_table("embeddings", data=[{"id": 1}])
    elif place.kind == "qdrant":
        store._client.create_collection("embeddings", vectors_config={})
    elif place.kind == "milvus":
        store._client.create_collection("embeddings", dimension=4)
    else:
        store._connection.execute("CREATE TABLE embeddings (id int8 PRIMARY KEY)")
        store._connection.commit()
    store.close()

    def there() -> bool:
        store: Any = place.open()
        with pytest.raises(OutputError):  # it is there, and no export made it
            store.read_state()
        store.close()
        return True

    return there


@pytest.mark.parametrize("kind", ["lancedb", "pgvector"])
def test_a_table_that_was_dropped_is_exported_again(
    kind: StoreKind,
    place_of: Callable[[StoreKind], Place],
    model: Upsampler,
    archive: Path,
) -> None:
    """The state lies in a table of its own, and outlives it."""
    place = place_of(kind)
    model.export(archive, place.target, to=kind)
    store: Any = place.open()
    if kind == "lancedb":
        store._database.drop_table("embeddings")
    else:
        store._connection.execute("DROP TABLE embeddings")
        store._connection.commit()
    store.close()
    assert model.export(archive, place.target, to=kind).written == 400
    assert count_in(place) == 400


@pytest.mark.parametrize("kind", ["lancedb", "qdrant", "faiss", "parquet"])
def test_a_second_export_into_a_folder_waits_for_the_first(
    kind: StoreKind,
    place_of: Callable[[StoreKind], Place],
    model: Upsampler,
    archive: Path,
) -> None:
    """Rows of both would be doubled in LanceDB, and parts overwritten in files."""
    place, refused = place_of(kind), []

    def meanwhile(*_: object) -> None:
        for recreate in (False, True):
            with pytest.raises(OutputError) as error:
                model.export(archive, place.target, to=kind, recreate=recreate)
            refused.append(error.value)

    model.export(archive, place.target, to=kind, commit_rows=128, progress=meanwhile)
    assert refused
    assert count_in(place) == 400
    model.export(archive, place.target, to=kind)


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("lancedb", "file/folder"),
        ("qdrant", "file/folder"),
        ("milvus", "file/name.db"),
        ("faiss", "file/folder"),
        ("parquet", "file"),
        ("qdrant", "ftp://user:s3cret@localhost"),
        ("milvus", "http://user:s3cret@localhost:1"),
        ("milvus", "ftp://user:s3cret@localhost"),
        ("pgvector", "postgresql://user:s3cret%ft@localhost:1/name"),
        ("pgvector", "postgresql://user:s3cret@localhost:1/name"),
        ("pgvector", "host=localhost port=1 password=my s3cret"),
    ],
)
def test_a_store_that_cannot_be_opened_is_a_problem_that_keeps_secrets(
    kind: StoreKind, target: str, model: Upsampler, archive: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError) as refused:
        model.export(archive, target if "localhost" in target else tmp_path / target, to=kind)
    assert "s3cret" not in f"{refused.value} {refused.value.remedy}"


def test_objects_of_a_bucket_are_exported(
    s3: S3Server, model: Upsampler, anchored_registry: Registry, archive: Path, tmp_path: Path
) -> None:
    """Input and payload, through the command line, whose workers are forked."""
    bucket = ObjectStore(s3.new_bucket())
    bucket.write("short.parquet", archive.read_bytes())
    command = [
        *(sys.executable, "-m", "embup.cli", "export", f"{bucket.address}/short.parquet"),
        *(str(tmp_path / "out"), "--to", "faiss", "--registry", str(anchored_registry.root)),
        *("--id-column", "key", "--payload", f"{bucket.address}/short.parquet", "--columns", "language"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    model.export(archive, tmp_path / "local", to="faiss", id_column="key", columns=("language",))
    assert FaissIndex.load(tmp_path / "out").table == FaissIndex.load(tmp_path / "local").table
    with pytest.raises(InputFileError):
        model.export(f"{bucket.address}/missing.npy", tmp_path / "more", to="faiss")


def test_bad_rows_stop_the_export_or_are_left_out(
    place: Place, model: Upsampler, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    z = anchored_source.unseen_projected[:300].copy()
    z[[150, 200]] = np.nan
    np.save(tmp_path / "in.npy", z)
    with pytest.raises(BadRowError) as refused:
        model.export(tmp_path / "in.npy", place.target, to=place.kind, commit_rows=128)
    assert refused.value.line == 151
    done = model.export(tmp_path / "in.npy", place.target, to=place.kind, on_bad_row="skip", commit_rows=128)
    assert (done.rows, done.left_out, [number for number, _ in done.refused]) == (298, 2, [151, 201])
    assert done.resumed_at == 128
    assert count_in(place) == 298
    good = np.delete(np.arange(300), [150, 200])
    assert ids_in(place, model.upsample(z[good])[0]) == good.tolist()


def test_an_input_without_a_good_row_is_refused(model: Upsampler, tmp_path: Path) -> None:
    np.save(tmp_path / "in.npy", np.zeros((200, 16), np.float32))
    with pytest.raises(InputFileError) as refused:
        model.export(tmp_path / "in.npy", tmp_path / "out", to="faiss", on_bad_row="skip")
    assert refused.value.code == "no_good_row"


def test_the_last_row_of_an_id_counts(
    place_of: Callable[[StoreKind], Place], model: Upsampler, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    z = anchored_source.unseen_projected[:300]
    path = tmp_path / "twice.parquet"
    ids = np.concatenate([np.arange(250), np.arange(50)])  # within a batch and in two of them
    pq.write_table(
        pa.table({"z": pa.FixedSizeListArray.from_arrays(pa.array(z.reshape(-1)), 16), "key": ids}), path
    )
    vectors = model.upsample(z)[0]
    for kind in ("lancedb", "pgvector", "faiss"):
        for commit_rows in (128, 4096):
            place = place_of(kind)
            model.export(
                path, place.target, to=place.kind, id_column="key", commit_rows=commit_rows, recreate=True
            )
            assert count_in(place) == 250
            assert ids_in(place, vectors[250:]) == list(range(50))


@pytest.mark.parametrize("dims", ["mean", 20])
def test_parts_of_the_vectors_and_their_queries(
    dims: Any,
    place_of: Callable[[StoreKind], Place],
    model: Upsampler,
    anchored_source: AnchoredSource,
    tmp_path: Path,
) -> None:
    place = place_of("lancedb")
    z, originals = anchored_source.unseen_projected, anchored_source.unseen_originals
    np.save(tmp_path / "in.npy", z[:200])
    done = model.export(tmp_path / "in.npy", place.target, to="lancedb", dims=dims)
    count = model.mean_dims if dims == "mean" else dims
    assert done.state.space.dims == count
    query = query_of_originals(model, done.state.space, originals[200:])
    means = model.upsample(z[:200])[0][:, :count]
    rotated = (originals[200:] @ model.anchor_rotation().T)[:, :count]
    np.testing.assert_allclose(query, rotated, atol=1e-6)
    store = place.open()
    found = store.search(query, 10)
    store.close()
    np.testing.assert_allclose(found.products, np.sort(rotated @ means.T)[:, ::-1][:, :10], atol=1e-5)


def test_fresh_originals_are_predicted_alike_in_all_kinds_of_vectors(
    model: Upsampler, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    """The regression alone answers them, whichever basis it is stored in; the complement adds noise."""
    z, x = anchored_source.unseen_projected, anchored_source.unseen_originals
    np.save(tmp_path / "in.npy", z[:200])
    true = x[200:] @ x[:200].T
    r2 = {}
    for basis, dims in (("decoded", "all"), ("decoded", "mean"), ("original", "mean"), ("original", "all")):
        folder = tmp_path / f"{basis}-{dims}"
        done = model.export(tmp_path / "in.npy", folder, to="faiss", basis=basis, dims=dims)  # type: ignore[arg-type]
        query = query_of_originals(model, done.state.space, x[200:])
        places, products = FaissIndex.load(folder).search(query, 200)
        cosines = np.empty_like(true)
        np.put_along_axis(cosines, places, products, axis=1)
        r2[basis, dims] = 1 - np.square(cosines - true).mean() / true.var()
    alike = [r2["decoded", "all"], r2["decoded", "mean"], r2["original", "mean"]]
    assert max(alike) - min(alike) < 1e-4
    assert min(alike) > 0.8
    assert r2["original", "all"] < min(alike)


def test_requests_that_make_no_sense_are_refused(
    model: Upsampler, upsampler: Upsampler, archive: Path, tmp_path: Path
) -> None:
    def refused(kind: type[Exception], decoder: Upsampler = model, to: str = "parquet", **more: Any) -> None:
        with pytest.raises(kind):
            decoder.export(archive, tmp_path / f"out{'.db' * (to == 'milvus')}", to=to, **more)  # type: ignore[arg-type]

    refused(InvalidArgumentError, dims=101)
    refused(InvalidArgumentError, dims="half")
    refused(InvalidArgumentError, dims=50, basis="original")
    refused(NoAnchorsError, upsampler, basis="original")
    refused(InputFileError, columns=("nothing",))
    refused(InputFileError, columns=("embedding",))
    refused(InputFileError, id_column="weight")
    refused(InputFileError, id_column="id")  # there is none; exports have a column of this name
    refused(OutputError, index="hnsw")
    refused(OutputError, to="qdrant", index="hnsw")
    for collection in ("a table; drop", "embup_exports", "embup_rows", "embeddings__embup"):
        refused(OutputError, to="lancedb", collection=collection)
    refused(InputFileError, upsampler)  # rows of other dimensions
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_a_payload_that_changes_meanwhile_is_noticed(model: Upsampler, archive: Path, tmp_path: Path) -> None:
    shutil.copy(archive, tmp_path / "payload.parquet")

    def touch(*_: object) -> None:
        os.utime(tmp_path / "payload.parquet", ns=(1, 1))

    more: dict[str, Any] = {"payload": tmp_path / "payload.parquet", "id_column": "key", "commit_rows": 128}
    with pytest.raises(InputFileError) as refused:
        model.export(archive, tmp_path / "out", to="faiss", progress=touch, **more)
    assert refused.value.code == "input_changed"


def test_a_column_that_is_named_id_and_one_named_twice(
    model: Upsampler, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    z = anchored_source.unseen_projected
    names = pa.array([f"document {row}" for row in range(400)]).dictionary_encode()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(z.reshape(-1)), z.shape[1])
    pq.write_table(pa.table({"id": names, "z": vectors, "n": range(400)}), tmp_path / "in.parquet")
    model.export(tmp_path / "in.parquet", tmp_path / "out", to="faiss", id_column="id", columns=("n", "n"))
    table = FaissIndex.load(tmp_path / "out").table
    assert table.column_names == ["id", "confidence", "n"]
    assert table["id"].to_pylist() == names.to_pylist()


def test_a_broken_state_of_a_folder_is_a_problem(model: Upsampler, archive: Path, tmp_path: Path) -> None:
    for content in ("{", "[]", "{}"):
        (tmp_path / "embup.json").write_text(content)
        with pytest.raises(OutputError):
            model.export(archive, tmp_path, to="faiss", recreate=True)
        with pytest.raises(OutputError):
            FaissIndex.load(tmp_path)


def test_the_payloads_file_must_have_the_inputs_rows(
    model: Upsampler, archive: Path, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    z = anchored_source.unseen_projected
    for count, fits in ((400, True), (399, False), (300, False)):
        np.save(tmp_path / "in.npy", z[:count])
        if fits:
            model.export(
                tmp_path / "in.npy", tmp_path / "out", to="faiss", payload=archive, columns=("language",)
            )
            continue
        with pytest.raises(InputFileError):
            model.export(
                tmp_path / "in.npy",
                tmp_path / f"out {count}",
                to="faiss",
                payload=archive,
                columns=("language",),
            )
    np.save(tmp_path / "in.npy", np.concatenate([z, z]))
    with pytest.raises(InputFileError):
        model.export(
            tmp_path / "in.npy", tmp_path / "more", to="faiss", payload=archive, columns=("language",)
        )


@pytest.mark.parametrize("kind", ["faiss", "lancedb", "pgvector", "milvus"])
def test_a_graph_finds_nearly_all(
    kind: StoreKind,
    place_of: Callable[[StoreKind], Place],
    model: Upsampler,
    anchored_source: AnchoredSource,
    tmp_path: Path,
) -> None:
    from embup_core.stores.kinds import open_store

    place = place_of(kind)
    z = anchored_source.unseen_projected
    np.save(tmp_path / "in.npy", z)
    model.export(tmp_path / "in.npy", place.target, to=kind, index="hnsw")
    vectors = model.upsample(z)[0]
    nearest = np.argsort(-(vectors[:100] @ vectors.T), axis=1)[:, :10]
    store = open_store(kind, place.target, collection="embeddings", index="hnsw")
    found = store.search(vectors[:100], 10).ids
    store.close()
    shared = [len(set(one) & set(true)) for one, true in zip(found, nearest.tolist(), strict=True)]
    assert np.mean(shared) > 9


def test_filters_and_exact_search_in_faiss(
    model: Upsampler, archive: Path, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    vectors = model.upsample(anchored_source.unseen_projected)[0]
    languages = np.array(pq.read_table(archive)["language"].to_pylist(), dtype=object)
    for index in ("exact", "hnsw"):
        folder = tmp_path / index
        model.export(
            archive, folder, to="faiss", index=index, id_column="key", columns=("language", "checked")
        )
        loaded = FaissIndex.load(folder)
        for exact in (False, True):
            for value in ("en", None):
                places, products = loaded.search(vectors[:20], 10, exact=exact, where={"language": value})
                assert (languages[places] == value).all()
                allowed = np.flatnonzero(languages == value)
                true = np.sort(vectors[:20] @ vectors[allowed].T, axis=1)[:, ::-1][:, :10]
                np.testing.assert_allclose(products, true, atol=0.02)
        none = loaded.search(vectors[:1], 10, where={"language": "fr"})[0]
        assert none.shape == (1, 0)
        with pytest.raises(Exception, match="filter"):
            loaded.search(vectors[:1], 10, where={"nothing": 1})
        with pytest.raises(Exception, match="filter"):
            loaded.search(vectors[:1], 10, where={"checked": "perhaps"})


@pytest.mark.parametrize("value", [10_000.5, 2**64 - 1, 2**70, True, "10000"])
def test_a_filter_takes_no_value_of_another_type(
    value: Any, model: Upsampler, archive: Path, anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    model.export(archive, tmp_path / "out", to="faiss", columns=("number",))
    loaded = FaissIndex.load(tmp_path / "out")
    vectors = model.upsample(anchored_source.unseen_projected[:1])[0]
    assert loaded.search(vectors, 10, where={"number": 10_000.0})[0].tolist() == [[0]]
    with pytest.raises(InputError):
        loaded.search(vectors, 10, where={"number": value})
