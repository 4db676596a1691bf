"""Importing decoders costs NumPy and nothing heavier; libraries come when a method needs them."""

import subprocess
import sys

HEAVY = {"torch", "sklearn", "matplotlib", "scipy", "faiss", "pandas", "pydantic", "dagster", "litestar"}


def test_importing_decoders_imports_nothing_heavy() -> None:
    script = f"import sys, embup_core.decoders; print(*sorted({HEAVY!r} & set(sys.modules)))"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stdout.split() == []
