"""Prints what the service needs, a requirement a line: the project's dependencies but those of training.

python container/serving_requirements.py [pyproject.toml]
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

# Imported by pipelines alone, or inside functions that fit or plot. `make test-container` starts the service
# without them.
TRAINING_ONLY = {"dagster", "dagster-webserver", "docstring-parser", "matplotlib", "scikit-learn", "torch"}


def serving_requirements(pyproject: Path) -> list[str]:
    """Give the requirements as pyproject.toml writes them."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    named = {name_of(requirement): requirement for requirement in project["dependencies"]}
    unknown = TRAINING_ONLY - named.keys()
    if unknown:
        raise SystemExit(
            f"error: {pyproject} has no dependency called {min(unknown)}; correct TRAINING_ONLY."
        )
    return [requirement for name, requirement in named.items() if name not in TRAINING_ONLY]


def name_of(requirement: str) -> str:
    """Give the name of the package that a requirement is about."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


if __name__ == "__main__":
    found = serving_requirements(Path(*sys.argv[1:2] or ["pyproject.toml"]))
    sys.stdout.writelines(f"{requirement}\n" for requirement in found)
