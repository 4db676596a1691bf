"""The debugger's pages as a browser without scripts gets them: whole, escaped, with forms that store."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest

from debugger.reviews import read_reviews
from debugger.runs import run
from debugger.store.names import find_dataset
from serving.access.keys import new_key
from serving.pages.layout import POLICY
from tests.debugger.conftest import quick_analysis
from tests.serving.debug.conftest import HOSTILE_LABEL, NAME, Debugged

if TYPE_CHECKING:
    import httpx

    from embup_core.debugging.analysis import Analysis, AnnotatedRows

HTML = {"Accept": "text/html"}
BASE = f"/console/debug/{NAME}"
EVERYWHERE = "-999,-999 999,-999 999,999 -999,999"
PAGES = (
    "/console/debug",
    "/console/debug/not-analysed",
    BASE,
    f"{BASE}/findings",
    f"{BASE}/findings?kind=label_error",
    f"{BASE}/findings?kind=duplicates&decided=true",
    f"{BASE}/findings/1",
    f"{BASE}/rows/0",
    f"{BASE}/rows/1",
    f"{BASE}/rows/2",
    f"{BASE}/rows/3",
    f"{BASE}/rows/5",
    f"{BASE}/classes",
    f"{BASE}/slices",
    f"{BASE}/slices/1",
    f"{BASE}/next",
    f"{BASE}/reviews",
    f"{BASE}/map",
    f"{BASE}/map?colour=label_error&polygon={EVERYWHERE}",
    f"{BASE}/compare",
)


def get(debugged: Debugged, path: str) -> httpx.Response:
    answer: httpx.Response = debugged.service.http.get(path, headers=HTML)
    return answer


def post(debugged: Debugged, on: str, **fields: str) -> httpx.Response:
    """Send a form of a page as a browser does."""
    token = re.search(r'name="form_token" value="([^"]+)"', get(debugged, on).text)
    assert token is not None
    body = {"form_token": unescape(token[1]), "back": on, **fields}
    answer: httpx.Response = debugged.service.http.post(f"{BASE}/review", data=body, headers=HTML)
    return answer


def test_each_page_is_whole_escaped_and_loads_nothing_from_elsewhere(looked_at: Debugged) -> None:
    for path in PAGES:
        answer = get(looked_at, path)
        assert answer.status_code == 200, (path, answer.text)
        assert answer.headers["content-security-policy"] == POLICY
        assert "</html>" in answer.text
        assert " style=" not in answer.text, path
        assert not re.search(r"<script(?![^>]* src=)", answer.text), path
        assert "<img src=x" not in answer.text, path
        assert "<b onclick" not in answer.text, path
        assert "\x00" not in answer.text, path
        assert len(answer.content) < 300_000, path
        for link in set(re.findall(r'(?:src|href)="([^"#]+)', answer.text)):
            assert link.startswith(("/", "?")), link
    assert "&lt;script&gt;window.executed" in get(looked_at, f"{BASE}/rows/0").text
    assert "nul ␀ and bell ␇" in get(looked_at, f"{BASE}/rows/2").text
    assert "(1,000,000 characters)" in get(looked_at, f"{BASE}/rows/3").text
    assert unescape(get(looked_at, f"{BASE}/rows/5").text).count(HOSTILE_LABEL) >= 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/console/debug/nothing", 404),
        ("/console/debug/%3Cscript%3E", 404),
        ("/console/debug/not-analysed/findings", 409),
        (f"{BASE}/findings?kind=%3Cscript%3E", 404),
        (f"{BASE}/findings/99999", 404),
        (f"{BASE}/findings/99999999999999999999999", 404),
        (f"{BASE}/rows/600", 404),
        (f"{BASE}/rows/99999999999999999999999", 404),
        (f"{BASE}/slices/9999", 404),
        (f"{BASE}/map?colour=%3Cscript%3E", 422),
        (f"{BASE}/map?polygon=%3Cscript%3E", 422),
        (f"{BASE}/compare?before=1&after=9", 404),
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(looked_at: Debugged, path: str, status: int) -> None:
    answer = get(looked_at, path)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert "<script>" not in answer.text


def test_pages_of_findings_follow_each_other(looked_at: Debugged) -> None:
    path, seen = f"{BASE}/findings?kind=duplicate_across_usages", list[str]()
    while path:
        shown = get(looked_at, path).text
        seen += re.findall(rf'href="{BASE}/findings/(\d+)"', shown)
        following = re.search(r'rel="next" href="([^"]+)"', shown)
        path = "" if following is None else unescape(following[1])
    assert seen == sorted(set(seen), key=int)
    found = looked_at.service.http.get(f"/v1/debug/datasets/{NAME}").json()["dataset"]["findings"]
    assert len(seen) == found["duplicate_across_usages"] > 25


def test_a_form_stores_a_review_and_leads_back(debugged: Debugged) -> None:
    on = f"{BASE}/findings?kind=label_error"
    shown = get(debugged, on).text
    row = re.findall(r'data-row="(\d+)"', shown)[0]
    predicted = unescape(re.findall(r'name="predicted" value="([^"]*)"', shown)[0])
    taken = post(debugged, on, row=row, action="take", predicted=predicted, version="1", seen="0")
    assert (taken.status_code, taken.headers["location"]) == (303, on)
    assert f'data-row="{row}"' not in get(debugged, on).text, "it is decided"
    assert f'data-row="{row}"' in get(debugged, f"{on}&decided=true").text
    assert f"{BASE}/rows/{row}" in get(debugged, f"{BASE}/reviews").text
    assert post(debugged, on, row=row, action="drop", seen="0").status_code == 409
    assert post(debugged, f"{BASE}/rows/{row}", row=row, action="undo", seen="1").status_code == 303
    assert post(debugged, on, row=row, action="relabel", label=" ").status_code == 422
    assert post(debugged, on, row="x", action="drop").status_code == 400
    assert post(debugged, on, row="7", action="drop", back="//elsewhere").headers["location"] == "/"
    stored = list(read_reviews(find_dataset(debugged.data, NAME)))
    assert [(one.row, one.action, one.label) for one in stored] == [
        (int(row), "relabel", predicted), (int(row), "undo", None), (7, "drop", None),
    ]  # fmt: skip
    assert {one.reviewer for one in stored} == {"console"}


def test_a_rectangle_in_numbers_selects_without_a_script(looked_at: Debugged) -> None:
    led = get(looked_at, f"{BASE}/map?colour=usage&left=-999&right=999&bottom=-999&top=999")
    assert led.status_code == 303
    shown = get(looked_at, led.headers["location"].partition("#")[0]).text
    found = re.search(r"(\d+) of (\d+) rows are selected", shown)
    assert found is not None
    assert found[1] == found[2]


def test_who_may_only_look_sees_no_forms(debugged: Debugged) -> None:
    key, stored = new_key("reader", ["read"])
    debugged.service.restart_with(api_keys=stored.line())
    shown = debugged.service.http.get(f"{BASE}/findings", headers=HTML | {"Authorization": f"Bearer {key}"})
    assert shown.status_code == 200
    assert 'class="review"' not in shown.text


def test_what_decisions_are_worth_stands_beside_them(debugged: Debugged) -> None:
    shares = {"before": {"rows": 60, "accuracy": 0.5}, "after": {"rows": 60, "accuracy": 0.75}}

    def analyse(rows: AnnotatedRows, **options: Any) -> Analysis:
        found = quick_analysis(rows, **options)
        effect = {"judged_on": "test rows", **shares}
        return replace(found, summary={**found.summary, "review_effect": effect})

    assert "worth" not in get(debugged, f"{BASE}/reviews").text
    run(debugged.data, NAME, analyse=analyse)
    told = get(debugged, f"{BASE}/reviews").text
    assert "50.0 % of 60 test rows" in told
    assert "75.0 %" in told


def test_a_comparison_with_a_damaged_analysis_says_so(debugged: Debugged) -> None:
    run(debugged.data, NAME, analyse=quick_analysis)
    find_dataset(debugged.data, NAME).analysis(1).write_bytes(b"damaged")
    shown = get(debugged, f"{BASE}/compare?before=1&after=2")
    assert (shown.status_code, shown.headers["content-type"][:9]) == (503, "text/html")
    asked = debugged.service.http.get(f"/v1/debug/datasets/{NAME}/comparison?before=1&after=2")
    assert (asked.status_code, asked.json()["type"]) == (503, "/problems/broken-data-set")
