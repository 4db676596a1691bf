"""Which versions stay when old ones are removed, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def reasons_to_keep(
    names: Collection[str],
    *,
    keep: int,
    current: str | None,
    earlier: str | None,
    deployed: Sequence[str] | None,
    pinned: Collection[str],
) -> dict[str, str]:
    """Why each version stays, newest first; one that may go has an empty reason.

    Parameters
    ----------
    names
        All published versions.
    keep
        How many of the newest stay.
    current, earlier
        The version in service, and the one that a rollback puts there; None where there is none.
    deployed
        Versions that were in service, the latest last, with repetitions. One of each quarter stays: the last
        of these, or else the newest. None keeps none for its quarter.
    pinned
        Versions that batches need which have not ended.
    """
    newest_first = sorted(names, reverse=True)
    reasons = dict.fromkeys(newest_first, "")
    # The strongest reason last.
    if deployed is not None:
        last_deployed = {version: place for place, version in enumerate(deployed)}
        in_order = sorted(names, key=lambda name: (last_deployed.get(name, -1), name))
        of_quarters = {_quarter(name): name for name in in_order}  # of equal keys the last one stays
        for quarter, name in of_quarters.items():
            reasons[name] = f"the one of {quarter}"
    for name in newest_first[:keep]:
        reasons[name] = f"among the newest {keep}"
    for needed, why in (
        *((name, "a batch that has not ended needs it") for name in pinned),
        (earlier, "a rollback needs it"),
        (current, "in service"),
    ):
        if needed in reasons:
            reasons[needed] = why
    return reasons


def _quarter(version: str) -> str:
    """The quarter that a version was published in, from its name ``YYYYMMDD-…``."""
    return f"{version[:4]}-Q{(int(version[4:6]) + 2) // 3}"
