"""Which rows a decoder is fitted on, chosen by, and reported on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from embup_core.artifacts.training_rows import HELD_OUT_FIELD
from embup_core.errors import InputError, TrainingError
from embup_core.sources.files import GROUPS_FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEST_ROWS_FIELD = "test_rows_sha256"
NOT_SAMPLED_FIELD = "not_sampled"
MAX_TRAINING_ROWS = 100_000
"""Rows that take part by default: their coordinates in memory take 0.6 GB."""
_NO_ROWS = np.empty(0, np.int64)
_FEWEST_ROWS = 100
_FEWEST_IN_A_PART = 3  # two make one pair, whose cosine has no variance to explain


class SplitBy(StrEnum):
    """What is divided: single rows, or whole groups of them. Named as it is written in settings."""

    rows = "rows"
    groups = "groups"

    @classmethod
    def from_text(cls, text: str) -> Self:
        """The member of this name; raises `InputError` for another."""
        try:
            return cls(text)
        except ValueError as error:
            raise InputError(
                f"split {text!r} is unknown, expected one of {', '.join(cls)}.", remedy="Choose one of them."
            ) from error


@dataclass(frozen=True)
class RowSplit:
    """Disjoint sorted row numbers: int64, shape (n,) each.

    Settings and the champion are chosen on `validation`; `test` is looked at once, for the report. Split by
    groups, test rows tell how a decoder does on groups it never saw, which is harder.

    Attributes
    ----------
    train, validation, test
        Row numbers.
    by
        What was divided.
    seed
        Of the division.
    held_out
        Whether the source says which rows are test rows: no published decoder is fitted on them, either.
    not_sampled
        Rows that take no part because there are more than a training takes: int64, shape (m,), sorted.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    by: SplitBy = SplitBy.rows
    seed: int = 0
    held_out: bool = False
    not_sampled: NDArray[np.int64] = field(default_factory=lambda: _NO_ROWS)

    @property
    def fit_rows(self) -> NDArray[np.int64]:
        """Train and validation together: what the reported decoders are fitted on."""
        return np.sort(np.concatenate([self.train, self.validation]))

    @property
    def all_rows(self) -> NDArray[np.int64]:
        """Every row that takes part, sorted."""
        return np.sort(np.concatenate([self.train, self.validation, self.test]))

    @property
    def published_rows(self) -> NDArray[np.int64]:
        """What the published decoder is fitted on, sorted: all rows, but for those held out for ever."""
        return self.fit_rows if self.held_out else self.all_rows

    def among(self, rows: NDArray[np.int64]) -> Self:
        """The same division of some rows of a larger file: int64, shape (n,), the row numbers there."""
        return replace(self, train=rows[self.train], validation=rows[self.validation], test=rows[self.test])

    def to_json(self) -> dict[str, Any]:
        """Plain values for the manifest: how rows were divided, and a hash that names the test rows."""
        return {
            "by": str(self.by),
            "seed": self.seed,
            **{name: len(getattr(self, name)) for name in ("train", "validation", "test")},
            TEST_ROWS_FIELD: hashlib.sha256(self.test.astype("<i8").tobytes()).hexdigest(),
            **({HELD_OUT_FIELD: True} if self.held_out else {}),
            **({NOT_SAMPLED_FIELD: len(self.not_sampled)} if len(self.not_sampled) else {}),
        }

    def sampling_note(self) -> str | None:
        """A sentence about rows that were not sampled; None where all take part."""
        if not len(self.not_sampled):
            return None
        taken = len(self.all_rows)
        return (
            f"{taken:,} of {taken + len(self.not_sampled):,} rows take part, chosen at random with the seed "
            f"{self.seed}; --max-training-rows (`max_training_rows`) takes more."
        )


def split_rows(
    n_rows: int,
    groups: NDArray[Any] | None = None,
    *,
    split: SplitBy = SplitBy.rows,
    seed: int = 0,
    test_share: float = 0.15,
    validation_share: float = 0.10,
) -> RowSplit:
    """Split rows at random: test_share and validation_share of all rows, the rest for training.

    Parameters
    ----------
    n_rows
        N.
    groups
        Which group each row belongs to: integers or strings, shape (N,). Not looked at in a split by rows.
    split
        By groups, a group is taken whole: into test, in random order, as long as that brings test nearer to
        its share, then into validation likewise. Each part has at least one group.
    seed
        Of the order of rows, or of groups.
    test_share, validation_share
        Shares of all rows.

    Raises
    ------
    TrainingError
        Fewer than 100 rows, or shares or groups that leave fewer than three rows in a part.
    InputError
        A split by groups without groups, or with fewer than three.
    """
    if n_rows < _FEWEST_ROWS:
        raise TrainingError(
            f"Expected at least {_FEWEST_ROWS} sample rows, found {n_rows}.", remedy="Provide more rows."
        )
    n_test, n_validation = int(n_rows * test_share), int(n_rows * validation_share)
    if min(n_test, n_validation, n_rows - n_test - n_validation) < _FEWEST_IN_A_PART:
        raise TrainingError(
            f"A test share of {test_share} and a validation share of {validation_share} of {n_rows} rows "
            f"leave fewer than {_FEWEST_IN_A_PART} rows in a part.",
            remedy="Choose shares above 0 that add up to less than 1.",
        )
    if split == SplitBy.groups:
        return _split_groups(groups, n_test, n_validation, seed)
    order = np.random.default_rng(seed).permutation(n_rows)
    return RowSplit(
        train=np.sort(order[n_test + n_validation :]),
        validation=np.sort(order[n_test : n_test + n_validation]),
        test=np.sort(order[:n_test]),
        seed=seed,
    )


