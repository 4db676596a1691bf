"""All checks of a drop in one call, and what is kept of the verdict: for the shell and for Dagster."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.drops.drift import LEADING_DIMS, check_drift
from embup_core.drops.duplicates import check_duplicates
from embup_core.drops.folder import COORDINATES_FILE, REPORT_FILE, ROWS_FILE
from embup_core.drops.held_out import held_out_mask
from embup_core.drops.judging import Judged, judge_first, judge_later
from embup_core.drops.known import Known
from embup_core.drops.report import CHECKS, Check, DropReport, Status
from embup_core.errors import InvalidDataError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from embup_core.drops.folder import AcceptedDrop, DropsFolder
    from embup_core.drops.format import Drop
    from embup_core.progress import Progress

FEWEST_ROWS: Final = 100
_REFERENCE_ROWS: Final = 5_000


@dataclass(frozen=True, eq=False)
class CheckedDrop:
    """A report, and what is kept of an accepted drop.

    Attributes
    ----------
    report
        The verdict.
    rows
        Accepted rows: int64, shape (m,), sorted; empty where the drop is refused.
    coordinates
        Of these rows: float32, shape (m, r), unit rows.
    known
        What is fixed after this drop; None where it is refused.
    known_before
        What was fixed before it; None for a first drop.
    """

    report: DropReport
    rows: NDArray[np.int64]
    coordinates: NDArray[np.float32]
    known: Known | None
    known_before: Known | None


def check_drop(
    place: DropsFolder,
    month: str,
    *,
    output_dims: int = DEFAULT_OUTPUT_DIMS,
    progress: Progress | None = None,
) -> CheckedDrop:
    """Check a drop against the accepted drops of earlier months. Nothing is written.

    Parameters
    ----------
    place
        Where the drops are.
    month
        ``YYYY-MM``.
    output_dims
        Dimensions of the originals, which a first drop does not state.
    progress
        Called with a label, units done and units in all.

    Raises
    ------
    SourceUnavailableError
        There is no complete drop of this month, or an earlier one has no verdict yet.
    InvalidDataError
        What is kept of an earlier drop is damaged.
    """
    waiting = [one for one in place.months() if one < month and place.report(one) is None]
    if waiting:
        raise SourceUnavailableError(
            f"The drop {month} is checked against earlier ones, and {', '.join(waiting)} has no verdict yet.",
            remedy=f"Check that first: embup drops check {place.root} {waiting[0]}.",
        )
    earlier = place.accepted(before=month)
    known = place.known(earlier)
    try:
        drop = place.whole_drop(month)
    except InvalidDataError as error:
        return _undescribed(month, place.delivered(month), error, known)
    _report(progress, "comparing hashes")
    files = _check_files(drop)
    if files.status == Status.failed:
        return _refused(drop, [files], known)
    _report(progress, "placing rows")
    if known is None:
        # Whatever was delivered before in its place: later drops rest on the basis that it fixed.
        own = Known.load([place.kept_path(month)])
        judged = judge_first(drop, own, output_dims=output_dims, progress=progress)
    else:
        judged = judge_later(drop, known, earlier)
    checks = [files, *judged.checks]
    if judged.known is None or any(one.status == Status.failed for one in checks):
        return _refused(drop, checks, known, basis=judged.basis_id)
    belonging = ~judged.quarantined
    _report(progress, "searching duplicates")
    # Of later months, too: a drop that is mended and delivered again may come after them.
    others = [one for one in place.accepted() if one.month != month]
    duplicates = check_duplicates(judged.projected, judged.coordinates, belonging, others)
    kept = belonging.copy()
    kept[list(duplicates.left_out)] = False
    rows = np.flatnonzero(kept)
    enough = _check_number(len(rows), drop.rows)
    _report(progress, "comparing with earlier drops")
    drift = _check_drift(judged, kept, earlier) if enough.status == Status.passed else []
    report = DropReport(
        month=month,
        rows=drop.rows,
        checks=(*checks, duplicates, enough, *drift),
        quarantined=tuple(np.flatnonzero(judged.quarantined).tolist()),
        duplicates=duplicates.left_out,
        basis=judged.known.basis.id,
        drop_sha256=drop.sha256,
    ).complete()
    if not report.accepted:
        return _refused(drop, list(report.checks), known, basis=report.basis)
    held_out = held_out_mask(judged.projected[rows])
    report = replace(report, accepted_rows=len(rows), held_out_rows=int(held_out.sum()))
    return CheckedDrop(report, rows, np.ascontiguousarray(judged.coordinates[rows]), judged.known, known)


def keep_verdict(place: DropsFolder, checked: CheckedDrop) -> None:
    """Write the verdict beside the drop; an accepted drop is part of the training set from now on.

    Parameters
    ----------
    place
        Where the drop was checked.
    checked
        What `check_drop` found.

    Raises
    ------
    InvalidDataError
        Later drops are accepted that rest on what this one fixed, and it is refused now, or has another
        basis; what was kept before stays.
    """
    report = checked.report
    accepted = place.accepted()
    later = [one.month for one in accepted if one.month > report.month]
    known = place.known(accepted) if later else None
    if known is not None and (checked.known is None or known.for_basis(checked.known.basis.id) is None):
        why = " ".join(report.reasons) if checked.known is None else "It would fix another basis."
        raise InvalidDataError(
            f"This verdict on {report.month} is not kept, as {', '.join(later)} rest on the former: {why}",
            remedy=f"Put back what was delivered for {report.month}; what was kept of it stays.",
        )
    files: dict[str, bytes | NDArray[np.int64] | NDArray[np.float32]] = {}
    if checked.known is not None:
        files |= {ROWS_FILE: checked.rows, COORDINATES_FILE: checked.coordinates}
        files |= checked.known.files(checked.known_before)
    files[REPORT_FILE] = json.dumps(report.to_json(), indent=2).encode() + b"\n"
    place.keep(report.month, files)
    newest = place.known(place.accepted())
    if newest is not None:
        place.publish_landmarks(newest)


def _report(progress: Progress | None, note: str) -> None:
    if progress is not None:
        progress(note, 0, None)


def _refused(drop: Drop, checks: Sequence[Check], known: Known | None, *, basis: str = "") -> CheckedDrop:
    report = DropReport(drop.month, drop.rows, tuple(checks), basis=basis, drop_sha256=drop.sha256).complete()
    nothing = np.empty((0, 0), np.float32)
    return CheckedDrop(report, np.empty(0, np.int64), nothing, None, known)


def _undescribed(month: str, sha256: str | None, error: InvalidDataError, known: Known | None) -> CheckedDrop:
    """The verdict on a drop whose description cannot be read."""
    files = Check("files", Status.failed, CHECKS["files"], error.message, error.remedy)
    report = DropReport(month, 0, (files,), drop_sha256=sha256 or "").complete()
    return CheckedDrop(report, np.empty(0, np.int64), np.empty((0, 0), np.float32), None, known)


def _check_files(drop: Drop) -> Check:
    changed = drop.changed_files()
    if changed:
        return Check(
            "files",
            Status.failed,
            CHECKS["files"],
            f"{len(changed)} of {len(drop.files)} files are not those of drop.json: "
            + "; ".join(f"{name} has {what}" for name, what in changed)
            + ".",
            "Deliver the drop again.",
            tuple({"file": name, "found": what} for name, what in changed),
        )
    return Check("files", Status.passed, CHECKS["files"], f"{len(drop.files)} files are as listed")


def _check_number(kept: int, rows: int) -> Check:
    expected = f"at least {FEWEST_ROWS} rows that are new and belong together"
    figures = {"rows": float(kept)}
    if kept < FEWEST_ROWS:
        return Check(
            "enough_rows", Status.failed, expected, f"{kept} of {rows:,} rows are left.",
            "Deliver them with the next drop.", figures=figures,
        )  # fmt: skip
    return Check("enough_rows", Status.passed, expected, f"{kept:,} of {rows:,} rows", figures=figures)


def _check_drift(judged: Judged, kept: NDArray[np.bool_], earlier: Sequence[AcceptedDrop]) -> list[Check]:
    before_z = before_c = None
    dims = min(LEADING_DIMS, *(one.coordinates().shape[1] for one in earlier), judged.coordinates.shape[1])
    if earlier:
        every = max(1, sum(one.report.accepted_rows for one in earlier) // _REFERENCE_ROWS)
        before_z = np.concatenate([one.projected()[::every] for one in earlier])
        before_c = np.concatenate([np.asarray(one.coordinates()[::every, :dims]) for one in earlier])
    return [
        check_drift("drift_of_z", before_z, judged.projected[kept], what="Rows of z"),
        check_drift("drift_of_coordinates", before_c, judged.coordinates[kept, :dims], what="Originals"),
    ]
