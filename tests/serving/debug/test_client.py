"""Both clients of the data debugger against a real service."""

from __future__ import annotations

import asyncio
import io

import numpy as np
import pytest

from embup_client import AsyncClient, Client, ConflictError, InvalidArgumentError, NotFoundError
from tests.serving.debug.conftest import NAME, Debugged


def test_the_client_reads_reviews_and_exports(debugged: Debugged) -> None:
    with Client(f"http://127.0.0.1:{debugged.service.port}") as client:
        debug = client.debug
        assert [one.name for one in debug.datasets()] == [NAME, "not-analysed"]
        assert debug.dataset(NAME).dataset.rows == 600
        page = debug.findings(NAME, kind="label_error", limit=1)
        row = page.findings[0].rows[0]
        assert debug.findings(NAME, kind="label_error", limit=1, after=page.next_after or 0) != page
        assert debug.row(NAME, row).text == debugged.chat.texts[row]
        assert debug.slices(NAME)
        points = debug.map_points(NAME, colour="usage")
        assert [str(part.dtype) for part in points] == ["float32", "uint16"]
        legend = debug.map_legend(NAME, colour="usage").entries
        assert np.bincount(points.colours, minlength=len(legend)).tolist() == [one["rows"] for one in legend]
        (left, bottom), (right, top) = points.places.min(axis=0) - 1, points.places.max(axis=0) + 1
        corners = [(left, bottom), (right, bottom), (right, top), (left, top)]
        assert debug.select(NAME, corners).rows == len(points.places)
        assert len(debug.suggestions(NAME, count=2)) == 2
        assert debug.compare(NAME, 1, 1).findings["label_error"]["new"] == 0
        stored = debug.review(NAME, [{"row": row, "action": "drop"}], unchanged_since=0)
        assert debug.reviews(NAME).reviews == stored
        with pytest.raises(ConflictError):
            debug.review(NAME, [{"row": row, "action": "keep"}], unchanged_since=0)
        assert np.load(io.BytesIO(debug.export(NAME, "dropped"))).tolist() == [row]
        assert debug.export(NAME, "annotate", count=2).count(b"\n") == 3
        with pytest.raises(NotFoundError):
            debug.row(NAME, 600)
        with pytest.raises(InvalidArgumentError):
            debug.dataset("")


def test_the_asynchronous_client_answers_the_same(debugged: Debugged) -> None:
    url = f"http://127.0.0.1:{debugged.service.port}"

    async def ask() -> tuple[object, ...]:
        async with AsyncClient(url) as client:
            debug = client.debug
            return (
                await debug.datasets(),
                await debug.findings(NAME),
                await debug.row(NAME, 0),
                await debug.review(NAME, [{"row": 3, "action": "confirm"}]),
                await debug.export(NAME, "reviews"),
            )

    with Client(url) as client:
        debug = client.debug
        before = debug.datasets(), debug.findings(NAME), debug.row(NAME, 0)
        *same, stored, exported = asyncio.run(ask())
        assert tuple(same) == before
        assert stored == debug.reviews(NAME).reviews
        assert exported == debug.export(NAME, "reviews")
