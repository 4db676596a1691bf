"""Completes msgspec's messages with what was allowed: the values of a choice, the fields of an object."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator

_PLACE = re.compile(r" - at `\$\.(?P<name>\w+)")
_INVALID_CHOICE = re.compile(r"Invalid enum value (?P<found>'.*')")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<found>[^`]*)`")


def field_of(message: str) -> str | None:
    """Return the field that a message is about, without the list positions below it; None for the whole."""
    place = _PLACE.search(message)
    return None if place is None else place["name"]


def completed(message: str, declared: Any) -> str:
    """Return a message of msgspec with the choices or fields that the declared type allows.

    Parameters
    ----------
    message
        Of a `msgspec.ValidationError`.
    declared
        The type that the value was read as: that of the body, or that of one parameter.
    """
    fields = msgspec.structs.fields(declared) if _is_struct(declared) else ()
    if unknown := _UNKNOWN_FIELD.search(message):
        allowed = ", ".join(field.encode_name for field in fields)
        return f"unknown field `{unknown['found']}`; expected only {allowed}"
    if invalid := _INVALID_CHOICE.search(message):
        name = field_of(message)
        kind = next((field.type for field in fields if field.encode_name == name), declared)
        if choices := list(_choices(inspect.type_info(kind))):
            return f"expected one of {', '.join(choices)}, found {invalid['found']}"
    return message


def _is_struct(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(declared, msgspec.Struct)


def _choices(kind: inspect.Type) -> Iterator[str]:
    if isinstance(kind, inspect.LiteralType):
        yield from map(str, kind.values)
    elif isinstance(kind, inspect.EnumType):
        yield from (str(one.value) for one in kind.cls)
    elif isinstance(kind, inspect.UnionType):
        for part in kind.types:
            yield from _choices(part)
    elif isinstance(kind, inspect.Metadata):
        yield from _choices(kind.type)
