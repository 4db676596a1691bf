"""The data debugger, as `Client.debug` and `AsyncClient.debug` have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from embup_client.debug import calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from embup_client.calls import Call
    from embup_client.debug.answers import (
        DebugComparison,
        DebugDataset,
        DebugDatasetDetails,
        DebugFindings,
        DebugLegend,
        DebugReview,
        DebugReviews,
        DebugRow,
        DebugSelection,
        DebugSlice,
        DebugSuggestion,
        Severity,
    )
    from embup_client.debug.calls import MapPoints

T = TypeVar("T")


class Send(Protocol):
    """Sends a call."""

    def __call__(self, call: Call[T], /) -> T:
        """Send it."""


class AsyncSend(Protocol):
    """Sends a call without blocking."""

    async def __call__(self, call: Call[T], /) -> T:
        """Send it."""


class Debugger:
    """The data debugger of a service.

    Parameters
    ----------
    send
        Sends a call of the client, and gives its result.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    def datasets(self) -> list[DebugDataset]:
        """List imported data sets."""
        return self._send(calls.datasets())

    def dataset(self, name: str, *, version: int | None = None) -> DebugDatasetDetails:
        """Describe one data set, with the figures of its analysis."""
        return self._send(calls.dataset(name, version=version))

    def findings(
        self,
        name: str,
        *,
        kind: str | None = None,
        severity: Severity | None = None,
        decided: bool = False,
        limit: int = 50,
        after: int = 0,
        version: int | None = None,
    ) -> DebugFindings:
        """A page of findings, the most important first.

        Parameters
        ----------
        name
            Of the data set.
        kind, severity
            Only these.
        decided
            Also findings whose rows all have a review.
        limit
            How many at most, up to 200.
        after
            `next_after` of the page before.
        version
            Of the analysis; None takes the newest.
        """
        return self._send(
            calls.findings(
                name, kind=kind, severity=severity, decided=decided, limit=limit, after=after, version=version
            )
        )

    def row(self, name: str, row: int, *, version: int | None = None) -> DebugRow:
        """One row with everything."""
        return self._send(calls.row(name, row, version=version))

    def slices(self, name: str, *, worse: bool = False, version: int | None = None) -> list[DebugSlice]:
        """Slices, the worst first; only significantly worse ones if that is asked for."""
        return self._send(calls.slices(name, worse=worse, version=version))

    def map_points(self, name: str, *, colour: str = "label", version: int | None = None) -> MapPoints:
        """Places and colours of the rows on the map, as NumPy arrays."""
        return self._send(calls.map_points(name, colour=colour, version=version))

    def map_legend(self, name: str, *, colour: str = "label", version: int | None = None) -> DebugLegend:
        """What the colours of the map mean, and what others there are."""
        return self._send(calls.map_legend(name, colour=colour, version=version))

    def select(
        self, name: str, polygon: Iterable[Sequence[float]], *, version: int | None = None
    ) -> DebugSelection:
        """The rows inside a polygon of the map: 3 to 200 corners (x, y)."""
        return self._send(calls.select(name, polygon, version=version))

    def suggestions(self, name: str, *, count: int = 50, version: int | None = None) -> list[DebugSuggestion]:
        """Rows to label next, the most useful first."""
        return self._send(calls.suggestions(name, count=count, version=version))

    def compare(self, name: str, before: int, after: int) -> DebugComparison:
        """Two analyses side by side."""
        return self._send(calls.compare(name, before, after))

    def reviews(self, name: str, *, after: int = 0, limit: int = 100) -> DebugReviews:
        """A page of reviews, in the order of decision."""
        return self._send(calls.reviews(name, after=after, limit=limit))

    def review(
        self, name: str, decisions: Sequence[Mapping[str, Any]], *, unchanged_since: int | None = None
    ) -> list[DebugReview]:
        """Store decisions about rows: all, or none.

        Parameters
        ----------
        name
            Of the data set.
        decisions
            Up to 1,000, each with `row`, `action`, and `label`, `note` and `version` where there are any.
        unchanged_since
            Number of the last review that is known; None does not ask.

        Raises
        ------
        ConflictError
            A row was reviewed after `unchanged_since`.
        """
        return self._send(calls.review(name, decisions, unchanged_since=unchanged_since))

    def export(self, name: str, kind: str, *, count: int | None = None) -> bytes:
        """A file: `cleaned`, `dropped`, `annotate` (with `count` rows) or `reviews`."""
        return self._send(calls.export(name, kind, count=count))


