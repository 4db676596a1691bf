"""Two analyses of one data set: what got better, what got worse, which findings came and went."""

from __future__ import annotations

from contextlib import ExitStack
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from debugger.kept_open import file_state
from debugger.queries import analysis_row
from debugger.reading import chosen_version, open_dataset
from debugger.store.names import find_dataset
from embup_core.debugging.kinds import LESS_IS_WORSE
from embup_core.debugging.slices import Partition
from embup_core.debugging.versions import compare_versions

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from debugger.reading import OpenDataset

ROWS_SHOWN: Final = 20
SLICES_SHOWN: Final = 20
FINDINGS_SHOWN: Final = 20
_KEPT: Final = 16
_NO_KEYS: Final = (np.empty(0, np.int64), np.empty(0, np.uint64))


def compare(data: Path, name: str, before: int, after: int) -> dict[str, Any]:
    """Compare two analyses of one data set.

    Parameters
    ----------
    data
        The data folder.
    name
        Of the data set.
    before, after
        Versions of its analysis.

    Returns
    -------
    ``before`` and ``after``: version, when, how many reviews it knew, and the accuracy of its classifier.
    ``scores`` by kind: means, rows that got worse and better, the worst changes and the slices that changed
    most, as `embup_core.debugging.versions.compare_versions` finds them. ``findings`` by kind: how many in
    both, how many are new and gone, and the first of the new ones. It is shared with other callers.

    Raises
    ------
    InputError
        There is no such data set or version.
    BrokenDatasetError
        A file of it is damaged.
    """
    folder = find_dataset(data, name)
    for version in (before, after):
        chosen_version(folder, version)
    files = (folder.dataset, folder.analysis(before), folder.analysis(after))
    return _compare(data, name, before, after, tuple(map(file_state, files)))


@lru_cache(maxsize=_KEPT)
def _compare(
    data: Path, name: str, before: int, after: int, _files: tuple[tuple[int, ...] | None, ...]
) -> dict[str, Any]:
    """Compare once; the files that it depends on never change."""
    with ExitStack() as stack:
        old, new = (stack.enter_context(open_dataset(data, name, version=one)) for one in (before, after))
        partitions, known = _partitions(new), set(_kinds(old))
        kinds = [kind for kind in _kinds(new) if kind in known]
        return {
            "name": name,
            "before": _described(old),
            "after": _described(new),
            "scores": {kind: _scores(old, new, kind, partitions) for kind in kinds},
            "findings": _findings(old, new),
        }


def _kinds(opened: OpenDataset) -> list[str]:
    return [one["kind"] for one in opened.query("SELECT DISTINCT kind FROM scores ORDER BY kind")]


def _described(opened: OpenDataset) -> dict[str, Any]:
    row = analysis_row(opened)
    classifier = row["summary"].get("classifier") or {}
    accuracy = (classifier.get("accuracy") or {}).get(classifier.get("features"))
    return {
        "version": row["version"],
        "analysed_at": row["analysed_at"],
        "reviews": row["review_seq"],
        "accuracy": accuracy,
        "estimated_label_errors": classifier.get("estimated_label_errors"),
    }


def _partitions(opened: OpenDataset) -> list[Partition]:
    table: Any = opened.connection.sql(
        "SELECT label, usage, group_name FROM rows LEFT JOIN labels USING (row) ORDER BY row"
    ).to_arrow_table()
    found = []
    for name, column in zip(("label", "usage", "group"), table.columns, strict=True):
        coded = column.combine_chunks().dictionary_encode()
        if parts := coded.dictionary.to_pylist():
            codes = coded.indices.fill_null(-1).to_numpy().astype(np.int64)
            found.append(Partition(name, tuple(parts), codes))
    return found


def _values(opened: OpenDataset, kind: str) -> NDArray[np.float64]:
    found = opened.connection.execute("SELECT row, value FROM scores WHERE kind = ?", [kind]).fetchnumpy()
    values = np.full(opened.count("rows"), np.nan)
    values[np.asarray(found["row"], dtype=np.int64)] = found["value"]
    return values


def _scores(old: OpenDataset, new: OpenDataset, kind: str, partitions: list[Partition]) -> dict[str, Any]:
    sign = -1 if kind in LESS_IS_WORSE else 1
    before, after = _values(old, kind), _values(new, kind)
    found = compare_versions(sign * before, sign * after, partitions)
    both = np.isfinite(before) & np.isfinite(after)
    return {
        "rows": int(both.sum()),
        "before": float(before[both].mean()) if both.any() else None,
        "after": float(after[both].mean()) if both.any() else None,
        "rows_worse": int((found.changes > 0).sum()),
        "rows_better": int((found.changes < 0).sum()),
        "worst": [
            {"row": row, "before": float(before[row]), "after": float(after[row])}
            for row in found.worst_rows[:ROWS_SHOWN].tolist()
        ],
        "slices": [
            {
                "partition": one.partition,
                "name": one.name,
                "rows": len(one.rows),
                "before": sign * one.before,
                "after": sign * one.after,
                "p": one.p,
                "q": one.q,
                "worse": one.worse,
            }
            for one in found.slices[:SLICES_SHOWN]
        ],
    }


def _findings(old: OpenDataset, new: OpenDataset) -> dict[str, Any]:
    before, after = (_keys(opened) for opened in (old, new))
    compared = {}
    for kind in {**after, **before}:
        then, (numbers, now) = before.get(kind, _NO_KEYS)[1], after.get(kind, _NO_KEYS)
        came = ~np.isin(now, then)
        fresh = new.query(
            "SELECT finding, title, rows[:20] AS rows FROM findings WHERE list_contains(?, finding)"
            " ORDER BY finding",
            [np.sort(numbers[came])[:FINDINGS_SHOWN].tolist()],
        )
        compared[kind] = {
            "before": len(then),
            "after": len(now),
            "new": int(came.sum()),
            "gone": int((~np.isin(then, now)).sum()),
            "first_new": fresh,
        }
    return compared


def _keys(opened: OpenDataset) -> dict[str, tuple[NDArray[np.int64], NDArray[np.uint64]]]:
    """Numbers of the findings of each kind, and hashes of their keys: shape (m,) each."""
    kinds = [
        one["kind"] for one in opened.query("SELECT kind FROM findings GROUP BY kind ORDER BY min(finding)")
    ]
    found = {}
    for kind in kinds:
        columns = opened.connection.execute(
            "SELECT finding, hash(key) AS key FROM findings WHERE kind = ?", [kind]
        ).fetchnumpy()
        found[kind] = (np.asarray(columns["finding"], np.int64), np.asarray(columns["key"], np.uint64))
    return found
