"""What the checks of a drop found: expected, found, the worst offenders, and the verdict."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

WORST_OFFENDERS: Final = 20


class Status(StrEnum):
    """How a check ended."""

    passed = "passed"
    warning = "warning"
    failed = "failed"
    not_run = "not run"


class Verdict(StrEnum):
    """What becomes of a drop."""

    accepted = "accepted"
    quarantine = "accepted with quarantine"
    refused = "refused"


CHECKS: Final[Mapping[str, str]] = {
    "files": "Files are those that drop.json lists: sizes and SHA-256.",
    "schema": "Shapes, dtypes and values that belong together; finite numbers; rows of z of length 1.",
    "enough_rows": "Rows that can be trained on.",
    "landmarks": "Cosines are those with the landmarks of the first drop, in their order.",
    "spanned": "The landmarks span the rows: recovered lengths are 1.",
    "same_map": "Rows were projected by the map of the earlier drops.",
    "rows_belong": "Each row of z belongs to its row of cosines.",
    "duplicates": "Rows are new: no cosine of 0.9999 or more with an earlier one.",
    "drift_of_z": "z is distributed as in earlier drops.",
    "drift_of_coordinates": "Originals are distributed as in earlier drops.",
}
"""Every check by name, in order, and what it expects."""


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes
    ----------
    name
        One of `CHECKS`.
    status
        A warning lets the drop through; a failure refuses it.
    expected, found
        In words, with figures.
    remedy
        What to do where it did not pass.
    offenders
        The worst rows, landmarks or dimensions, at most 20, with figures.
    left_out
        Rows of the drop that are not trained on because of it, 0-based.
    figures
        Numbers for tables and plots.
    """

    name: str
    status: Status
    expected: str
    found: str
    remedy: str = ""
    offenders: tuple[dict[str, Any], ...] = ()
    left_out: tuple[int, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)

    @classmethod
    def not_run(cls, name: str, why: str) -> Self:
        """A check for which something is missing."""
        return cls(name, Status.not_run, CHECKS[name], why)


@dataclass(frozen=True)
class DropReport:
    """The verdict on one drop.

    Attributes
    ----------
    month
        Name of the drop, ``YYYY-MM``.
    rows
        In the drop.
    checks
        In order; all of `CHECKS`.
    quarantined
        Rows that do not belong together, 0-based and sorted: reported, and never trained on.
    duplicates
        Rows that were delivered before.
    accepted_rows
        Rows that are trained on or held out; 0 where the drop is refused.
    held_out_rows
        Of these, rows that are held out for ever.
    basis
        Id of the basis that its coordinates are in; empty where there is none.
    drop_sha256
        Of the drop's ``drop.json``: the report is about this delivery.
    """

    month: str
    rows: int
    checks: tuple[Check, ...]
    quarantined: tuple[int, ...] = ()
    duplicates: tuple[int, ...] = ()
    accepted_rows: int = 0
    held_out_rows: int = 0
    basis: str = ""
    drop_sha256: str = ""

    @property
    def verdict(self) -> Verdict:
        """Refused where a check failed."""
        if any(check.status == Status.failed for check in self.checks):
            return Verdict.refused
        return Verdict.quarantine if self.quarantined else Verdict.accepted

    @property
    def accepted(self) -> bool:
        """Whether its rows are in the training set."""
        return self.verdict != Verdict.refused

    @property
    def warnings(self) -> tuple[str, ...]:
        """What did not pass and does not refuse the drop, a sentence each."""
        return tuple(one.found for one in self.checks if one.status == Status.warning)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the drop is refused, a sentence each; empty where it is not."""
        return tuple(one.found for one in self.checks if one.status == Status.failed)

    def check(self, name: str) -> Check:
        """The check of this name; raises `KeyError` where there is none."""
        for one in self.checks:
            if one.name == name:
                return one
        raise KeyError(name)

    def complete(self) -> Self:
        """The report with a line for every check, in order: those that are missing were not run."""
        found = {one.name: one for one in self.checks}
        why = "An earlier check failed."
        return replace(self, checks=tuple(found.get(name) or Check.not_run(name, why) for name in CHECKS))

    def to_json(self) -> dict[str, Any]:
        """JSON values, for people and for `from_json`."""
        return {"verdict": str(self.verdict), "reasons": list(self.reasons), **asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from `to_json`; raises `LookupError`, `TypeError` or `ValueError` for what is none."""
        checks = tuple(
            Check(
                **{
                    **one,
                    "status": Status(one["status"]),
                    "offenders": tuple(one["offenders"]),
                    "left_out": tuple(one["left_out"]),
                }
            )
            for one in content["checks"]
        )
        return cls(
            month=content["month"],
            rows=content["rows"],
            checks=checks,
            quarantined=tuple(content["quarantined"]),
            duplicates=tuple(content["duplicates"]),
            accepted_rows=content["accepted_rows"],
            held_out_rows=content["held_out_rows"],
            basis=content["basis"],
            drop_sha256=content["drop_sha256"],
        )
