"""openapi.json is the description of the running service, the same on every machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[3] / "openapi.json"


def test_the_file_describes_the_running_service(shared_service: Any) -> None:
    served = shared_service.http.get("/docs/openapi.json").json()
    assert json.loads(FILE.read_text()) == served, "openapi.json is behind: `make openapi` writes it anew"


def test_the_file_is_what_the_command_prints_whatever_is_set_here(tmp_path: Path) -> None:
    settings = {"EMBUP_MAX_REALTIME_ROWS": "7", "EMBUP_HOST": "0.0.0.0", "EMBUP_DATA": "/nowhere"}
    said = subprocess.run(
        [sys.executable, "-W", "error", "-m", "serving.openapi"],
        env=os.environ | settings | {"PYTHONPATH": str(FILE.parent)},
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert said.stdout == FILE.read_bytes(), "openapi.json is behind: `make openapi` writes it anew"
    assert list(tmp_path.iterdir()) == []
