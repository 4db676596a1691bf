"""Data sets of the debugger: read in threads, each with a connection of its own; reviewed; exported."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from debugger.comparison import compare
from debugger.exports import EXPORT_KINDS, export
from debugger.formats.opening import FORMATS
from debugger.kept_open import dataset_state
from debugger.queries import finding_counts
from debugger.reading import BrokenDatasetError, chosen_version, open_dataset
from debugger.reviews import Review, add_reviews
from debugger.store.names import SOURCE, SOURCE_STEM, find_dataset, list_datasets
from embup_core.errors import InputError
from serving.problems.problem import ProblemError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from typing import BinaryIO

    from debugger.formats.records import RecordFile
    from debugger.reading import OpenDataset
    from serving.services import Services

T = TypeVar("T")
log = structlog.get_logger("embup.serving")

MOST_REVIEWS: Final = 1000
BLOCK_BYTES: Final = 256 * 1024


async def in_thread(services: Services, function: Callable[[], T]) -> T:
    """Run what reads or writes data sets in one of the debugger's threads."""
    return await asyncio.get_running_loop().run_in_executor(services.debug_executor, function)


async def read_dataset(
    services: Services,
    name: str,
    function: Callable[[OpenDataset], T],
    *,
    version: int | None = None,
    analysed: bool = False,
) -> T:
    """Open a data set in a thread, and give what a function reads from it.

    Parameters
    ----------
    services
        The parts.
    name
        Of the data set.
    function
        Called in the thread.
    version
        Of the analysis; None takes the newest.
    analysed
        Whether there must be one.

    Raises
    ------
    ProblemError
        404: there is no such data set or version. 409: it has not been analysed. 503: a file is damaged.
    """

    def read() -> T:
        data = services.settings.data
        require_dataset(data, name)
        try:
            with services.debug_datasets.open(data, name, version=version) as opened:
                if analysed and opened.version is None:
                    raise ProblemError(
                        "not-analysed",
                        f"{name} has not been analysed.",
                        remedy=f"Analyse it with `embup debug run {name}`.",
                    )
                return function(opened)
        except BrokenDatasetError as error:
            raise _broken(services, name, error) from error

    if version is not None:
        await in_thread(services, lambda: _require_version(services.settings.data, name, version))
    return await in_thread(services, read)


async def compare_analyses(services: Services, name: str, before: int, after: int) -> dict[str, Any]:
    """Compare two analyses of a data set as `debugger.comparison.compare` does, in a thread.

    Raises
    ------
    ProblemError
        404: there is no such data set or version. 503: a file is damaged.
    """

    def read() -> dict[str, Any]:
        data = services.settings.data
        for version in (before, after):
            _require_version(data, name, version)
        try:
            return compare(data, name, before, after)
        except InputError as error:  # it was removed meanwhile
            raise not_found(error.message) from error
        except BrokenDatasetError as error:
            raise _broken(services, name, error) from error

    return await in_thread(services, read)


def require_dataset(data: Path, name: str) -> None:
    """Raise a 404 where there is no data set of this name; for a thread."""
    try:
        find_dataset(data, name)
    except InputError as error:
        raise ProblemError(
            "unknown-data-set",
            f"There is no data set {name[:80]!r}.",
            remedy="Choose one of `GET /v1/debug/datasets`, or import it with `embup debug import`.",
        ) from error


def _require_version(data: Path, name: str, version: int) -> None:
    require_dataset(data, name)
    if version not in (there := find_dataset(data, name).versions()):
        listed = ", ".join(map(str, there)) or "none yet"
        raise not_found(f"There is no analysis {version} of {name}; there are: {listed}.")


def not_found(detail: str) -> ProblemError:
    """The answer where a data set has no such row, finding, slice or analysis."""
    return ProblemError("not-in-data-set", detail, remedy="Take the number or name from a list.")


def _broken(services: Services, name: str, error: BrokenDatasetError) -> ProblemError:
    log.error("a data set cannot be opened", dataset=name, error=str(error))
    return ProblemError(
        "broken-data-set", services.public(error.message), remedy=services.public(error.remedy)
    )


