"""What comes in: forms of files, meanings of fields, faults, and what is stored of it."""

from __future__ import annotations

import csv
import json
import zipfile
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from debugger.formats import archive
from debugger.importing.annotated import import_annotated, preview_fields
from debugger.reading import open_dataset
from embup_core.errors import InputError, InputFileError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.debugger.chatbot import Chat


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """Write records in the format of the path's ending."""
    match path.suffix:
        case ".json":
            path.write_text(json.dumps(records))
        case ".jsonl":
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
        case ".csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, records[0])
                writer.writeheader()
                writer.writerows(records)
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(records), path)
        case ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
                zipped.writestr("export/chat.json", json.dumps(records))
                zipped.writestr("__MACOSX/export/._chat.json", b"\x00\x05\x16\x07")
    return path


def rows_of(data: Path, name: str = "x") -> list[dict[str, Any]]:
    with open_dataset(data, name) as opened:
        return opened.query("SELECT * FROM rows LEFT JOIN labels USING (row) ORDER BY row")


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet", ".zip"])
def test_all_formats_give_the_same_rows(ending: str, chat: Chat, tmp_path: Path, data: Path) -> None:
    report = import_annotated(write(tmp_path / f"chat{ending}", chat.records), data, "x")
    assert report.rows == 400
    assert report.fields == {
        "text": "data.text", "label": "data.intent", "id": "id", "complete": "complete", "usage": "usage",
        "score": "score",
    }  # fmt: skip
    rows = rows_of(data)
    assert [row["text"] for row in rows] == chat.texts
    assert [row["label"] or "" for row in rows] == chat.labels
    assert [row["external_id"] for row in rows] == [str(record["id"]) for record in chat.records]
    assert [row["complete"] for row in rows] == [record["complete"] for record in chat.records]
    assert [row["given_score"] for row in rows] == [record["score"] for record in chat.records]
    usages = {"training": "train", "testing": "test", "validation": "validation", None: None}
    assert [row["usage"] for row in rows] == [usages[record["usage"]] for record in chat.records]


def test_data_may_be_an_object_instead_of_json_in_a_string(tmp_path: Path, data: Path) -> None:
    file = write(
        tmp_path / "a.json", [{"data": {"text": "hello", "intent": "greet"}}, {"data": {"text": "bye"}}]
    )
    import_annotated(file, data, "x")
    assert [(row["text"], row["label"], row["complete"]) for row in rows_of(data)] == [
        ("hello", "greet", True),
        ("bye", None, False),
    ]


def test_fields_are_mapped_as_given_and_guessed_otherwise(tmp_path: Path, data: Path) -> None:
    records = [{"utterance": "hi", "text": "other", "klass": 3, "split": "dev", "score": 1}]
    file = write(tmp_path / "a.jsonl", records)
    shown = preview_fields(file, fields={"text": "utterance", "label": "klass", "score": ""})
    assert shown.paths == {"text": "utterance", "label": "klass", "usage": "split"}
    assert shown.others == ("text", "score")
    import_annotated(file, data, "x", fields={"text": "utterance", "label": "klass", "score": ""})
    (row,) = rows_of(data)
    assert (row["text"], row["label"], row["usage"], row["given_score"]) == ("hi", "3", "validation", None)


@pytest.mark.parametrize(
    "fields", [{"nonsense": "text"}, {"label": "not_there"}, {"text": ""}], ids=["meaning", "name", "none"]
)
def test_impossible_mappings_are_refused(fields: dict[str, str], tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError) as caught:
        import_annotated(write(tmp_path / "a.json", [{"text": "hi"}]), data, "x", fields=fields)
    assert caught.value.remedy
    assert not list(data.glob("debug/*")) + list(data.glob("debug/.*"))


def test_vectors_come_with_the_rows_or_beside_them(tmp_path: Path, data: Path) -> None:
    records: list[dict[str, Any]] = [
        {"text": "a"},
        {"text": "b", "embedding": [1, 2.5]},
        {"text": "c", "embedding": None},
    ]
    beside = np.asfortranarray(np.arange(12, dtype=np.float16).reshape(3, 4))
    np.save(tmp_path / "z.npy", beside)
    report = import_annotated(
        write(tmp_path / "a.json", records), data, "x", vectors={"projected": tmp_path / "z.npy"}
    )
    assert report.vectors == {"embedding": 2, "projected": 4}
    folder = data / "debug" / "x"
    np.testing.assert_array_equal(np.load(folder / "projected.npy"), beside.astype(np.float32))
    nan = float("nan")
    np.testing.assert_array_equal(np.load(folder / "embedding.npy"), [[nan, nan], [1, 2.5], [nan, nan]])


