"""The tree of errors reads as its docstring draws it."""

import inspect

import pytest

from embup_core import errors


def all_errors() -> list[type[Exception]]:
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


@pytest.mark.parametrize("error", all_errors())
def test_every_error_is_in_the_tree_and_in_the_drawing(error: type[Exception]) -> None:
    assert issubclass(error, errors.EmbupError)
    assert error.__name__ in (errors.__doc__ or "")


def test_a_message_is_followed_by_its_remedy() -> None:
    assert str(errors.OutputError("Disk is full.", remedy="Make room.")) == "Disk is full. Make room."


def test_a_bad_row_names_its_line() -> None:
    error = errors.BadRowError(17, "expected 32 numbers, found 31", "0.1,0.2")
    assert str(error) == "line 17: expected 32 numbers, found 31"
    assert (error.line, error.raw) == (17, "0.1,0.2")


def test_a_bad_row_of_a_named_file_says_which() -> None:
    error = errors.BadRowError(4, "expected 32 numbers, found 3", file="in.txt", remedy="Correct it.")
    assert str(error) == "in.txt, line 4: expected 32 numbers, found 3 Correct it."
    assert (error.line, error.reason) == (4, "expected 32 numbers, found 3")
