"""Dagster's own records: below the data folder, whoever starts Dagster, and telemetry off.

`dagster dev` started in the project's folder reads `dagster.yaml` there. For another data folder
`python -m pipelines.instance DATA` prepares the same below it and prints what DAGSTER_HOME must be.
"""

from __future__ import annotations

import sys
from pathlib import Path

from embup_core.durable import replace_durably

HOME = ".dagster"

CONFIGURATION = """\
telemetry:
  enabled: false

# A fit takes all cores and holds matrices: two runs side by side would only fight.
concurrency:
  runs:
    max_concurrent_runs: 1

# Assets tell what they do as events. Catching what they print as well would take two more processes a step,
# which answer a Ctrl-C with tracebacks.
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""


def prepare_dagster_home(data: Path) -> Path:
    """Write Dagster's configuration below a data folder, and return the absolute DAGSTER_HOME.

    Parameters
    ----------
    data
        The data folder; created when missing.
    """
    home = data.expanduser().absolute() / HOME
    home.mkdir(parents=True, exist_ok=True)
    configuration = home / "dagster.yaml"
    if not configuration.exists() or configuration.read_text() != CONFIGURATION:
        replace_durably(configuration, CONFIGURATION.encode())
    return home


if __name__ == "__main__":
    sys.stdout.write(f"{prepare_dagster_home(Path(*sys.argv[1:2] or ['data']))}\n")
