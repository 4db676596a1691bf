"""Dagster's own records: below the data folder, with telemetry off.

`python -m pipelines.instance DATA` prepares them and prints what DAGSTER_HOME must be; `make dev` does that.
"""

from __future__ import annotations

import sys
from pathlib import Path

from embup_core.files.atomic import replace_durably

HOME = ".dagster"

CONFIGURATION = """\
telemetry:
  enabled: false

# No invitation to a newsletter at the first visit.
nux:
  enabled: false

# A fit takes all cores and holds matrices: two runs side by side would only fight.
concurrency:
  runs:
    max_concurrent_runs: 1

# A run whose process was killed holds the one place until it is given up.
run_monitoring:
  enabled: true
  max_runtime_seconds: 86400

# What sensors and schedules did at each look; runs stay, `embup clean` removes old ones.
retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days:
      skipped: 7
      failure: 30
      success: 90

# Assets log as events. Capturing stdout and stderr as well would take two more processes a step, which answer
# a Ctrl-C with tracebacks; so the tabs stdout and stderr of a run stay empty.
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
