"""The requests of the data debugger, each made in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from embup_client.calls import OCTET_STREAM, Call, Repeat, in_path, json_reader, posted, unexpected
from embup_client.debug.answers import (
    DebugComparison,
    DebugDataset,
    DebugDatasetDetails,
    DebugDatasetList,
    DebugFindings,
    DebugLegend,
    DebugReview,
    DebugReviews,
    DebugRow,
    DebugSelection,
    DebugSlice,
    DebugSlices,
    DebugSuggestion,
    DebugSuggestions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import httpx
    import numpy as np
    from numpy.typing import NDArray


class MapPoints(NamedTuple):
    """Places and colours of the rows on the map.

    Attributes
    ----------
    places
        float32, shape (n, 2).
    colours
        uint16, shape (n,); `map_legend` says what they mean.
    """

    places: NDArray[np.float32]
    colours: NDArray[np.uint16]


def datasets() -> Call[list[DebugDataset]]:
    """List imported data sets."""
    listed = json_reader(DebugDatasetList)
    path = "/v1/debug/datasets"
    return Call("GET", path, lambda found: listed(found).datasets, Repeat.ALWAYS)


def dataset(name: str, **query: Any) -> Call[DebugDatasetDetails]:
    """One data set with the figures of its analysis."""
    return _asked(name, "", DebugDatasetDetails, query)


def findings(name: str, **query: Any) -> Call[DebugFindings]:
    """A page of findings."""
    return _asked(name, "/findings", DebugFindings, query)


def row(name: str, number: int, **query: Any) -> Call[DebugRow]:
    """One row with everything."""
    return _asked(name, f"/rows/{int(number)}", DebugRow, query)


def slices(name: str, **query: Any) -> Call[list[DebugSlice]]:
    """Slices with their intervals."""
    listed = json_reader(DebugSlices)
    return Call(
        "GET", _path(name, "/slices"), lambda found: listed(found).slices, Repeat.ALWAYS, params=_given(query)
    )


def map_points(name: str, **query: Any) -> Call[MapPoints]:
    """Places and colours of the map."""
    import numpy as np  # an ImportError now and not after the answer

    def read(response: httpx.Response) -> MapPoints:
        body = response.content
        count, rest = divmod(len(body), 10)
        if rest:
            raise unexpected(response, f"{len(body)} bytes, where a point takes 10")
        places = np.frombuffer(body, "<f4", 2 * count).reshape(-1, 2).astype(np.float32)
        return MapPoints(places, np.frombuffer(body, "<u2", offset=8 * count).astype(np.uint16))

    headers = {"Accept": OCTET_STREAM}
    return Call("GET", _path(name, "/map"), read, Repeat.ALWAYS, params=_given(query), headers=headers)


def map_legend(name: str, **query: Any) -> Call[DebugLegend]:
    """What colours of the map mean."""
    return _asked(name, "/map/legend", DebugLegend, query)


def select(name: str, polygon: Iterable[Sequence[float]], **query: Any) -> Call[DebugSelection]:
    """The rows inside a polygon of the map."""
    corners = " ".join(f"{float(x)!r},{float(y)!r}" for x, y in polygon)
    return _asked(name, "/map/selection", DebugSelection, {"polygon": corners, **query})


def suggestions(name: str, **query: Any) -> Call[list[DebugSuggestion]]:
    """Rows to label next."""
    listed = json_reader(DebugSuggestions)
    path = _path(name, "/suggestions")
    return Call("GET", path, lambda found: listed(found).rows, Repeat.ALWAYS, params=_given(query))


def compare(name: str, before: int, after: int) -> Call[DebugComparison]:
    """Two analyses side by side."""
    return _asked(name, "/comparison", DebugComparison, {"before": before, "after": after})


def reviews(name: str, **query: Any) -> Call[DebugReviews]:
    """A page of reviews."""
    return _asked(name, "/reviews", DebugReviews, query)


def review(
    name: str, decisions: Sequence[Mapping[str, Any]], *, unchanged_since: int | None
) -> Call[list[DebugReview]]:
    """Store reviews; not sent twice, because a second try would store them again."""
    listed = json_reader(DebugReviews)
    body = {"reviews": list(decisions), "unchanged_since": unchanged_since}
    return posted(_path(name, "/reviews"), body, lambda found: listed(found).reviews, repeat=Repeat.UNSENT)


def export(name: str, kind: str, **query: Any) -> Call[bytes]:
    """A file with what was decided."""
    path = _path(name, f"/exports/{in_path(kind, 'export', 'One of cleaned, dropped, annotate, reviews.')}")
    headers = {"Accept": OCTET_STREAM}
    return Call(
        "GET", path, lambda found: found.content, Repeat.ALWAYS, params=_given(query), headers=headers
    )


def _asked(name: str, path: str, kind: Any, query: Mapping[str, Any]) -> Call[Any]:
    return Call("GET", _path(name, path), json_reader(kind), Repeat.ALWAYS, params=_given(query))


def _path(name: str, rest: str) -> str:
    return f"/v1/debug/datasets/{in_path(name, 'data set', '`embup debug list` shows all of them.')}{rest}"


def _given(query: Mapping[str, Any]) -> dict[str, str]:
    """Parameters that have a value, as texts."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in query.items()
        if value is not None
    }
