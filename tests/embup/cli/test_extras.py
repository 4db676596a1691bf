"""An installation without extras: what works, and what a command says whose packages are missing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.extras import EXTRA_OF

if TYPE_CHECKING:
    from embup_core.artifacts.registry import Registry

ROOT = Path(__file__).resolve().parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("debugger", "embup", "embup_core", "embup_client", "pipelines", "serving")
# They import packages of an extra at the top; commands import them where they use them.
OF_AN_EXTRA = {
    "embup.cli.client",
    "embup.cli.latency",
    "embup.cli.service_process",
    "embup_core.sources.download",
}

# A finder before all others that knows no package of an extra, as in an installation without it.
BASE_ALONE = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(EXTRA_OF)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""


def base_alone(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that has the base dependencies and no extra."""
    return subprocess.run(
        [sys.executable, "-c", BASE_ALONE + code, *map(str, arguments)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def embup_alone(*arguments: object) -> subprocess.CompletedProcess[str]:
    return base_alone("from embup.cli.main import app; app(prog_name='embup')", *arguments)


def distributions_of(extra: str | None) -> set[str]:
    """Names of the distributions that an extra requires, those of the extras within it included."""
    listed = PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra]
    found: set[str] = set()
    for requirement in listed:
        name = normalised(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
        if name == "embup":
            for inner in re.findall(r"[\w-]+", requirement.partition("[")[2]):
                found |= distributions_of(inner)
        else:
            found.add(name)
    return found


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_packages() -> dict[str, set[str]]:
    """Top-level names of other packages that ours import anywhere, and the files that do."""
    found: dict[str, set[str]] = defaultdict(set)
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module]
                for name in names:
                    top = name.partition(".")[0]
                    if top not in sys.stdlib_module_names and top not in PACKAGES:
                        found[top].add(str(path.relative_to(ROOT)))
    return found


def test_every_imported_package_is_required_by_the_base_or_by_the_extra_that_errors_name() -> None:
    of_module = packages_distributions()
    imported = imported_packages()
    base = distributions_of(None)
    for package, files in imported.items():
        distributions = {normalised(name) for name in of_module[package]}
        required = distributions_of(EXTRA_OF[package]) if package in EXTRA_OF else base
        if package == "opentelemetry":  # a namespace of several distributions
            assert distributions & required, files
        else:
            assert distributions <= required, f"{package}, imported in {files}"
    assert set(EXTRA_OF) <= set(imported) | {"offapi", "uvloop"}, "named without being imported"


def test_all_is_every_extra_that_is_for_users() -> None:
    users = set(PROJECT["optional-dependencies"]) - {"all", "dev", "bench", "docs"}
    assert distributions_of("all") == set().union(*map(distributions_of, users))
    assert set(EXTRA_OF.values()) <= users


def test_all_of_embup_core_is_imported_with_the_base_alone() -> None:
    result = base_alone(
        "import importlib, pkgutil, embup_core, embup.cli\n"
        f"left_out = {OF_AN_EXTRA!r} | {{'embup.cli.__main__'}}\n"
        "for package in (embup_core, embup.cli):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if module.name not in left_out:\n"
        "            importlib.import_module(module.name)\n"
        "print('imported')"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "imported\n", "")


@pytest.mark.parametrize("ending", ["txt", "npy"])
def test_upsample_needs_the_base_alone(ending: str, registry: Registry, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if ending == "npy":
        np.save(tmp_path / "in.npy", rows)
    else:
        np.savetxt(tmp_path / "in.txt", rows, delimiter=",")
    result = embup_alone(
        "upsample", tmp_path / f"in.{ending}", tmp_path / "out.npy", "--registry", registry.root
    )
    assert (result.returncode, result.stderr) == (0, "")
    decoded = np.load(tmp_path / "out.npy")
    assert decoded.shape == (5, 1536)
    assert np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("arguments", [["--help"], ["models", "--registry", "REGISTRY"], ["train", "--help"]])
def test_commands_of_the_base_work_without_an_extra(arguments: list[str], registry: Registry) -> None:
    words = [str(registry.root) if word == "REGISTRY" else word for word in arguments]
    result = embup_alone(*words)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("dagster", ["train"]),
        (
            "train",
            [
                "evaluate",
                "--projected",
                "WORK/in.npy",
                "--cosines",
                "WORK/cosines.npy",
                "--registry",
                "REGISTRY",
            ],
        ),
        ("all", ["demo", "--work", "WORK"]),
        ("serve", ["serve"]),
        ("serve", ["keys", "new", "ci", "--scopes", "read"]),
        ("serve", ["sql", "--data", "WORK", "select 1"]),
        ("dagster", ["clean", "--data", "WORK"]),
        ("notify", ["notify", "test", "--notify-file", "WORK/addresses", "--data", "WORK"]),
        ("debug", ["debug", "list"]),
        ("debug", ["debug", "import", "in.json", "--name", "x"]),
        ("debug", ["debug", "predict", "x", "--url", "http://127.0.0.1"]),
        ("s3", ["models", "--registry", "s3://bucket/registry"]),
        ("client", ["submit", "in.txt", "out.txt"]),
        ("client", ["status", "x"]),
        ("client", ["watch", "x"]),
        ("client", ["cancel", "x"]),
        ("client", ["list"]),
        ("parquet", ["upsample", "IN", "WORK/out.parquet", "--registry", "REGISTRY"]),
        ("parquet", ["upsample", "WORK/in.parquet", "WORK/out.npy", "--registry", "REGISTRY"]),
        ("parquet", ["upsample", "WORK/in.txt.zst", "WORK/out.npy", "--registry", "REGISTRY"]),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_a_command_whose_extra_is_missing_names_it(
    extra: str, arguments: list[str], registry: Registry, tmp_path: Path
) -> None:
    np.savetxt(tmp_path / "in.txt", np.eye(1, 32), delimiter=",")
    rows = np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.save(tmp_path / "in.npy", rows)
    np.save(tmp_path / "cosines.npy", rows @ rows.T)
    (tmp_path / "addresses").write_text("json://127.0.0.1/")
    (tmp_path / "addresses").chmod(0o600)
    for name in ("in.parquet", "in.txt.zst"):
        (tmp_path / name).write_bytes(b"PAR1 some bytes PAR1")
    places = {"WORK": str(tmp_path), "IN": str(tmp_path / "in.txt"), "REGISTRY": str(registry.root)}
    words = [re.sub("WORK|IN$|REGISTRY", lambda found: places[found[0]], word) for word in arguments]
    result = embup_alone(*words)
    assert result.returncode == 2
    assert f"pip install 'embup[{extra}]'" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("out*"))
