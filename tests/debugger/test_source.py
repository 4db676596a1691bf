"""Training data of a decoder as a data set: imported, analysed, and its wrong rows left out of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from debugger.exports import export
from debugger.importing.source import import_source
from debugger.queries import analysis_row, get_row, list_findings
from debugger.reading import open_dataset
from debugger.reviews import Review, add_reviews
from debugger.runs import run
from debugger.store.names import find_dataset
from embup_core.errors import InputError, InvalidDataError, SourceError
from embup_core.sources.folder import files_in_folder
from embup_core.sources.row_list import load_row_list
from embup_core.training.sample import open_sample

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.sources import SourceFiles

WRONG = [3, 50, 51, 52, 599]


@pytest.fixture
def disordered(affine_source: SourceFiles) -> Path:
    """The folder of a source in which five rows of z were given to each other, with labels and texts."""
    folder = affine_source.projected.parent
    z = np.load(affine_source.projected)
    z[WRONG] = z[np.roll(WRONG, 1)]
    np.save(affine_source.projected, z)
    topics = np.repeat(np.arange(60), 10) % 3
    np.save(folder / "labels.npy", topics)
    np.save(folder / "groups.npy", np.where(np.arange(600) < 300, "a", "b"))
    np.save(folder / "texts.npy", np.array([f"row {row} of topic {topics[row]}" for row in range(600)]))
    return folder


def test_rows_come_with_their_labels_groups_and_texts(disordered: Path, data: Path) -> None:
    report = import_source(str(disordered), data, "x")
    assert (report.rows, report.labelled, report.vectors) == (600, 600, {"projected": 8})
    with open_dataset(data, "x") as opened:
        row = get_row(opened, 11)
        assert (row["label"], row["group_name"], row["text"]) == ("1", "a", "row 11 of topic 1")
        assert opened.described["kind"] == "source"
        assert opened.described["source"] == str(disordered)
    np.testing.assert_array_equal(
        np.load(data / "debug" / "x" / "projected.npy"), np.load(disordered / "projected_train_embs.npy")
    )


def test_wrong_rows_are_found_dropped_and_left_out_of_the_training(
    disordered: Path, data: Path, tmp_path: Path
) -> None:
    import_source(str(disordered), data, "x")
    report = run(data, "x", decoder="kriging", output_dims=100)
    assert report.findings["wrong_row"] == len(WRONG)
    with open_dataset(data, "x") as opened:
        found = list_findings(opened, kind="wrong_row")
        assert sorted(one["rows"][0] for one in found) == WRONG
        assert analysis_row(opened)["summary"]["wrong_rows"] == 5
        scores = opened.query("SELECT * FROM scores WHERE kind = 'pair_error'")
        assert len(scores) > 500
        assert {"originals", "projected", "decoded"} <= set(get_row(opened, 0)["neighbours"])
        with pytest.raises(InputError):
            export(opened, "cleaned", tmp_path / "x.json")
    add_reviews(
        find_dataset(data, "x"), [Review(row=row, action="drop", reviewer="a") for row in WRONG], rows=600
    )
    with open_dataset(data, "x") as opened:
        assert list_findings(opened, kind="wrong_row") == []
        export(opened, "dropped", tmp_path / "rows.npy")
    files = files_in_folder(disordered)
    with pytest.raises(InvalidDataError):
        open_sample(files, output_dims=100)
    rows = load_row_list(tmp_path / "rows.npy")
    assert open_sample(files, output_dims=100, without=rows).sample.left_out.tolist() == WRONG


def test_without_a_decoder_rows_are_compared_all_the_same(disordered: Path, data: Path) -> None:
    import_source(str(disordered), data, "x")
    report = run(data, "x", decoder="none", output_dims=100)
    assert report.findings["wrong_row"] == len(WRONG)
    with pytest.raises(InputError):
        run(data, "x", decoder="nonsense", output_dims=100)


def test_files_that_changed_since_are_refused(disordered: Path, data: Path) -> None:
    import_source(str(disordered), data, "x")
    z = np.load(disordered / "projected_train_embs.npy")
    np.save(disordered / "projected_train_embs.npy", z[::-1])
    with pytest.raises(InvalidDataError):
        run(data, "x", output_dims=100)


@pytest.mark.parametrize("damage", ["labels.npy", "og_train_cos_theta.npy"])
def test_damaged_training_data_is_refused(damage: str, disordered: Path, data: Path) -> None:
    (disordered / damage).write_bytes(b"nonsense")
    with pytest.raises(SourceError):
        import_source(str(disordered), data, "x")
    assert not list(data.glob("debug/*"))


def test_dropped_rows_of_training_data_judge_no_others(disordered: Path, data: Path) -> None:
    import_source(str(disordered), data, "x")
    dropped = [7, 8, 9]
    add_reviews(
        find_dataset(data, "x"), [Review(row=row, action="drop", reviewer="a") for row in dropped], rows=600
    )
    run(data, "x", decoder="kriging", output_dims=100)
    with open_dataset(data, "x") as opened:
        for row in dropped:
            scores = get_row(opened, row)["scores"]
            assert {"pair_error", "isolation", "label_error"}.isdisjoint(scores)
        assert "pair_error" in get_row(opened, 10)["scores"]
        others = opened.query("SELECT DISTINCT other FROM neighbours")
        assert len(others) > 300
        assert {one["other"] for one in others}.isdisjoint(dropped)