def split_right_rows(
    n_rows: int,
    left_out: NDArray[np.int64],
    groups: NDArray[Any] | None = None,
    *,
    held_out: NDArray[np.bool_] | None = None,
    max_training_rows: int = MAX_TRAINING_ROWS,
    **division: Any,
) -> RowSplit:
    """Split the rows that are not left out, or a random sample of them.

    See `split_rows`, whose other parameters it takes.

    Parameters
    ----------
    n_rows, groups
        Of all rows.
    left_out
        Rows that belong to no part: int64, shape (w,).
    held_out
        Rows that are the test rows, whatever the shares: bool, shape (N,). None draws test rows.
    max_training_rows
        Most rows that are divided, rows held out for ever among them. Of more, those for ever held out stay
        all, up to half as many, and the others are drawn with the seed of the division. Groups are divided
        after that.
    division
        As for `split_rows`.

    Raises
    ------
    TrainingError
        As `split_rows`, or fewer than three rows are held out.
    InputError
        As `split_rows`, a split by groups of a source that says which rows are held out, or fewer than 100
        rows to take.
    """
    if max_training_rows < _FEWEST_ROWS:
        raise InputError(
            f"Expected max_training_rows of at least {_FEWEST_ROWS}, found {max_training_rows}.",
            remedy="Take more rows.",
        )
    right = np.setdiff1d(np.arange(n_rows), left_out)
    taken = _sampled(right, held_out, max_training_rows, seed=division.get("seed", 0))
    if held_out is not None:
        parts = _split_beside(taken, held_out[taken], **division)
    else:
        parts = split_rows(len(taken), None if groups is None else groups[taken], **division).among(taken)
    return replace(parts, not_sampled=np.setdiff1d(right, taken))


def _sampled(
    rows: NDArray[np.int64], held_out: NDArray[np.bool_] | None, most: int, *, seed: int
) -> NDArray[np.int64]:
    """At most so many of some rows, those held out for ever first, up to half: int64, sorted."""
    if len(rows) <= most:
        return rows
    order = np.random.default_rng([seed, 1]).permutation(len(rows))
    if held_out is None:
        return np.sort(rows[order[:most]])
    mask = held_out[rows[order]]
    kept, others = rows[order][mask], rows[order][~mask]
    n_kept = min(len(kept), max(most // 2, most - len(others)))
    return np.sort(np.concatenate([kept[:n_kept], others[: most - n_kept]]))


def _split_beside(
    rows: NDArray[np.int64],
    held_out: NDArray[np.bool_],
    *,
    split: SplitBy = SplitBy.rows,
    seed: int = 0,
    validation_share: float = 0.10,
    **_: Any,
) -> RowSplit:
    """Test rows are those held out; validation rows are drawn from the others."""
    if split != SplitBy.rows:
        raise InputError(
            f"The source says which rows are held out, so it cannot be split by {split}.",
            remedy="Split by rows.",
        )
    others = rows[~held_out]
    n_validation = int(len(rows) * validation_share)
    if len(rows) < _FEWEST_ROWS or min(held_out.sum(), n_validation, len(others) - n_validation) < (
        _FEWEST_IN_A_PART
    ):
        raise TrainingError(
            f"Of {len(rows):,} rows {int(held_out.sum()):,} are held out, and {n_validation:,} are to be "
            f"validation rows: expected at least {_FEWEST_ROWS} rows, and {_FEWEST_IN_A_PART} in each part.",
            remedy="Provide more rows.",
        )
    order = np.random.default_rng(seed).permutation(len(others))
    return RowSplit(
        train=np.sort(others[order[n_validation:]]),
        validation=np.sort(others[order[:n_validation]]),
        test=rows[held_out],
        seed=seed,
        held_out=True,
    )


def _split_groups(groups: NDArray[Any] | None, n_test: int, n_validation: int, seed: int) -> RowSplit:
    if groups is None:
        raise InputError(
            f"A split by groups needs to know the group of each row, and the source has no {GROUPS_FILE}.",
            remedy=f"Put {GROUPS_FILE} beside the other files, an integer or a string for each row, "
            "or split by rows.",
        )
    names, group_of_row, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 3:
        raise InputError(
            f"A split by groups needs at least 3 groups, found {len(names)} in {GROUPS_FILE}.",
            remedy="Give finer groups, or split by rows.",
        )
    left = [int(group) for group in np.random.default_rng(seed).permutation(len(names))]
    test = _take_groups(left, sizes, n_test, leaving=2)
    validation = _take_groups(left, sizes, n_validation, leaving=1)
    parts = RowSplit(
        train=np.flatnonzero(np.isin(group_of_row, left)),
        validation=np.flatnonzero(np.isin(group_of_row, validation)),
        test=np.flatnonzero(np.isin(group_of_row, test)),
        by=SplitBy.groups,
        seed=seed,
    )
    if min(len(parts.train), len(parts.validation), len(parts.test)) < _FEWEST_IN_A_PART:
        raise TrainingError(
            f"The {len(names)} groups in {GROUPS_FILE} leave fewer than {_FEWEST_IN_A_PART} rows in a part.",
            remedy="Give groups of more equal sizes, another seed, or split by rows.",
        )
    return parts


def _take_groups(left: list[int], sizes: NDArray[np.int64], wanted: int, *, leaving: int) -> list[int]:
    """Take groups out of `left`, in its order, that bring their rows nearest to `wanted`; at least one."""
    taken: list[int] = []
    missing = wanted
    for group in list(left):
        if len(left) > leaving and abs(missing - int(sizes[group])) < missing:
            left.remove(group)
            taken.append(group)
            missing -= int(sizes[group])
    if not taken:
        smallest = min(left, key=lambda group: int(sizes[group]))
        left.remove(smallest)
        taken.append(smallest)
    return taken
