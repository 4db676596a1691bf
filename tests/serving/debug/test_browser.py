"""The debugger's pages in a real browser: by keyboard, on the map, sound in light, dark and on a phone."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import pytest

from debugger.reviews import read_reviews
from debugger.store.names import find_dataset
from tests.browser import accessibility_faults, browser_page
from tests.serving.debug.conftest import NAME, Debugged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from debugger.reviews import Review

pytestmark = pytest.mark.browser

VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""
BASE = f"/console/debug/{NAME}"
ADDRESSES = (
    "/console/debug",
    BASE,
    f"{BASE}/findings",
    f"{BASE}/findings?kind=label_error",
    f"{BASE}/findings/1",
    f"{BASE}/rows/0",
    f"{BASE}/rows/2",
    f"{BASE}/rows/3",
    f"{BASE}/rows/5",
    f"{BASE}/classes",
    f"{BASE}/slices",
    f"{BASE}/next",
    f"{BASE}/reviews",
    f"{BASE}/map?colour=label_error&polygon=-999,-999 999,-999 999,999 -999,999",
    f"{BASE}/compare",
)


@contextmanager
def watched_page(debugged: Debugged, *, refused: int = 0) -> Iterator[Page]:
    """Give a page; at the end nothing came from elsewhere, nothing was said, and no hostile text ran.

    A browser itself says of each answer that is refused that it is.
    """
    own = f"http://127.0.0.1:{debugged.service.port}/"
    asked, said = list[str](), list[str]()
    with browser_page() as page:
        page.add_init_script(VIOLATIONS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page
        assert page.evaluate("window.violations") == []
        assert page.evaluate("window.executed") is None
    assert [message for message in said if not refused or f"status of {refused}" not in message] == []
    assert [url for url in asked if not url.startswith((own, "data:", "blob:"))] == []


def address(debugged: Debugged, path: str) -> str:
    return f"http://127.0.0.1:{debugged.service.port}{path}"


def stored(debugged: Debugged) -> list[Review]:
    return list(read_reviews(find_dataset(debugged.data, NAME)))


@pytest.mark.timeout(400)
def test_every_page_is_sound_in_light_dark_and_on_a_phone(looked_at: Debugged) -> None:
    schemes: tuple[tuple[Literal["dark", "light"], int], ...] = (("light", 1200), ("dark", 360))
    with watched_page(looked_at) as page:
        for scheme, width in schemes:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 800})
            for path in ADDRESSES:
                page.goto(address(looked_at, path))
                where = f"{path} {scheme} {width}"
                assert accessibility_faults(page) == [], where
                wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                assert page.evaluate(wide) <= 0, where
                assert page.evaluate("window.violations") == [], where
                assert page.evaluate("window.executed") is None, where


def test_rows_are_reviewed_by_keyboard_and_the_store_has_it(debugged: Debugged) -> None:
    with watched_page(debugged) as page:
        page.goto(address(debugged, f"{BASE}/findings?kind=label_error"))
        rows = [int(row.get_attribute("data-row") or -1) for row in page.locator("[data-row]").all()[:4]]
        predicted = page.locator('[data-row] input[name="predicted"]').first.input_value()

        def done(row: int, text: str) -> None:
            page.locator("#stored", has_text=f"Row {row}: {text}").wait_for()

        page.keyboard.press("j")
        page.keyboard.press("2")
        done(rows[0], "relabel")
        page.keyboard.press("1")
        done(rows[1], "confirm")
        page.keyboard.press("3")
        page.keyboard.type("hotel")
        page.keyboard.press("Enter")
        done(rows[2], "relabel hotel")
        page.keyboard.press("d")
        done(rows[3], "drop")
        page.keyboard.press("k")
        page.keyboard.press("u")
        done(rows[3], "taken back")
    assert [(one.row, one.action, one.label) for one in stored(debugged)] == [
        (rows[0], "relabel", predicted),
        (rows[1], "confirm", None),
        (rows[2], "relabel", "hotel"),
        (rows[3], "drop", None),
        (rows[3], "undo", None),
    ]


def test_a_decision_that_another_person_forestalled_is_not_stored(debugged: Debugged) -> None:
    with watched_page(debugged, refused=409) as page:
        page.goto(address(debugged, f"{BASE}/rows/9"))
        body = {"reviews": [{"row": 9, "action": "keep"}]}
        http = debugged.service.http
        assert http.post(f"/v1/debug/datasets/{NAME}/reviews", json=body).status_code == 201
        page.keyboard.press("j")
        page.keyboard.press("d")
        page.locator("#stored", has_text="Not stored").wait_for()
    assert [one.action for one in stored(debugged)] == ["keep"]


def test_what_is_drawn_on_the_map_is_selected_and_escape_clears_it(looked_at: Debugged) -> None:
    with watched_page(looked_at) as page:
        page.set_viewport_size({"width": 1200, "height": 1400})
        page.goto(address(looked_at, f"{BASE}/map"))
        canvas = page.locator("canvas[data-drawn]")
        canvas.wait_for()
        coloured = page.evaluate(
            """() => {
              const canvas = document.getElementById("map");
              const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
              const found = new Set();
              for (let i = 0; i < pixels.length; i += 4)
                if (pixels[i + 3]) found.add(`${pixels[i]} ${pixels[i + 1]} ${pixels[i + 2]}`);
              return found.size;
            }"""
        )
        assert coloured >= 10, "points of many labels are drawn"
        box = canvas.bounding_box()
        assert box is not None
        page.locator("#box").check(force=True)
        page.mouse.move(box["x"] + 2, box["y"] + 2)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
        page.mouse.up()
        selected = page.locator("#selected-title")
        selected.wait_for()
        drawn = int(page.locator("canvas[data-drawn]").get_attribute("data-drawn") or 0)
        assert selected.inner_text() == f"{drawn} of {drawn} rows are selected"
        again = page.url
        page.keyboard.press("Escape")
        page.wait_for_url(lambda url: "polygon" not in url)
        page.goto(again)
        assert page.locator("#selected-title").inner_text().startswith(f"{drawn} of")
