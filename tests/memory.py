"""How much memory a process holds."""

from __future__ import annotations

import re
from pathlib import Path


def anonymous_mb(pid: int) -> float:
    """Memory of its own, in MB. Pages of files come and go with what else runs from them on the machine."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Anonymous:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found is not None, rollup
    return int(found[1]) * 1024 / 1e6
