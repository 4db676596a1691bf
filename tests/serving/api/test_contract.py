"""The service keeps to its own description: schemathesis makes requests of it and checks every answer.

`EMBUP_CONTRACT_CASES` is how many requests are made at least; 300 unless it is set.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from serving.access.keys import new_key
from tests.serving.conftest import random_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.upsampler import Upsampler

CONFIG = Path(__file__).with_name("schemathesis.toml")
CASES = int(os.environ.get("EMBUP_CONTRACT_CASES", "300"))
OPERATIONS = 7  # that can be varied without end; how many requests chains make depends on the answers
BOUNDS = 250  # requests that the bounds of all fields make by themselves
SECONDS_A_CASE = 1.0  # on a machine that others use, with batches running beside


@pytest.mark.timeout(120 + CASES * SECONDS_A_CASE)
def test_every_answer_is_described_and_none_is_a_fault(
    serve: Callable[..., Any], upsampler: Upsampler, tmp_path: Path
) -> None:
    """All checks, on examples, on the bounds of every field, on random requests and on chains of them."""
    key, stored = new_key("contract", ["admin"])
    np.save(tmp_path / "in.npy", random_rows(200))
    upsampler.export(tmp_path / "in.npy", tmp_path / "index", to="faiss")
    service = serve(api_keys=stored.line(), search_index=tmp_path / "index")
    service.write_input("input.txt", 200)  # the example's
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"),
        f"http://127.0.0.1:{service.port}/docs/openapi.json",
        *("--header", f"Authorization: Bearer {key}"),
        *("--checks", "all", "--workers", "1", "--seed", str(CASES), "--no-color"),
        *("--phases", "examples,coverage,fuzzing" + (",stateful" if CASES > 1000 else "")),
        *("--max-examples", str(max(5, (CASES - BOUNDS) // OPERATIONS))),
    ]
    said = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": ""},
        check=False,
    )
    assert said.returncode == 0, said.stdout[-8000:] + said.stderr[-2000:]
    made = re.search(r"([\d,]+) generated", said.stdout)
    assert made is not None, said.stdout
    assert int(made[1].replace(",", "")) >= CASES, said.stdout
    sys.stdout.write(f"\n{made[0]} requests, all checks passed\n")
    log = service.log.read_text()
    assert "Traceback" not in log
    assert "request failed" not in log