@pytest.mark.parametrize("ending", [".json", ".csv", ".parquet"])
def test_vectors_of_every_format(ending: str, tmp_path: Path, data: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((5, 3))
    as_text = ending == ".csv"
    records = [{"text": "t", "vector": json.dumps(v.tolist()) if as_text else v.tolist()} for v in vectors]
    import_annotated(write(tmp_path / f"a{ending}", records), data, "x")
    np.testing.assert_array_equal(np.load(data / "debug" / "x" / "embedding.npy"), vectors.astype(np.float32))


@pytest.mark.parametrize(
    "bad",
    [np.zeros((3, 2)), np.zeros(2), np.array([[1, np.inf], [0, 0]]), np.array([[1, np.nan], [0, 0]])],
    ids=["count", "one axis", "infinite", "partly nan"],
)
def test_bad_vector_files_are_refused(bad: np.ndarray[Any, Any], tmp_path: Path, data: Path) -> None:
    np.save(tmp_path / "z.npy", bad)
    file = write(tmp_path / "a.json", [{"text": "a"}, {"text": "b"}])
    with pytest.raises(InputFileError):
        import_annotated(file, data, "x", vectors={"embedding": tmp_path / "z.npy"})
    assert not list(data.glob("debug/*"))


BAD_RECORDS: dict[str, tuple[dict[str, Any], str]] = {
    "not json": ({"data": "{text: 1}"}, ""),
    "nested deep": ({"data": '{"a":' * 2000 + "1" + "}" * 2000}, ""),
    "a list": ({"data": "[1, 2]"}, ""),
    "a number": ({"data": 7}, ""),
    "unknown usage": ({"data": '{"text": "a"}', "usage": "holdout"}, "usage"),
    "usage of a number": ({"data": '{"text": "a"}', "usage": 3}, "usage"),
    "huge score": ({"data": '{"text": "a"}', "score": "1e999"}, "score"),
    "score of a word": ({"data": '{"text": "a"}', "score": "high"}, "score"),
    "text of a list": ({"data": '{"text": ["a"]}'}, "text"),
    "label of 1 MB": ({"data": json.dumps({"text": "a", "intent": "x" * 1_000_000})}, "label"),
    "label of an object": ({"data": '{"text": "a", "intent": {"b": 1}}'}, "label"),
    "half a surrogate pair": ({"data": '{"text": "a\\ud800"}'}, "text"),
    "complete of a word": ({"data": '{"text": "a"}', "complete": "maybe"}, "complete"),
    "text of 3 MB": ({"data": json.dumps({"text": "a" * 3_000_000})}, "text"),
    "vector of words": ({"data": '{"text": "a"}', "embedding": ["a"]}, "embedding"),
    "empty vector": ({"data": '{"text": "a"}', "embedding": []}, "embedding"),
    "another length": ({"data": '{"text": "a"}', "embedding": [1.0]}, "embedding"),
    "infinite vector": ({"data": '{"text": "a"}', "embedding": [1, 2, 1e39]}, "embedding"),
}


def test_all_faults_stand_in_one_report_and_nothing_is_imported(tmp_path: Path, data: Path) -> None:
    good = {"data": '{"text": "fine", "intent": "x"}', "usage": None, "score": 1, "complete": True,
            "embedding": [1, 2, 3]}  # fmt: skip
    records = [good, *(record for record, _ in BAD_RECORDS.values()), good]
    file = write(tmp_path / "a.json", records)
    with pytest.raises(InputFileError) as caught:
        import_annotated(file, data, "x")
    for number, (_, field) in enumerate(BAD_RECORDS.values(), 2):
        assert f"row {number}, {field}" if field else f"row {number}:" in caught.value.message
    assert not list(data.glob("debug/*")) + list(data.glob("debug/.*"))
    report = import_annotated(file, data, "x", skip_bad_rows=True)
    assert (report.rows, report.skipped) == (2, len(BAD_RECORDS))
    assert [fault.field for fault in report.faults] == [field for _, field in BAD_RECORDS.values()]
    with open_dataset(data, "x") as opened:
        assert opened.count("refused") == len(BAD_RECORDS)
        assert [row["record"] for row in opened.query("SELECT record FROM rows")] == [0, len(records) - 1]


def test_only_the_first_20_of_many_faults_are_shown(tmp_path: Path, data: Path) -> None:
    file = write(
        tmp_path / "a.jsonl", [{"text": "a", "usage": f"u{i}"} for i in range(5000)] + [{"text": "b"}]
    )
    with pytest.raises(InputFileError) as caught:
        import_annotated(file, data, "x")
    assert len(caught.value.message.splitlines()) == 22
    assert "4,980 more" in caught.value.message
    assert import_annotated(file, data, "x", skip_bad_rows=True).skipped == 5000
    with open_dataset(data, "x") as opened:
        assert opened.count("refused") == 5000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b""),
        ("a.json", b"[]"),
        ("a.json", b'{"text": "one object"}}'),
        ("a.json", b'[{"text": "a"}'),
        ("a.json", b'[{"text": "a"} {"text": "b"}]'),
        ("a.json", b'[{"text": "a"}] more'),
        ("a.json", b'[{"text": "\xff"}]'),
        ("a.json", "[{}]".encode("utf-16")),
        ("a.json", b"[" * 100_000),
        ("a.json", b'[{"text": "a"}, 3]'),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n'),
        ("a.jsonl", b'{"text": "a"}\n[1]\n'),
        ("a.csv", b"text,text\n1,2\n"),
        ("a.csv", b"text,label\nonly one\n"),
        ("a.csv", b"text\n\xff\xfe\n"),
        ("a.parquet", b"PAR1 not really PAR1"),
        ("a.zip", b"PK\x03\x04 not really"),
        ("a.txt", b"some words"),
    ],
)
def test_files_that_are_no_data_sets_are_refused_with_a_remedy(
    name: str, content: bytes, tmp_path: Path, data: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        import_annotated(tmp_path / name, data, "x")
    assert caught.value.message.endswith((".", "\n")) or "\n" in caught.value.message
    assert caught.value.remedy
    assert not list(data.glob("debug/*")) + list(data.glob("debug/.*"))


def test_zip_archives_are_not_trusted(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.dumps([{"text": "a"}])

    def zipped(name: str, members: dict[str, str], *, compression: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w", compression) as file:
            for member, content in members.items():
                file.writestr(member, content)
        return tmp_path / name

    encrypted = zipped("encrypted.zip", {"a.json": record}, compression=zipfile.ZIP_STORED)
    raw = bytearray(encrypted.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.find(signature) + flags] |= 1
    encrypted.write_bytes(bytes(raw))
    bomb = zipped("bomb.zip", {"a.json": "[" + " " * 64_000_000 + "]"})
    for path in (
        encrypted,
        bomb,
        zipped("slip.zip", {"../../a.json": record}),
        zipped("absolute.zip", {"/etc/a.json": record}),
        zipped("several.zip", {"a.json": record, "b.json": record}),
        zipped("none.zip", {"readme.md": "nothing"}),
    ):
        with pytest.raises(InputFileError):
            import_annotated(path, data, "x")
    assert not list(data.glob("debug/*")) + list(data.glob("debug/.*"))
    monkeypatch.setattr(archive, "MOST_BYTES", 10)
    with pytest.raises(InputFileError):
        import_annotated(zipped("large.zip", {"a.json": record}), data, "x")


def test_odd_texts_are_stored_as_they_are(tmp_path: Path, data: Path) -> None:
    texts = [
        "", "=cmd()", "a\x00b", "\u202egnirts", "<script>alert(1)</script>", "👩‍👩‍👧 🇵🇪",
        "'); DROP TABLE rows; --",
        "x" * 1_000_000, "line\r\nbreak\u2028", '"quoted", and\tall',
    ]  # fmt: skip
    for ending in (".json", ".jsonl", ".csv", ".parquet"):
        file, name = write(tmp_path / f"a{ending}", [{"text": text} for text in texts]), f"x{ending[1:]}"
        import_annotated(file, data, name)
        assert [row["text"] for row in rows_of(data, name)] == texts


def test_what_pandas_writes_for_a_missing_value_is_none(tmp_path: Path, data: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[{"id": NaN, "text": "a", "label": NaN, "usage": NaN, "complete": NaN, "score": NaN, "other": NaN},'
        ' {"text": NaN, "label": "b", "score": 1e999}]'
    )
    report = import_annotated(tmp_path / "a.json", data, "x", skip_bad_rows=True)
    assert [(fault.line, fault.field) for fault in report.faults] == [(2, "score")]
    (row,) = rows_of(data)
    assert [row[name] for name in ("external_id", "text", "label", "usage", "given_score")] == [
        None, "a", None, None, None,
    ]  # fmt: skip
    assert not row["complete"]


def test_a_byte_order_mark_and_other_delimiters_are_no_matter(tmp_path: Path, data: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufefftext;label\r\nä;b\r\n".encode())
    (tmp_path / "b.tsv").write_bytes(b"text\tlabel\nc,d\te\n\n")
    (tmp_path / "c.json").write_bytes('\ufeff [ {"text": "ü"} ] '.encode())
    for name, expected in (("a.csv", ("ä", "b")), ("b.tsv", ("c,d", "e")), ("c.json", ("ü", None))):
        import_annotated(tmp_path / name, data, name)
        (row,) = rows_of(data, name)
        assert (row["text"], row["label"]) == expected


def test_equal_ids_are_counted_and_no_fault(tmp_path: Path, data: Path) -> None:
    file = write(
        tmp_path / "a.json", [{"id": 1, "text": "a"}, {"id": "1", "text": "b"}, {"id": 2, "text": "c"}]
    )
    assert import_annotated(file, data, "x").same_ids == 1


def test_a_taken_or_odd_name_is_refused_and_nothing_is_lost(imported: Path, chat_file: Path) -> None:
    for name in ("chat", "../chat", "", ".hidden", "a/b", "x" * 64):
        with pytest.raises(InputError):
            import_annotated(chat_file, imported, name)
    assert [path.name for path in (imported / "debug").iterdir()] == ["chat"]


def test_records_are_read_whatever_the_blocks_they_fall_into(
    chat: Chat, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("debugger.formats.json_records._READ_BYTES", 7)
    records = [{"text": text + " é☃😀", "n": 12} for text in chat.texts[:50]]
    (tmp_path / "a.json").write_text(json.dumps(records, ensure_ascii=False, indent=1))
    import_annotated(tmp_path / "a.json", data, "x")
    assert [row["text"] for row in rows_of(data)] == [record["text"] for record in records]


def test_tables_say_what_they_mean(imported: Path) -> None:
    with duckdb.connect(str(imported / "debug" / "chat" / "dataset.duckdb"), read_only=True) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
        ).fetchall()
    assert columns
    assert all(comment for _, _, comment in columns)


@pytest.mark.parametrize("packed", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_archives_are_refused(packed: int, tmp_path: Path, data: Path) -> None:
    path = tmp_path / "a.zip"
    content = json.dumps([{"text": f"text {row}"} for row in range(2_000)])
    with zipfile.ZipFile(path, "w", packed) as zipped:
        zipped.writestr("a.json", content)
    whole = path.read_bytes()
    begin = whole.index(b"a.json") + len("a.json")
    for at in range(begin + 16, begin + 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with pytest.raises(InputFileError) as caught:
            import_annotated(path, data, "x")
        assert "None" not in caught.value.message
    assert not list((data / "debug").iterdir())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("text,label\na,b\n" + "x" * 2_000 + ",b\n", 3),
        ('text,label\na,b\nc,d\n"never closed,b\n' + "x,y\n" * 1_000, 4),
        ("text,label\n" + "a," * 1_000 + "\n", 2),
        ('text,label\n"' + "a\n" * 300 + '","' + "b\n" * 300 + '"\n', 2),
        ("x" * 2_000, 1),
    ],
    ids=["a long cell", "a quote that is never closed", "many cells", "long cells", "a long header"],
)
def test_rows_of_a_csv_that_are_too_long_are_refused(
    content: str, line: int, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("debugger.formats.delimited.LONGEST_RECORD", 1_000)
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(InputFileError) as caught:
        import_annotated(path, data, "x")
    assert f"line {line}" in caught.value.message
    assert caught.value.remedy
    path.write_text("text,label\n" + f"{'x' * 900},b\n" * 20)
    assert import_annotated(path, data, "x").rows == 20


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet"])
def test_few_long_records_show_which_field_means_what(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [
        {"text": "x" * 1_000, "data": json.dumps({"late": 1} if row == 20 else {"early": 1})}
        for row in range(30)
    ]
    file = write(tmp_path / f"a{ending}", records)
    assert "data.late" in preview_fields(file).others
    monkeypatch.setattr("debugger.importing.annotated.SAMPLED_SIZE", 5_000)
    found = preview_fields(file)
    assert found.paths["text"] == "text"
    assert "data.early" in found.others
    assert "data.late" not in found.others
