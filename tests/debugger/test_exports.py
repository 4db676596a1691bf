"""What goes out: the data set in the form it came in, lists, and no formula that a spreadsheet runs."""

from __future__ import annotations

import csv
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from debugger.exports import ExportReport, export
from debugger.formats.delimited import guarded, unguarded
from debugger.importing.annotated import import_annotated
from debugger.reading import open_dataset
from debugger.reviews import Review, add_reviews
from debugger.runs import run
from debugger.store.names import find_dataset
from embup_core.errors import InputError, OutputError
from embup_core.sources.row_list import load_row_list
from tests.debugger.conftest import quick_analysis
from tests.debugger.test_import import rows_of, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.debugger.chatbot import Chat


def decide(data: Path, name: str = "chat") -> None:
    add_reviews(
        find_dataset(data, name),
        [
            Review(row=3, action="relabel", label="a new one", reviewer="ann"),
            Review(row=4, action="drop", reviewer="ann"),
            Review(row=5, action="confirm", reviewer="ann"),
            Review(row=6, action="keep", reviewer="ann"),
            Review(row=7, action="drop", reviewer="ann"),
            Review(row=7, action="undo", reviewer="ann"),
            Review(row=8, action="annotate_next", reviewer="ann"),
        ],
        rows=400,
    )


def exported(data: Path, kind: str, target: Path, name: str = "chat", **options: Any) -> ExportReport:
    with open_dataset(data, name) as opened:
        return export(opened, kind, target, **options)


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet", ".zip"])
def test_without_reviews_an_export_is_what_was_imported(
    ending: str, chat: Chat, tmp_path: Path, data: Path
) -> None:
    file = write(tmp_path / f"in{ending}", chat.records)
    import_annotated(file, data, "chat")
    target = tmp_path / f"out{ending}"
    assert exported(data, "cleaned", target).rows == 400
    assert records_of(target) == records_of(file)


def records_of(path: Path) -> list[dict[str, Any]]:
    match path.suffix:
        case ".json":
            return json.loads(path.read_text())  # type: ignore[no-any-return]
        case ".jsonl":
            return [json.loads(line) for line in path.read_text().splitlines()]
        case ".csv":
            with path.open(newline="") as file:
                return list(csv.DictReader(file))
        case ".parquet":
            return pq.read_table(path).to_pylist()  # type: ignore[no-any-return]
    with zipfile.ZipFile(path) as zipped:
        (member,) = [name for name in zipped.namelist() if "MACOSX" not in name]
        return json.loads(zipped.read(member))  # type: ignore[no-any-return]


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet", ".zip"])
def test_an_export_holds_the_decisions_and_can_be_imported_again(
    ending: str, chat: Chat, tmp_path: Path, data: Path
) -> None:
    import_annotated(write(tmp_path / f"in{ending}", chat.records), data, "chat")
    decide(data)
    target = tmp_path / f"out{ending}"
    report = exported(data, "cleaned", target)
    assert (report.rows, report.relabelled, report.dropped) == (399, 1, 1)
    before, after = records_of(tmp_path / f"in{ending}"), records_of(target)
    assert [one["id"] for one in after] == [one["id"] for row, one in enumerate(before) if row != 4]
    unchanged = [row for row in range(400) if row not in (3, 4, 5)]
    assert [after[row - (row > 4)] for row in unchanged] == [before[row] for row in unchanged]
    import_annotated(target, data, "again")
    rows = rows_of(data, "again")
    assert (rows[3]["label"], rows[3]["complete"]) == ("a new one", True)
    assert rows[4]["complete"]
    assert rows[4]["label"] == rows_of(data, "chat")[5]["label"]
    again = tmp_path / f"again{ending}"
    exported(data, "cleaned", again, "again")
    assert records_of(again) == after


def test_rows_that_could_not_be_imported_are_not_exported(tmp_path: Path, data: Path) -> None:
    file = write(
        tmp_path / "a.json", [{"text": "a"}, {"text": 1, "usage": "?"}, {"text": "c", "more": [1e-7]}]
    )
    import_annotated(file, data, "x", skip_bad_rows=True)
    exported(data, "cleaned", tmp_path / "b.json", "x")
    assert records_of(tmp_path / "b.json") == [{"text": "a"}, {"text": "c", "more": [1e-7]}]


