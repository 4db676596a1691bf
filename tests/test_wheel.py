"""The wheel holds all modules and data files of the packages, and what an index shows of the project."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("debugger", "embup", "embup_core", "embup_client", "pipelines", "serving")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy: a build in place would take over what an earlier one left in build/."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", target, source],
        check=True, capture_output=True,
    )  # fmt: skip
    (built,) = target.glob("embup-*.whl")
    return zipfile.ZipFile(built)


@pytest.mark.timeout(300)
def test_the_wheel_holds_every_file_of_the_packages_and_no_other(wheel: zipfile.ZipFile) -> None:
    packaged = {name for name in wheel.namelist() if ".dist-info/" not in name}
    files = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".so"
    }
    compiled = {name for name in packaged if name.endswith(".so")}
    assert packaged - compiled == files
    sources = {name.removesuffix(".c") for name in files if name.endswith(".c")}
    assert {name.partition(".")[0] for name in compiled} == (sources if shutil.which("cc") else set())
    assert {f"{name}/py.typed" for name in ("embup", "embup_core", "embup_client")} <= packaged


def test_the_wheel_says_what_it_is(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.partition("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
    assert metadata["License-Expression"] == "Apache-2.0"
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert "embup = embup.cli.main:app" in wheel.read(f"{info}/entry_points.txt").decode()
    required = metadata.get_all("Requires-Dist") or []
    assert {re.split("[<>=]", line, maxsplit=1)[0] for line in required if "extra ==" not in line} == {
        "annotated-types", "faiss-cpu", "msgspec", "numpy", "pydantic", "rich", "safetensors",
        "threadpoolctl", "typer",
    }  # fmt: skip
