"""What a version's ``evaluation.json`` says of the promotion gate: why it was held, if it was."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from embup_core.artifacts.manifest import EVALUATION_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

GATE_FIELD: Final = "gate"
"""Field of the evaluation: `GateResult.to_json`."""


def recorded_gate(folder: Path) -> dict[str, Any] | None:
    """The gate's result in the folder of a version; None where there is none that can be read."""
    try:
        return gate_of(json.loads((folder / EVALUATION_FILE).read_bytes()))
    except (OSError, ValueError, AttributeError):
        return None


def gate_of(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """The gate's result in an evaluation; None where there is none."""
    found = evaluation.get(GATE_FIELD)
    return found if isinstance(found, dict) else None


def override_note(gate: Mapping[str, Any] | None) -> str | None:
    """What the deployment history says where a version is promoted in spite of the gate; else None."""
    if gate is None or gate.get("passed") is not False:
        return None
    reasons = gate.get("reasons")
    return "overrode the gate: " + ("; ".join(map(str, reasons)) if isinstance(reasons, list) else "held")
