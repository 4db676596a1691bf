"""Choose the columns of a table that hold the rows, by their names; shared by CSV and Parquet.

A column of lists is chosen by the length of its lists, columns of numbers by the numbers that their names end
in. Files whose names leave the choice or the order open are refused: a permuted row has a wrong answer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

VECTOR_NAMES: Final = ("embedding", "embeddings", "vector", "vectors", "values", "emb", "z")
"""Usual names of columns, keys and arrays of vectors; of a single candidate the name does not matter."""

_NAMES_SHOWN: Final = 5
_NUMBERED: Final = re.compile(r"(.*?)([0-9]{1,9})", re.DOTALL)


class AmbiguousColumnsError(ValueError):
    """The names do not say which columns hold the rows, or in which order; the text says what was found."""


def columns_by_number(names: Sequence[str], input_dims: int) -> list[int]:
    """Return the places of the columns of one vector, in the order of the numbers that their names end in.

    Parameters
    ----------
    names
        Names of the columns of numbers, in the order of the file.
    input_dims
        How many columns a vector has.

    Raises
    ------
    AmbiguousColumnsError
        There is not exactly one family of `input_dims` names that differ in the number at their end.
    """
    families: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, name in enumerate(names):
        if (found := _NUMBERED.fullmatch(name.strip())) is not None:
            families[found[1]].append((int(found[2]), place))
    fitting = {
        prefix: members
        for prefix, members in families.items()
        if len(members) == len({number for number, _ in members}) == input_dims
    }
    if len(fitting) == 1:
        (members,) = fitting.values()
        return [place for _, place in sorted(members)]
    if fitting:
        several = ", ".join(f"{prefix}…" for prefix in fitting)
        raise AmbiguousColumnsError(f"{len(fitting)} families of {input_dims} columns ({several})")
    raise AmbiguousColumnsError(counted(names, "column of numbers", "columns of numbers"))


def choose_columns(
    lists: Mapping[str, int | None],
    numbers: Sequence[str],
    input_dims: int,
    *,
    by_order: Callable[[], list[int] | None] | None = None,
) -> str | list[int]:
    """Return the column of lists that holds the rows, or the places of the columns of numbers that do.

    Parameters
    ----------
    lists
        Length of the first list of each column of lists; None where it has none.
    numbers
        Names of the columns of numbers, in the order of the file.
    input_dims
        Values of a row.
    by_order
        Chooses columns of numbers without names; None where they have names.

    Raises
    ------
    AmbiguousColumnsError
        Neither or both hold rows, or several columns do.
    """
    fitting = column_of_lists(lists, input_dims)
    refusal = None
    try:
        places = columns_by_number(numbers, input_dims) if by_order is None else by_order()
    except AmbiguousColumnsError as error:
        places, refusal = None, error
    if fitting is not None and places is not None and fitting.lower() not in VECTOR_NAMES:
        raise AmbiguousColumnsError(f"both: the column of lists {fitting!r}, and columns of numbers")
    if fitting is not None:
        return fitting
    if places is not None:
        return places
    if len(lists) == 1:  # of another length, in the first row at least: each row says so
        return next(iter(lists))
    found = [counted(list(lists), "column of lists", "columns of lists")]
    found.append(str(refusal) if refusal else f"{len(numbers)} columns of numbers and no header")
    raise AmbiguousColumnsError(" and ".join(found))


def column_of_lists(lengths: Mapping[str, int | None], input_dims: int) -> str | None:
    """Return the one column (or key) whose lists have the length of a row; None where no list has it.

    Parameters
    ----------
    lengths
        Length of the first list of each column; None where it has none.
    input_dims
        Length of a row.

    Raises
    ------
    AmbiguousColumnsError
        There are several, and none or more than one of them has a usual name.
    """
    fitting = [name for name, length in lengths.items() if length == input_dims]
    if len(fitting) > 1:
        usual = [name for name in fitting if name.lower() in VECTOR_NAMES]
        if len(usual) != 1:
            shown = counted(fitting, "", "columns")
            raise AmbiguousColumnsError(f"{shown} of lists of {input_dims} numbers")
        fitting = usual
    return fitting[0] if fitting else None


def counted(names: Sequence[str], one: str, many: str) -> str:
    """Return how many names there are, and the first of them."""
    if not names:
        return f"no {one}"
    some = ", ".join(repr(name) for name in names[:_NAMES_SHOWN])
    more = ", …" * (len(names) > _NAMES_SHOWN)
    return f"{len(names)} {one if len(names) == 1 else many} ({some}{more})"


def notices_of(names: Sequence[str], chosen: Sequence[int]) -> tuple[str, ...]:
    """Return what a user should know of the choice: another order than the file's, columns passed over."""
    notices = []
    if list(chosen) != sorted(chosen):
        first, last = names[chosen[0]], names[chosen[-1]]
        notices.append(
            f"columns {first!r} to {last!r} are read in the order of their numbers, not in that of the file"
        )
    ignored = [repr(name) for place, name in enumerate(names) if place not in set(chosen)]
    if ignored:
        some = ", ".join(ignored[:_NAMES_SHOWN]) + ", …" * (len(ignored) > _NAMES_SHOWN)
        notices.append(f"columns that are not part of the vectors are ignored: {some}")
    return tuple(notices)
