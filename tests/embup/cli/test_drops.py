"""`embup drops` and `embup monthly`: exit codes, tables and JSON, by real files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from embup.cli.drops import REFUSED
from embup.cli.failures import BAD_INPUT
from embup.cli.main import app

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DIMS, SHORT, FIRST, LATER = 48, 12, 500, 200


class Shell:
    """Commands on one place of drops, whose originals are known."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "place"
        rng = np.random.default_rng(0)
        topics = np.repeat(rng.standard_normal((90, DIMS)), 10, axis=0)
        scales = np.arange(1, DIMS + 1) ** -0.7
        x = (topics + 0.5 * rng.standard_normal((900, DIMS))) * scales + 0.1
        x = x[rng.permutation(900)]
        self.x: NDArray[np.float32] = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        z = self.x @ rng.standard_normal((DIMS, SHORT)) + 0.1
        self.z: NDArray[np.float32] = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)

    def __call__(self, *arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, [str(one) for one in arguments])
        return result.exit_code, result.stdout

    def saved(self, name: str, array: NDArray[Any]) -> Path:
        path = self.folder / f"{name}.npy"
        np.save(path, array)
        return path

    def make_first(self) -> None:
        z, g = self.saved("z", self.z[:FIRST]), self.saved("g", self.x[:FIRST] @ self.x[:FIRST].T)
        assert self("drops", "make", self.place, "2026-01", "--projected", z, "--cosines", g)[0] == 0

    def make_later(self, month: str, z: NDArray[np.float32]) -> None:
        landmarks = self.x[np.load(self.place / "landmarks" / "rows.npy")]
        cosines = self.saved("c", self.x[FIRST : FIRST + LATER] @ landmarks.T)
        path = self.saved("z", z)
        code, _ = self(
            "drops", "make", self.place, month, "--projected", path, "--landmark-cosines", cosines
        )  # fmt: skip
        assert code == 0


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_drops_are_made_checked_and_listed(shell: Shell) -> None:
    shell.make_first()
    code, text = shell("drops", "check", shell.place, "--output-dims", DIMS, "--json")
    assert code == 0
    assert json.loads(text)["verdict"] == "accepted"
    z = shell.z[FIRST : FIRST + LATER].copy()
    z[[3, 70]] = z[[70, 3]]
    shell.make_later("2026-02", z)
    code, text = shell("drops", "check", shell.place, "--no-keep", "--output-dims", DIMS)
    assert code == 0
    assert "accepted with quarantine" in text
    listed = json.loads(shell("drops", "list", shell.place, "--json")[1])["drops"]
    assert [one.get("verdict") for one in listed] == ["accepted", None]
    shell("drops", "check", shell.place, "--output-dims", DIMS)
    listed = json.loads(shell("drops", "list", shell.place, "--json")[1])["drops"]
    assert listed[1]["quarantined"] == 2
    assert listed[1]["accepted_rows"] == LATER - 2
    rows = [line.split() for line in shell("drops", "list", shell.place)[1].splitlines()]
    assert [row[0] for row in rows] == ["month", "2026-01", "2026-02"]


def test_a_month_is_trained_and_a_refused_one_has_its_exit_code(shell: Shell) -> None:
    shell.make_first()
    options: list[object] = ["--drops", shell.place, "--registry", shell.folder / "registry"]
    options += ["--data", shell.folder / "data", "--output-dims", DIMS, "--decoder", "kriging"]
    code, text = shell("monthly", *options, "--json")
    assert code == 0
    first = json.loads(text)
    assert first["decision"] == "promoted"
    assert first["rows"] == FIRST
    assert first["drop"]["verdict"] == "accepted"
    shell.make_later("2026-02", shell.z[FIRST : FIRST + LATER][::-1])
    code, text = shell("monthly", *options, "--month", "2026-02")
    assert code == REFUSED
    assert "refused" in text
    shell.make_later("2026-03", shell.z[FIRST : FIRST + LATER])
    code, text = shell("monthly", *options, "--json")
    assert code == 0
    last = json.loads(text)
    assert last["month"] == "2026-03"
    assert last["decision"] in {"promoted", "held"}
    assert last["gate"]["checks"], "both versions are compared on the rows held out"
    assert shell("monthly", *options, "--month", "2026-03")[0] == 0
    models = json.loads(shell("models", "--registry", shell.folder / "registry", "--json")[1])
    assert len(models["models"]) == 3


def test_nothing_delivered_is_an_error_of_input(shell: Shell) -> None:
    assert shell("monthly", "--drops", shell.folder, "--registry", shell.folder / "r")[0] == BAD_INPUT
    assert shell("drops", "check", shell.folder, "2026-01")[0] == BAD_INPUT
    assert shell("drops", "check", shell.folder, "november")[0] == BAD_INPUT


def test_a_drop_is_not_replaced_unasked(shell: Shell) -> None:
    shell.make_first()
    again: list[object] = ["drops", "make", shell.place, "2026-01"]
    again += ["--projected", shell.folder / "z.npy", "--cosines", shell.folder / "g.npy"]
    assert shell(*again)[0] == BAD_INPUT
    assert shell(*again, "--overwrite")[0] == 0
