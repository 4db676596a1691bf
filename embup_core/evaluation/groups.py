"""Where a decoder serves some rows worse than others: errors and recall by group.

A figure over all rows hides that a corpus, a label or a region of the space fares worse. Each group of test
rows is told by itself, beside all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.blocks import row_blocks
from embup_core.evaluation.cosines import true_cosines
from embup_core.evaluation.ranking import shared_nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from embup_core.evaluation.held_out import DecodedRows
    from embup_core.sources.cosine_matrix import CosineMatrix

FEWEST_ROWS: Final = 20
"""Smaller groups are not told: their figures would be chance."""
ALL_ROWS: Final = "all"

_NEIGHBOURS: Final = 10


@dataclass(frozen=True)
class GroupScores:
    """How a group of test rows fares, by its cosines with fitted rows.

    Attributes
    ----------
    kind
        What the rows are told apart by, such as ``label`` or ``cluster``; ``all`` for all test rows.
    name
        Of the group; empty for all test rows.
    rows
        Test rows in it.
    rmse
        Root mean square error of their cosines.
    bias
        Mean of predicted - true.
    recall_at_10
        Share of their 10 nearest fitted rows that are found; None where fewer rows were fitted.
    """

    kind: str
    name: str
    rows: int
    rmse: float
    bias: float
    recall_at_10: float | None


def score_groups(
    unseen: DecodedRows,
    seen: DecodedRows,
    matrix: CosineMatrix,
    groups: Mapping[str, NDArray[Any]],
    *,
    fit_rows: NDArray[np.int64],
    eval_rows: NDArray[np.int64],
) -> tuple[GroupScores, ...]:
    """Score each group of the unseen rows.

    Parameters
    ----------
    unseen, seen
        Decoded `eval_rows` and `fit_rows`.
    matrix
        True cosines of all sample rows.
    groups
        By kind, what each of the unseen rows belongs to: shape (n,).
    fit_rows, eval_rows
        Disjoint row numbers.

    Returns
    -------
    All unseen rows first, then each kind's groups of at least 20 rows, the largest error first. A kind with
    one group is left out.
    """
    n = len(eval_rows)
    true = true_cosines(matrix, eval_rows, fit_rows)
    squared, bias, recall = np.empty(n), np.empty(n), np.empty(n)
    ranked = len(fit_rows) >= _NEIGHBOURS
    for block in row_blocks(n):
        predicted, actual = unseen.rows[block] @ seen.rows.T, true.block(block.start, block.stop)
        errors = predicted - actual  # (b, fitted)
        squared[block], bias[block] = np.square(errors).mean(axis=1), errors.mean(axis=1)
        if ranked:
            recall[block] = shared_nearest(predicted, actual, (_NEIGHBOURS,))[:, 0] / _NEIGHBOURS

    def scores(kind: str, name: str, rows: NDArray[np.bool_]) -> GroupScores:
        return GroupScores(
            kind,
            name,
            int(rows.sum()),
            float(np.sqrt(squared[rows].mean())),
            float(bias[rows].mean()),
            float(recall[rows].mean()) if ranked else None,
        )

    def of_kind(kind: str, values: NDArray[Any]) -> Iterator[GroupScores]:
        names, sizes = np.unique(values, return_counts=True)
        if len(names) > 1:
            for name in names[sizes >= FEWEST_ROWS]:
                yield scores(kind, str(name), values == name)

    return (
        scores(ALL_ROWS, "", np.ones(n, bool)),
        *(
            one
            for kind, values in groups.items()
            for one in sorted(of_kind(kind, values), key=lambda group: -group.rmse)
        ),
    )
