"""Which field of a record means what: guessed from names, or as a user says, and how it is read and written.

A field is a path such as ``data.intent``. Where ``data`` is a string that holds JSON, the path goes on inside
it, and writing puts a string back.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from debugger.formats.json_records import parse_json
from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "text": ("text", "utterance", "sentence", "query", "message", "content", "question", "document", "input"),
    "label": ("label", "intent", "category", "class", "target", "annotation", "y"),
    "id": ("id", "uuid", "external_id", "row_id", "key", "uid"),
    "complete": ("complete", "completed", "annotated", "done", "is_complete"),
    "usage": ("usage", "split", "subset", "partition"),
    "score": ("score", "entropy", "uncertainty", "active_learning_score"),
    "group": ("group", "source", "corpus", "topic", "domain"),
    "embedding": ("embedding", "embeddings", "vector", "emb"),
    "projected": ("projected", "z", "projection", "projected_embedding"),
}
"""Names that each meaning usually has, likeliest first."""
VECTORS: Final = ("embedding", "projected")
ABSENT: Final = object()


class FieldError(ValueError):
    """A value that a path leads through is no object."""


@dataclass(frozen=True)
class FieldMap:
    """Which path each meaning has.

    Attributes
    ----------
    paths
        Path by meaning.
    others
        Fields of the records that have no meaning here; exports keep them.
    """

    paths: Mapping[str, str]
    others: tuple[str, ...] = ()

    def columns(self, header: Iterable[str] | None) -> tuple[str, ...] | None:
        """The columns of a file that paths begin with; None where the file states no columns."""
        if header is None:
            return None
        there = set(header)
        starts = (path if path in there else path.partition(".")[0] for path in self.paths.values())
        return tuple(dict.fromkeys(starts))

    def read(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by meaning; `ABSENT` where the record has no such field.

        Raises
        ------
        FieldError
            A path leads through what is no object, such as a string that is no JSON.
        """
        opened: dict[str, Any] = {}
        found = {}
        for meaning, path in self.paths.items():
            first, *rest = (path,) if path in values else path.split(".")
            value = values.get(first, ABSENT)
            if rest and value is not ABSENT:
                if first not in opened:
                    opened[first] = _as_object(first, value)
                value = opened[first]
                for name in rest:
                    value = value.get(name, ABSENT) if isinstance(value, dict) else ABSENT
            found[meaning] = value
        return found

    def changed(self, values: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        """The records' own fields that differ once these meanings have new values."""
        changes: dict[str, Any] = {}
        for meaning, value in new.items():
            path = self.paths[meaning]
            first, *rest = (path,) if path in values else path.split(".")
            if not rest:
                changes[first] = value
                continue
            before = changes.get(first, values.get(first, {}))
            inner = dict(_as_object(first, before))
            place = inner
            for name in rest[:-1]:
                place[name] = dict(place.get(name) or {})
                place = place[name]
            place[rest[-1]] = value
            changes[first] = json.dumps(inner) if isinstance(values.get(first), str) else inner
        return changes

    def to_json(self) -> dict[str, str]:
        """Path by meaning."""
        return dict(self.paths)


def _as_object(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = parse_json(value)
        except ValueError as error:
            raise FieldError(f"expected JSON in {name}, found {_shortened(value)} ({error})") from error
    if not isinstance(value, dict):
        raise FieldError(f"expected an object in {name}, found {_shortened(value)}")
    return value


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def choose_fields(
    sample: Sequence[Mapping[str, Any]],
    given: Mapping[str, str],
    *,
    header: Iterable[str] | None = None,
    has_vectors: bool = False,
) -> FieldMap:
    """Decide which field means what: as given, else by the usual names.

    Parameters
    ----------
    sample
        The first records.
    given
        Path by meaning, which a user named; an empty path leaves a meaning out.
    header
        All fields, where the file states them.
    has_vectors
        Whether vectors come from elsewhere, so that neither texts nor vectors are needed here.

    Raises
    ------
    InputError
        An unknown meaning, a path that no record of the sample has, or neither a text nor a vector.
    """
    paths = _paths_of(sample, header)
    unknown = next((meaning for meaning in given if meaning not in NAMES), None)
    if unknown is not None:
        raise InputError(
            f"Expected --field MEANING=NAME with one of {', '.join(NAMES)}, found {unknown!r}.",
            remedy="Such as --field text=utterance --field label=data.intent.",
        )
    chosen: dict[str, str] = {}
    for meaning, usual in NAMES.items():
        if meaning in given:
            if not given[meaning]:
                continue
            if given[meaning] not in paths:
                raise InputError(
                    f"No record has a field {given[meaning]!r} for {meaning}.",
                    remedy=f"There are: {', '.join(paths) or 'none'}.",
                )
            chosen[meaning] = given[meaning]
            continue
        by_name = {path.rpartition(".")[2].lower(): path for path in reversed(paths)}
        named = next((by_name[name] for name in usual if name in by_name), None)
        if named is not None and named not in chosen.values() and named not in given.values():
            chosen[meaning] = named
    if not has_vectors and not {"text", *VECTORS} & set(chosen):
        raise InputError(
            "Found neither a field of texts nor one of vectors.",
            remedy=f"Name one with --field text=NAME. There are: {', '.join(paths) or 'none'}.",
        )
    used = set(chosen.values())
    return FieldMap(chosen, tuple(path for path in paths if path not in used and not _leads_to(path, used)))


def _leads_to(path: str, used: set[str]) -> bool:
    return any(other.startswith(path + ".") for other in used)


def _paths_of(sample: Sequence[Mapping[str, Any]], header: Iterable[str] | None) -> list[str]:
    """Paths of the records, those of nested objects and of JSON in strings included, in their order."""
    paths = dict.fromkeys(header or ())
    for values in sample:
        for name, value in values.items():
            paths[name] = None
            inner = value
            if isinstance(value, str) and value.lstrip().startswith("{"):
                try:
                    inner = parse_json(value)
                except ValueError:
                    continue
            if isinstance(inner, dict):
                paths.update(dict.fromkeys(f"{name}.{key}" for key in inner))
    return list(paths)
