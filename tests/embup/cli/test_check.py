"""`embup check` says what is wrong with a source, by its exit code and as JSON too."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from typer.testing import CliRunner

from embup.cli.check import WRONG_ROWS
from embup.cli.failures import BAD_INPUT
from embup.cli.main import app
from embup_core.sources import COSINES_FILE, GROUPS_FILE, LABELS_FILE, PROJECTED_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.sources import SourceFiles


def run(source: SourceFiles, *options: str) -> tuple[int, str]:
    folder = source.projected.parent
    result = CliRunner().invoke(app, ["check", str(folder), "--data", str(folder.parent / "data"), *options])
    return result.exit_code, result.stdout


def test_a_clean_source_is_ok(affine_source: SourceFiles) -> None:
    code, text = run(affine_source, "--json")
    report = json.loads(text)
    assert code == 0
    assert report["ok"] is True
    assert report["wrong_rows"] == report["belongs_to"] == []
    assert report["map"]["affine"] is True
    assert 0 < report["map"]["median_angle"] < report["map"]["p99_angle"] < 1e-3
    assert report["reordering"] is None
    assert report["verdict"] == "consistent"
    assert "repair" not in report
    assert report["matrix_noise"]["share_of_variance"] < 1e-6


def test_swapped_rows_are_listed(affine_source: SourceFiles) -> None:
    z = np.load(affine_source.projected)
    z[[3, 500]] = z[[500, 3]]
    np.save(affine_source.projected, z)
    code, text = run(affine_source, "--json")
    report = json.loads(text)
    assert code == WRONG_ROWS
    assert report["ok"] is False
    assert report["wrong_rows"] == [3, 500]
    assert report["belongs_to"] == [500, 3]
    lines = run(affine_source)[1].splitlines()
    values = [line[14:] for line in lines[: lines.index("")]]
    assert all(value and value[0] != " " for value in values), "the values are lined up"
    assert [line.split() for line in lines[lines.index("") + 2 :]] == [["3", "500"], ["500", "3"]]


def test_the_table_names_the_source(affine_source: SourceFiles) -> None:
    code, text = run(affine_source)
    assert code == 0
    assert str(affine_source.projected.parent) in text


def test_an_unusable_source_is_bad_input_and_still_json(affine_source: SourceFiles) -> None:
    np.save(affine_source.projected, np.load(affine_source.projected)[:300])
    code, text = run(affine_source, "--json")
    assert code == BAD_INPUT
    assert json.loads(text)["ok"] is False


def with_labels(source: SourceFiles) -> SourceFiles:
    folder = source.projected.parent
    np.save(folder / GROUPS_FILE, np.arange(600) // 10)
    np.save(folder / LABELS_FILE, np.arange(600).astype(str))
    return replace(source, groups=folder / GROUPS_FILE, labels=folder / LABELS_FILE)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def cleaned(source: SourceFiles, out: Path) -> SourceFiles:
    """The repaired source, which must be clean."""
    repaired = replace(source, projected=out / PROJECTED_FILE, cosines=out / COSINES_FILE)
    code, text = run(repaired, "--json")
    assert code == 0
    assert json.loads(text)["verdict"] == "consistent"
    return repaired


@pytest.mark.parametrize("disorder", ["moved", "off by one", "reversed"])
def test_repair_puts_rows_where_they_belong(
    affine_source: SourceFiles, disorder: str, tmp_path: Path
) -> None:
    source, out = with_labels(affine_source), tmp_path / "out"
    before = contents(source.projected.parent)
    z = np.load(source.projected)
    order = np.arange(600)
    if disorder == "moved":
        order[100:120] = np.roll(order[100:120], 3)
        order[[7, 400]] = order[[400, 7]]
    else:
        order = np.roll(order, 1) if disorder == "off by one" else order[::-1]
    np.save(source.projected, z[order])
    code, text = run(source, "--repair", str(out), "--json")
    assert code == 0, text
    report = json.loads(text)
    assert report["ok"] is False, "the report is of the source as it was"
    assert report["repair"]["rows"] == 600
    assert report["repair"]["moved"] == int(np.sum(order != np.arange(600)))
    assert report["repair"]["left_out"] == {"projected": [], "matrix": []}
    assert contents(out) == before
    assert (out / COSINES_FILE).samefile(source.cosines), "the matrix takes no space twice"
    np.testing.assert_array_equal(np.load(source.projected), z[order])
    cleaned(source, out)


def test_repair_leaves_out_rows_without_a_place(affine_source: SourceFiles, tmp_path: Path) -> None:
    source, out = with_labels(affine_source), tmp_path / "out"
    z, cosines = np.load(source.projected), np.load(source.cosines)
    lost = np.r_[z[1:], z[:1]]  # shifted by one, and the first row of z is another's
    lost[-1] = -z[300]
    np.save(source.projected, lost)
    code, text = run(source, "--repair", str(out), "--json")
    assert code == 0, text
    assert json.loads(text)["repair"]["left_out"] == {"projected": [599], "matrix": [0]}
    np.testing.assert_array_equal(np.load(out / PROJECTED_FILE), z[1:])
    np.testing.assert_array_equal(np.load(out / COSINES_FILE), cosines[1:, 1:])
    np.testing.assert_array_equal(np.load(out / GROUPS_FILE), np.load(source.groups or "")[1:])
    np.testing.assert_array_equal(np.load(out / LABELS_FILE), np.load(source.labels or "")[1:])
    cleaned(source, out)
    code, text = run(source, "--repair", str(tmp_path / "again"))
    assert code == 0
    assert "599 (1 row)" in text
    assert "groups.npy and labels.npy" in text


def test_repair_copies_where_no_link_can_be_made(
    affine_source: SourceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def across(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", across)
    z = np.load(affine_source.projected)
    np.save(affine_source.projected, np.roll(z, 1, axis=0))
    assert run(affine_source, "--repair", str(tmp_path / "out"))[0] == 0
    assert not (tmp_path / "out" / COSINES_FILE).samefile(affine_source.cosines)
    assert (tmp_path / "out" / COSINES_FILE).read_bytes() == affine_source.cosines.read_bytes()


def test_repair_overwrites_nothing(affine_source: SourceFiles, tmp_path: Path) -> None:
    np.save(affine_source.projected, np.roll(np.load(affine_source.projected), 1, axis=0))
    out = tmp_path / "out"
    out.mkdir()
    for target in (out, out / "none" / "deeper"):
        code, text = run(affine_source, "--repair", str(target), "--json")
        assert code == BAD_INPUT
        assert str(out) in json.loads(text)["error"]
    assert list(out.iterdir()) == []


def test_a_repair_that_fails_leaves_nothing(
    affine_source: SourceFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.link", full)
    monkeypatch.setattr("shutil.copyfile", full)
    np.save(affine_source.projected, np.roll(np.load(affine_source.projected), 1, axis=0))
    (tmp_path / "there").mkdir()
    code, text = run(affine_source, "--repair", str(tmp_path / "there" / "out"), "--json")
    assert code == WRONG_ROWS
    assert "No space left" in json.loads(text)["repair"]["error"]
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize(
    ("defect", "expected"), [("none", BAD_INPUT), ("permuted", WRONG_ROWS), ("curved", BAD_INPUT)]
)
def test_what_cannot_be_repaired_is_refused(
    affine_source: SourceFiles, defect: str, expected: int, tmp_path: Path
) -> None:
    z = np.load(affine_source.projected)
    if defect == "permuted":
        z = z[np.random.default_rng(1).permutation(600)]
    elif defect == "curved":
        z = np.tanh(4 * z) ** 3
        z /= np.linalg.norm(z, axis=1, keepdims=True)
    np.save(affine_source.projected, z)
    code, text = run(affine_source, "--repair", str(tmp_path / "out"), "--json")
    assert code == expected
    assert json.loads(text)["repair"]["error"]
    assert not (tmp_path / "out").exists()
