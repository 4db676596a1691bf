"""`embup clean` removes what it is asked to, and no more."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from embup.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_of_a_kind_goes_where_its_age_is_0(tmp_path: Path) -> None:
    copy = tmp_path / "sources" / f"download-{0:012}"
    copy.mkdir(parents=True)
    os.utime(copy, (0, 0))

    def cleaned(*more: str) -> dict[str, list[str]]:
        asked = ["clean", "--older-than-months", "0", *more, "--data", str(tmp_path), "--json"]
        done = CliRunner().invoke(app, asked, catch_exceptions=False)
        found: dict[str, list[str]] = json.loads(done.stdout)
        return found

    assert cleaned("--files-older-than-days", "0")["files"] == []
    assert copy.is_dir()
    assert cleaned() == {"removed": [], "files": [str(copy)], "dry_run": False}
    assert not copy.exists()