def test_dropped_rows_are_a_list_that_training_takes(imported: Path, tmp_path: Path) -> None:
    decide(imported)
    for ending in (".npy", ".txt"):
        exported(imported, "dropped", tmp_path / f"rows{ending}")
        np.testing.assert_array_equal(load_row_list(tmp_path / f"rows{ending}"), [4])


def test_rows_to_annotate_begin_with_those_asked_for(imported: Path, tmp_path: Path) -> None:
    run(imported, "chat", analyse=quick_analysis)
    decide(imported)
    exported(imported, "annotate", tmp_path / "next.csv", count=10)
    rows = records_of(tmp_path / "next.csv")
    unlabelled = [row["row"] for row in rows_of(imported, "chat") if row["label"] is None]
    expected = [8, *[row for row in unlabelled[:3] if row != 8]]
    assert [int(row["row"]) for row in rows[: len(expected)]] == expected
    assert len({row["row"] for row in rows}) == 10


def test_a_csv_holds_no_formulas_and_comes_back_as_it_was(tmp_path: Path, data: Path) -> None:
    texts = [
        "=cmd|' /C calc'!A0",
        "+1+1",
        "-2.5",
        "@SUM(A1)",
        "'=x",
        "''=x",
        "\t=x",
        "plain",
        "'quoted'",
        "-",
    ]
    import_annotated(
        write(tmp_path / "a.jsonl", [{"text": text, "label": text} for text in texts]), data, "j"
    )
    add_reviews(
        find_dataset(data, "j"), [Review(row=0, action="keep", note="=1+1", reviewer="@ann")], rows=len(texts)
    )
    run(data, "j", analyse=quick_analysis)
    exported(data, "reviews", tmp_path / "reviews.csv", "j")
    (review,) = records_of(tmp_path / "reviews.csv")
    assert (review["note"], review["reviewer"]) == ("'=1+1", "'@ann")
    # Through a CSV and back.
    with (tmp_path / "b.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([guarded(text)] for text in texts)])
    import_annotated(tmp_path / "b.csv", data, "c")
    assert [row["text"] for row in rows_of(data, "c")] == texts
    exported(data, "cleaned", tmp_path / "c.csv", "c")
    cells = [row["text"] for row in records_of(tmp_path / "c.csv")]
    assert [unguarded(cell) for cell in cells] == texts
    assert not [cell for cell in cells if cell.startswith(("=", "+", "@", "\t")) or cell == "-"]
    assert "-2.5" in cells


def test_other_endings_and_existing_files_are_refused(imported: Path, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("mine")
    with pytest.raises(OutputError):
        exported(imported, "cleaned", tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text() == "mine"
    for kind, name in (
        ("cleaned", "out.csv"),
        ("dropped", "out.csv"),
        ("annotate", "out.json"),
        ("odd", "out.csv"),
    ):
        with pytest.raises(InputError):
            exported(imported, kind, tmp_path / name)
    exported(imported, "cleaned", tmp_path / "out.json", overwrite=True)
    assert len(records_of(tmp_path / "out.json")) == 400
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat.json", "data", "out.json"]


def test_relabelled_rows_need_a_field_to_go_into(tmp_path: Path, data: Path) -> None:
    import_annotated(write(tmp_path / "a.json", [{"text": "a"}]), data, "x")
    add_reviews(find_dataset(data, "x"), [Review(row=0, action="relabel", label="b", reviewer="a")], rows=1)
    with pytest.raises(InputError):
        exported(data, "cleaned", tmp_path / "b.json", "x")


def test_a_csv_keeps_bytes_that_are_not_utf8_in_other_columns(tmp_path: Path, data: Path) -> None:
    content = b"text,label,note\nhello,a,caf\xe9\nbye,b,\xff\n"
    (tmp_path / "a.csv").write_bytes(content)
    import_annotated(tmp_path / "a.csv", data, "x")
    exported(data, "cleaned", tmp_path / "b.csv", "x")
    assert (tmp_path / "b.csv").read_bytes() == content


def test_carriage_returns_do_not_end_a_row_of_a_csv(tmp_path: Path, data: Path) -> None:
    texts = ["one\rtwo", "\rat first", "at last\r", "a\r\nb", "a\nb", "plain"]
    rows = "".join(f'"{text}",x\n' for text in texts)
    (tmp_path / "a.csv").write_text("text,label\n" + rows, newline="")
    import_annotated(tmp_path / "a.csv", data, "x")
    add_reviews(
        find_dataset(data, "x"),
        [Review(row=row, action="keep", note=text, reviewer="ann") for row, text in enumerate(texts)],
        rows=len(texts),
    )
    exported(data, "cleaned", tmp_path / "b.csv", "x")
    import_annotated(tmp_path / "b.csv", data, "again")
    assert [row["text"] for row in rows_of(data, "again")] == texts
    exported(data, "reviews", tmp_path / "reviews.csv", "x")
    assert [unguarded(row["note"]) for row in records_of(tmp_path / "reviews.csv")] == texts


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize(
    ("labels", "new", "completes", "yes"),
    [
        ((1, 2, None), 7, (1, 0, 0), 1),
        ((1.5, 2.5, None), 7.25, (1.0, None, 0.0), 1.0),
        ((True, False, None), False, (True, False, None), True),
        (("a", "b", None), "7", ("YES", "NO", None), "YES"),
        (("a", "b", None), "7", ("True", "False", "False"), "True"),
        (("a", "b", None), "7", ("0", "0", "0"), "1"),
    ],
)
def test_decisions_have_the_kind_that_the_file_has(
    ending: str, labels: tuple[Any, ...], new: Any, completes: tuple[Any, ...], yes: Any,
    tmp_path: Path, data: Path,
) -> None:  # fmt: skip
    records = [
        {"text": f"text {row}", "label": label, "complete": complete}
        for row, (label, complete) in enumerate(zip(labels, completes, strict=True))
    ]
    file = write(tmp_path / f"in{ending}", records)
    import_annotated(file, data, "chat")
    add_reviews(
        find_dataset(data, "chat"),
        [Review(row=row, action="relabel", label=str(new), reviewer="ann") for row in (1, 2)],
        rows=3,
    )
    exported(data, "cleaned", tmp_path / f"out{ending}")
    expected = records_of(file)
    for row in (1, 2):
        expected[row] |= {"label": new, "complete": yes}
    if ending == ".csv":
        expected = [{name: str(value) for name, value in record.items()} for record in expected]
    found = records_of(tmp_path / f"out{ending}")
    assert found == expected
    assert [[type(value) for value in record.values()] for record in found] == [
        [type(value) for value in record.values()] for record in expected
    ]
    if ending == ".parquet":
        assert pq.read_schema(tmp_path / "out.parquet") == pq.read_schema(file)


@pytest.mark.parametrize("ending", [".json", ".jsonl", ".parquet"])
@pytest.mark.parametrize("label", [1, 1.5, True])
def test_labels_that_do_not_fit_are_refused(ending: str, label: Any, tmp_path: Path, data: Path) -> None:
    import_annotated(write(tmp_path / f"in{ending}", [{"text": "a", "label": label}]), data, "chat")
    add_reviews(
        find_dataset(data, "chat"), [Review(row=0, action="relabel", label="visa", reviewer="a")], rows=1
    )
    with pytest.raises(InputError) as caught:
        exported(data, "cleaned", tmp_path / f"out{ending}")
    assert caught.value.remedy
    assert not (tmp_path / f"out{ending}").exists()


def test_a_label_too_large_for_its_column_is_refused(tmp_path: Path, data: Path) -> None:
    table = pa.table({"text": ["a", "b"], "label": pa.array([1, 2], pa.int8())})
    pq.write_table(table, tmp_path / "in.parquet")
    import_annotated(tmp_path / "in.parquet", data, "chat")
    for label in ("300", "9" * 30):
        add_reviews(
            find_dataset(data, "chat"), [Review(row=0, action="relabel", label=label, reviewer="a")], rows=2
        )
        with pytest.raises(InputError) as caught:
            exported(data, "cleaned", tmp_path / "out.parquet")
        assert "int8" in caught.value.message