class AsyncDebugger:
    """The data debugger of a service, without blocking; as `Debugger`.

    Parameters
    ----------
    send
        Sends a call of the client, and gives its result.
    """

    def __init__(self, send: AsyncSend) -> None:
        self._send = send

    async def datasets(self) -> list[DebugDataset]:
        """List imported data sets."""
        return await self._send(calls.datasets())

    async def dataset(self, name: str, *, version: int | None = None) -> DebugDatasetDetails:
        """Describe one data set, with the figures of its analysis."""
        return await self._send(calls.dataset(name, version=version))

    async def findings(
        self,
        name: str,
        *,
        kind: str | None = None,
        severity: Severity | None = None,
        decided: bool = False,
        limit: int = 50,
        after: int = 0,
        version: int | None = None,
    ) -> DebugFindings:
        """A page of findings, the most important first.

        Parameters
        ----------
        name
            Of the data set.
        kind, severity
            Only these.
        decided
            Also findings whose rows all have a review.
        limit
            How many at most, up to 200.
        after
            `next_after` of the page before.
        version
            Of the analysis; None takes the newest.
        """
        return await self._send(
            calls.findings(
                name, kind=kind, severity=severity, decided=decided, limit=limit, after=after, version=version
            )
        )

    async def row(self, name: str, row: int, *, version: int | None = None) -> DebugRow:
        """One row with everything."""
        return await self._send(calls.row(name, row, version=version))

    async def slices(self, name: str, *, worse: bool = False, version: int | None = None) -> list[DebugSlice]:
        """Slices, the worst first; only significantly worse ones if that is asked for."""
        return await self._send(calls.slices(name, worse=worse, version=version))

    async def map_points(self, name: str, *, colour: str = "label", version: int | None = None) -> MapPoints:
        """Places and colours of the rows on the map, as NumPy arrays."""
        return await self._send(calls.map_points(name, colour=colour, version=version))

    async def map_legend(
        self, name: str, *, colour: str = "label", version: int | None = None
    ) -> DebugLegend:
        """What the colours of the map mean, and what others there are."""
        return await self._send(calls.map_legend(name, colour=colour, version=version))

    async def select(
        self, name: str, polygon: Iterable[Sequence[float]], *, version: int | None = None
    ) -> DebugSelection:
        """The rows inside a polygon of the map: 3 to 200 corners (x, y)."""
        return await self._send(calls.select(name, polygon, version=version))

    async def suggestions(
        self, name: str, *, count: int = 50, version: int | None = None
    ) -> list[DebugSuggestion]:
        """Rows to label next, the most useful first."""
        return await self._send(calls.suggestions(name, count=count, version=version))

    async def compare(self, name: str, before: int, after: int) -> DebugComparison:
        """Two analyses side by side."""
        return await self._send(calls.compare(name, before, after))

    async def reviews(self, name: str, *, after: int = 0, limit: int = 100) -> DebugReviews:
        """A page of reviews, in the order of decision."""
        return await self._send(calls.reviews(name, after=after, limit=limit))

    async def review(
        self, name: str, decisions: Sequence[Mapping[str, Any]], *, unchanged_since: int | None = None
    ) -> list[DebugReview]:
        """Store decisions about rows: all, or none.

        Parameters
        ----------
        name
            Of the data set.
        decisions
            Up to 1,000, each with `row`, `action`, and `label`, `note` and `version` where there are any.
        unchanged_since
            Number of the last review that is known; None does not ask.

        Raises
        ------
        ConflictError
            A row was reviewed after `unchanged_since`.
        """
        return await self._send(calls.review(name, decisions, unchanged_since=unchanged_since))

    async def export(self, name: str, kind: str, *, count: int | None = None) -> bytes:
        """A file: `cleaned`, `dropped`, `annotate` (with `count` rows) or `reviews`."""
        return await self._send(calls.export(name, kind, count=count))
