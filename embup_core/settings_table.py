"""Settings in words, for the shells: the table of docs/reference/settings.md, and the refusal of one.

Fields and errors are taken as pydantic has them, by their shape: which library reads the environment is the
shells' affair.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PREFIX = "EMBUP_"


class DescribedField(Protocol):
    """A setting: what it is where nobody sets it, and what it means."""

    default: Any
    description: str | None


def markdown_settings(fields: Mapping[str, DescribedField]) -> str:
    """One row of a Markdown table for each setting: variable, default, meaning."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in fields.items():
        shown = "" if field.default in (None, "", ()) else f"`{field.default}`"
        lines.append(f"| `{PREFIX}{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def refused_setting(errors: Sequence[Mapping[str, Any]], *, listed_by: str) -> InputError:
    """The error to raise for settings that cannot be.

    Parameters
    ----------
    errors
        As from pydantic's ``ValidationError.errors()``; the first is told.
    listed_by
        The command that prints the table.
    """
    first = errors[0]
    name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
    return InputError(
        f"{name} cannot be {first['input']!r}: {first['msg']}.",
        remedy=f"The settings and their bounds are listed by `{listed_by}`.",
    )
