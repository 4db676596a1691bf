"""docs/reference/python.md, the README's Python and the notebook are run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import embup
from embup_core.decoders import __all__ as decoder_names

if TYPE_CHECKING:
    from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "python.md"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [PAGE, ROOT / "README.md"], ids=["reference", "README"])
def test_the_python_of_a_page_does_what_it_shows(
    page: Path, tmp_path: Path, pages: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session: dict[str, Any] = {}
    pages.run_session(page, session, pages.Place(tmp_path, 8000))
    assert (tmp_path / "long.npy").is_file()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())["cells"]
    session: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), session)  # noqa: S102  as above
    assert session["scores"].test_test.r2 > 0


def test_every_public_name_stands_on_the_page() -> None:
    text = PAGE.read_text()
    assert [name for name in embup.__all__ if f"embup.{name}" not in text] == []
    methods = [name for name in vars(embup.Upsampler) if not name.startswith("_")]
    undocumented = {"low_confidence", "reference_statistics", "version"}
    assert [name for name in methods if not re.search(rf"\b{name}\b", text)] == sorted(
        undocumented & set(methods)
    )
    assert {"Decoder", "DECODERS", "Kriging", "register"} <= set(decoder_names)
