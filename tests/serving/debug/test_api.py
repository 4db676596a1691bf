"""The data debugger over HTTP: a real service over a data set that was imported and analysed for real."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from debugger.reviews import read_reviews
from debugger.store.names import find_dataset
from serving.access.keys import new_key
from tests.serving.debug.conftest import HOSTILE, NAME, Debugged

if TYPE_CHECKING:
    from collections.abc import Callable

BASE = f"/v1/debug/datasets/{NAME}"


def get(debugged: Debugged, path: str = "", **query: Any) -> Any:
    """Ask for what must be there."""
    answer = debugged.service.http.get(BASE + path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def post_reviews(debugged: Debugged, *reviews: dict[str, Any], **more: Any) -> Any:
    return debugged.service.http.post(f"{BASE}/reviews", json={"reviews": list(reviews), **more})


def test_data_sets_are_listed_with_what_was_found(looked_at: Debugged) -> None:
    listed = looked_at.service.http.get("/v1/debug/datasets").json()["datasets"]
    assert [one["name"] for one in listed] == [NAME, "not-analysed"]
    assert listed[0]["rows"] == 600
    assert listed[0]["versions"] == [1]
    assert listed[0]["findings"]["label_error"] > 0
    assert (listed[1]["versions"], listed[1]["findings"]) == ([], {})
    details = get(looked_at)
    assert details["dataset"] == listed[0]
    assert details["summary"]["rows"] == 600


def test_a_file_that_is_damaged_is_told_and_the_others_are_listed(debugged: Debugged) -> None:
    (debugged.data / "debug" / "not-analysed" / "dataset.duckdb").write_bytes(b"no database" * 1000)
    listed = debugged.service.http.get("/v1/debug/datasets").json()["datasets"]
    assert [one["problem"] is None for one in listed] == [True, False]
    broken = debugged.service.http.get("/v1/debug/datasets/not-analysed")
    assert broken.status_code == 503
    assert str(debugged.data) not in broken.text


def test_pages_of_findings_follow_each_other_and_hold_each_once(looked_at: Debugged) -> None:
    whole = get(looked_at, "/findings", limit=200)["findings"]
    seen, after = [], 0
    while after is not None:
        page = get(looked_at, "/findings", limit=7, after=after)
        seen += page["findings"]
        after = page["next_after"]
    assert [one["finding"] for one in seen][: len(whole)] == [one["finding"] for one in whole]
    assert Counter(one["kind"] for one in seen) == get(looked_at)["dataset"]["findings"]
    wrong = get(looked_at, "/findings", kind="label_error", limit=200)["findings"]
    planted = set(looked_at.chat.wrong) - set(range(6))
    top = [one["rows"][0] for one in wrong[:10]]
    assert len(planted & set(top)) >= 8, "the most doubtful labels are those that were made wrong"
    assert {one["severity"] for one in get(looked_at, "/findings", severity="error")["findings"]} <= {"error"}


def test_a_row_comes_with_everything(looked_at: Debugged) -> None:
    row = get(looked_at, "/findings", kind="label_error")["findings"][0]["rows"][0]
    found = get(looked_at, f"/rows/{row}")
    assert found["text"] == looked_at.chat.texts[row]
    assert found["scores"]["label_error"] > 0.5
    assert found["predictions"][0]["label"] == looked_at.chat.truth[row]
    assert found["neighbours"]["text"][0]["cosine"] > 0.5
    assert "label_error" in {one["kind"] for one in found["findings"]}
    assert (found["reviews"], found["decision"]) == ([], None)
    assert [get(looked_at, f"/rows/{number}")["text"] for number in range(4)] == list(HOSTILE)


def test_the_map_is_ten_bytes_a_row_and_is_not_sent_twice(looked_at: Debugged) -> None:
    http = looked_at.service.http
    answer = http.get(f"{BASE}/map", params={"colour": "label"})
    n_points = len(answer.content) // 10
    assert len(answer.content) == 10 * n_points
    assert 590 <= n_points <= 600
    places = np.frombuffer(answer.content, "<f4", 2 * n_points).reshape(-1, 2)
    colours = np.frombuffer(answer.content, "<u2", offset=8 * n_points)
    legend = get(looked_at, "/map/legend", colour="label")["entries"]
    assert np.bincount(colours, minlength=len(legend)).tolist() == [one["rows"] for one in legend]
    tag = {"If-None-Match": answer.headers["etag"]}
    again = http.get(f"{BASE}/map", params={"colour": "label"}, headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    other = http.get(f"{BASE}/map", params={"colour": "label_error"}, headers=tag)
    assert other.status_code == 200
    assert http.get(f"{BASE}/map", params={"colour": "1; DROP TABLE rows"}).status_code == 422

    low, high = places.min(axis=0) - 1, places.max(axis=0) + 1
    everything = f"{low[0]},{low[1]} {high[0]},{low[1]} {high[0]},{high[1]} {low[0]},{high[1]}"
    assert get(looked_at, "/map/selection", polygon=everything)["rows"] == n_points
    middle = float(np.median(places[:, 0]))
    left = f"{low[0]},{low[1]} {middle},{low[1]} {middle},{high[1]} {low[0]},{high[1]}"
    inside = get(looked_at, "/map/selection", polygon=left)
    assert inside["rows"] == int((places[:, 0] < middle).sum())
    assert sum(one["rows"] for one in inside["labels"]) <= inside["rows"]


@pytest.mark.parametrize("polygon", ["", "1,2", "1,2 3,4", "0,0 1,1 nan,2", "0,0 1,1 a,2", "0,0 " * 201])
def test_a_polygon_that_is_none_is_a_problem(
    looked_at: Debugged, check: Callable[..., Any], polygon: str
) -> None:
    check(looked_at.service.http.get(f"{BASE}/map/selection", params={"polygon": polygon}), 422)


def test_a_review_is_stored_seen_undone_and_exported(debugged: Debugged) -> None:
    row = get(debugged, "/findings", kind="label_error")["findings"][0]["rows"][0]
    truth = debugged.chat.truth[row]
    answer = post_reviews(
        debugged,
        {"row": row, "action": "relabel", "label": truth, "version": 1, "note": "read it"},
        {"row": 10, "action": "drop"},
        {"row": 11, "action": "drop"},
        {"row": 11, "action": "undo"},
    )
    assert answer.status_code == 201, answer.text
    assert [one["seq"] for one in answer.json()["reviews"]] == [1, 2, 3, 4]
    stored = list(read_reviews(find_dataset(debugged.data, NAME)))
    assert [(one.row, one.action) for one in stored] == [
        (row, "relabel"), (10, "drop"), (11, "drop"), (11, "undo"),
    ]  # fmt: skip
    assert get(debugged, f"/rows/{row}")["decision"] == "relabel"
    assert get(debugged, "/reviews", after=2)["reviews"] == answer.json()["reviews"][2:]
    assert get(debugged, "/reviews", limit=2)["next_after"] == 2
    assert row not in {
        one["rows"][0] for one in get(debugged, "/findings", kind="label_error", limit=200)["findings"]
    }, "decided findings are no longer listed"

    http = debugged.service.http
    dropped = http.get(f"{BASE}/exports/dropped")
    assert dropped.headers["content-disposition"] == f'attachment; filename="{NAME}-dropped.npy"'
    assert np.load(io.BytesIO(dropped.content)).tolist() == [10]
    cleaned = json.loads(http.get(f"{BASE}/exports/cleaned").content)
    assert len(cleaned) == 599
    by_id = {record["id"]: json.loads(record["data"]) for record in cleaned}
    assert by_id[600_000 + row]["intent"] == truth
    assert http.get(f"{BASE}/exports/reviews").text.count("\n") == 5
    assert http.get(f"{BASE}/exports/annotate", params={"count": 3}).text.count("\n") == 4
    suggested = get(debugged, "/suggestions", count=3)["rows"]
    assert [one["label"] for one in suggested] == [None] * 3


def test_reviews_that_cannot_be_are_refused_whole(debugged: Debugged, check: Callable[..., Any]) -> None:
    assert post_reviews(debugged, {"row": 7, "action": "confirm"}).status_code == 201
    good = {"row": 8, "action": "confirm"}
    check(post_reviews(debugged, good, {"row": 7, "action": "drop"}, unchanged_since=0), 409)
    check(post_reviews(debugged, good, {"row": 600, "action": "drop"}), 422)
    check(post_reviews(debugged, good, {"row": 9, "action": "undo"}), 422)
    check(post_reviews(debugged, good, {"row": 9, "action": "relabel"}), 422)
    check(post_reviews(debugged, good, {"row": 9, "action": "explode"}), 400)
    check(post_reviews(debugged), 400)
    check(post_reviews(debugged, *[good] * 1001), 400)
    assert [one["row"] for one in get(debugged, "/reviews")["reviews"]] == [7]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/debug/datasets/nothing", 404),
        ("/v1/debug/datasets/..%2f..%2fetc", 404),
        ("/v1/debug/datasets/nothing/findings", 404),
        ("/v1/debug/datasets/not-analysed/findings", 409),
        ("/v1/debug/datasets/not-analysed/map", 409),
        (f"{BASE}?version=7", 404),
        (f"{BASE}/findings?kind=none", 404),
        (f"{BASE}/findings?severity=none", 400),
        (f"{BASE}/findings?limit=201", 400),
        (f"{BASE}/rows/600", 404),
        (f"{BASE}/rows/-1", 404),
        (f"{BASE}/rows/99999999999999999999999", 404),
        (f"{BASE}/comparison?before=1&after=2", 404),
        (f"{BASE}/exports/everything", 400),
    ],
)
def test_what_is_not_there_is_a_problem(
    looked_at: Debugged, check: Callable[..., Any], path: str, status: int
) -> None:
    assert str(looked_at.data) not in str(check(looked_at.service.http.get(path), status))


def test_two_analyses_are_compared_and_slices_are_listed(looked_at: Debugged) -> None:
    compared = get(looked_at, "/comparison", before=1, after=1)
    assert compared["scores"]["label_error"]["rows_worse"] == 0
    slices = get(looked_at, "/slices")["slices"]
    assert slices
    assert all(one["low"] <= one["value"] <= one["high"] for one in slices)


def test_looking_needs_read_and_deciding_needs_debug(debugged: Debugged, check: Callable[..., Any]) -> None:
    reader, stored_reader = new_key("reader", ["read"])
    team, stored_team = new_key("team", ["debug"])
    debugged.service.restart_with(api_keys=f"{stored_reader.line()};{stored_team.line()}")
    http, body = debugged.service.http, {"reviews": [{"row": 3, "action": "confirm"}]}
    check(http.get(BASE), 401)
    as_reader, as_team = ({"Authorization": f"Bearer {key}"} for key in (reader, team))
    assert http.get(BASE, headers=as_reader).status_code == 200
    check(http.post(f"{BASE}/reviews", json=body, headers=as_reader), 403)
    made = http.post(f"{BASE}/reviews", json=body, headers=as_team)
    assert made.json()["reviews"][0]["reviewer"] == "team"
