"""Lists of row numbers, as text and as arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.errors import InputError
from embup_core.sources.row_list import load_row_list, require_rows

if TYPE_CHECKING:
    from pathlib import Path


def test_a_row_list_is_text_or_an_array(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeff3\n\n1 # twice\n3\n")
    np.save(tmp_path / "a.npy", np.array([3, 1, 3], np.uint8))
    for name in ("a.txt", "a.npy"):
        assert load_row_list(tmp_path / name).tolist() == [1, 3]
    (tmp_path / "none.txt").write_text("")
    assert load_row_list(tmp_path / "none.txt").tolist() == []


@pytest.mark.parametrize(
    "content",
    ["-1", "1.5", "one", "1,2", "9" * 30, np.zeros((2, 2), int), np.zeros(2), np.array(["a"])],
    ids=str,
)
def test_what_is_no_row_list_is_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / ("a.txt" if isinstance(content, str) else "a.npy")
    if isinstance(content, str):
        path.write_text(content)
    else:
        np.save(path, content)
    with pytest.raises(InputError):
        load_row_list(path)


def test_rows_are_checked_against_those_that_there_are() -> None:
    assert require_rows([5, 1, 5], 6).tolist() == [1, 5]
    assert require_rows((), 6).tolist() == []
    for bad in ([6], [-1], np.array([0, 99])):
        with pytest.raises(InputError):
            require_rows(bad, 6)