async def known_datasets(services: Services) -> list[dict[str, Any]]:
    """Every data set, as `describe_dataset` does; one that cannot be opened has a ``problem``."""

    def read() -> list[dict[str, Any]]:
        data, found = services.settings.data, []
        before, services.debug_described = services.debug_described, {}
        for name in list_datasets(data):
            try:
                folder = find_dataset(data, name)
                state = dataset_state(folder, chosen_version(folder, None))
                described = before.get(state)
                if described is None:
                    with open_dataset(data, name) as opened:
                        described = describe_dataset(opened)
                services.debug_described[state] = described
                found.append(described)
            except BrokenDatasetError as error:
                found.append(broken_dataset(name, str(_broken(services, name, error).detail)))
        return found

    return await in_thread(services, read)


def describe_dataset(opened: OpenDataset) -> dict[str, Any]:
    """What a list of data sets says of one."""
    analysed = opened.query("SELECT analysed_at FROM analysis")
    return {
        "name": opened.name,
        "kind": opened.described["kind"],
        "rows": opened.count("rows"),
        "labelled": opened.count("labels"),
        "imported_at": opened.described["imported_at"],
        "versions": opened.folder.versions(),
        "analysed_at": analysed[0]["analysed_at"] if analysed else None,
        "findings": finding_counts(opened),
        "decisions": len(opened.decisions),
        "last_review": opened.reviews[-1].seq if opened.reviews else 0,
        "problem": None,
    }


def broken_dataset(name: str, problem: str) -> dict[str, Any]:
    """The same of one that cannot be opened."""
    nothing = dict.fromkeys(("kind", "imported_at", "analysed_at"))
    counts = dict.fromkeys(("rows", "labelled", "decisions", "last_review"), 0)
    return {"name": name, **nothing, **counts, "versions": [], "findings": {}, "problem": problem}


async def store_reviews(
    services: Services, name: str, reviews: Sequence[Review], *, unchanged_since: int | None = None
) -> list[Review]:
    """Store reviews; durable when this returns.

    Raises
    ------
    ProblemError
        404: there is no such data set. 409: a row was reviewed after `unchanged_since`.
    InputError
        A review is not complete, names no row, or undoes nothing.
    """

    def store() -> list[Review]:
        data = services.settings.data
        require_dataset(data, name)
        with services.debug_datasets.open(data, name) as opened:
            rows = opened.count("rows")
        try:
            return add_reviews(opened.folder, reviews, rows=rows, unchanged_since=unchanged_since)
        except InputError as error:
            if error.code == "conflict":
                raise ProblemError("review-conflict", error.message, remedy=error.remedy) from error
            raise

    return await in_thread(services, store)


async def make_export(services: Services, name: str, kind: str, *, count: int) -> tuple[str, BinaryIO]:
    """Write an export to a file without a name.

    Returns
    -------
    Name to offer for it, and the file, open for reading at its start.

    Raises
    ------
    ProblemError
        404: there is no such data set.
    InputError
        The data set has no such export.
    """

    def make(opened: OpenDataset) -> tuple[str, BinaryIO]:
        ending = _ending(opened, kind)
        with tempfile.TemporaryDirectory(prefix="embup-export-") as folder:
            target = Path(folder) / f"{opened.name}-{kind}{ending}"
            export(opened, kind, target, count=count)
            return target.name, target.open("rb")  # the file is there until it is closed

    return await read_dataset(services, name, make)


def _ending(opened: OpenDataset, kind: str) -> str:
    if kind not in EXPORT_KINDS:
        raise not_found(f"Expected an export of {', '.join(EXPORT_KINDS)}, found {kind[:40]!r}.")
    if kind == "cleaned" and opened.described["kind"] != SOURCE:
        source: RecordFile = FORMATS[opened.described["format"]](opened.folder.path / SOURCE_STEM)
        return source.ending
    return ".npy" if kind == "dropped" else ".csv"


async def blocks_of(services: Services, file: BinaryIO) -> AsyncIterator[bytes]:
    """Read a file block by block, in threads, and close it."""
    try:
        while block := await in_thread(services, lambda: file.read(BLOCK_BYTES)):
            yield block
    finally:
        file.close()
