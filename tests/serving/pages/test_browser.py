"""The console in a real browser: nothing from elsewhere, no error, live, by keyboard, dark and light."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from playwright.sync_api import expect

from tests.browser import accessibility_faults, browser_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

    from embup_core.artifacts.registry import Registry
    from tests.serving.pages.conftest import Console

pytestmark = pytest.mark.browser

VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.effectiveDirective} ${event.blockedURI}`));
"""


@contextmanager
def watched_page(console: Console) -> Iterator[Page]:
    """Give a page; at the end nothing came from elsewhere, and the console of the browser is empty."""
    asked, said = list[str](), list[str]()
    with browser_page() as page:
        page.add_init_script(VIOLATIONS)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page
    assert said == []
    elsewhere = [url for url in asked if not url.startswith((f"{console.address}/", "data:", "blob:"))]
    assert elsewhere == []


def addresses(console: Console, two_decoders: Registry) -> list[str]:
    """Every page, with something on it."""
    second, first = two_decoders.version_names()
    return [
        "/",
        "/console/batches",
        f"/console/batches/{console.batches['mixed']}",
        f"/console/batches/{console.batches['failed']}",
        "/console/batches/new",
        "/console/try?take=golden",
        f"/console/decoders?first={first}&second={second}",
        f"/console/decoders/{first}/promote",
        "/problems/bad-row",
        "/docs",
    ]


@pytest.mark.timeout(300)
def test_every_page_is_sound_in_light_dark_and_on_a_phone(console: Console, two_decoders: Registry) -> None:
    """Labels, landmarks, contrast, the policy, no scrolling sideways; the first paint is printed."""
    schemes: tuple[tuple[Literal["dark", "light"], int], ...] = (
        ("light", 1200),
        ("dark", 1200),
        ("light", 360),
    )
    with watched_page(console) as page:
        for scheme, width in schemes:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 800})
            for address in addresses(console, two_decoders):
                page.goto(console.address + address)
                where = f"{address} {scheme} {width}"
                if address == "/docs":
                    page.locator("#operations-realtime-upsample").wait_for()
                else:
                    assert accessibility_faults(page) == [], where
                    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
                    assert page.evaluate(wide) <= 0, where
                assert page.evaluate("window.violations") == [], where
                paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
                print(f"{where}: first paint after {paint or 0:.0f} ms")  # noqa: T201 - shown, not asserted


def test_the_keyboard_reaches_everything_and_shows_where_it_is(console: Console) -> None:
    with watched_page(console) as page:
        page.goto(f"{console.address}/console/batches/new")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to content"
        assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0, "it is seen now"
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "input_filepath"
        reached = set[str]()
        page.goto(f"{console.address}/console/batches/new")
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.add(
                page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
            )
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            on_body = page.evaluate("document.activeElement === document.body")
            assert outline == "solid" or on_body
        wanted = {"Overview", "Batches", "Try", "Decoders", "API", "input_filepath", "output_filepath"}
        assert (
            wanted | {"on_bad_row", "max_bad_rows", "basis", "overwrite", "make_parents", "Submit"} <= reached
        )


def test_a_batch_is_submitted_followed_and_cancelled(console: Console) -> None:
    """The bar moves by the stream of events, without the page being asked for again."""
    service = console.service
    rows = service.write_input("followed.txt", 30_000)
    rows.write_text(rows.read_text() * 20)  # long enough to be followed, and then cancelled
    with watched_page(console) as page:
        page.goto(f"{console.address}/console/batches/new")
        page.get_by_label("Input file").fill("followed.txt")
        page.get_by_label("Output file").fill("followed.npy")
        page.get_by_role("button", name="Submit").press("Enter")
        page.get_by_text("the page follows it").wait_for()
        expect(page.locator('[data-field="rows"]')).not_to_have_text("0", timeout=30_000)
        page.locator("summary").press("Enter")
        page.get_by_role("button", name="Cancel the batch").press("Enter")
        page.locator('[data-field="phase"]', has_text="Cancelled").wait_for(timeout=30_000)
        assert page.evaluate("window.violations") == []
    job = service.http.get("/v1/batches").json()["batches"][0]
    assert service.final(job["batch_request_id"])["phase"] == "CANCELLED"


def test_the_overview_changes_while_one_looks_at_it(console: Console) -> None:
    service = console.service
    with watched_page(console) as page:
        page.goto(console.address + "/")
        assert page.locator("#in-progress", has_text="seen.txt").count() == 0
        rows = service.write_input("seen.txt", 30_000)
        rows.write_text(rows.read_text() * 20)  # long enough to be seen in progress, and then cancelled
        job = service.submit("seen.txt", "seen.npy")
        page.locator("#in-progress", has_text="seen.txt").wait_for(timeout=30_000)
        for _ in range(20):
            assert service.http.post("/v1/upsample", json={"embedding": [0.1] * 32}).status_code == 200
        service.http.post(f"/v1/batches/{job}/cancel")
        service.final(job)
        page.locator("#recent", has_text="seen.txt").wait_for(timeout=30_000)
        page.locator("#realtime .line.first").wait_for(state="attached", timeout=30_000)


def test_a_row_is_drawn_and_the_address_brings_it_back(console: Console) -> None:
    with watched_page(console) as page:
        page.goto(f"{console.address}/console/try")
        page.get_by_role("button", name="Draw a direction").press("Enter")
        page.get_by_role("heading", name="Decoded vector").wait_for()
        assert page.locator(".badge.warn").inner_text() == "low"
        row, address = page.get_by_label("Projected embedding").input_value(), page.url
        page.goto(f"{console.address}/console/try")
        page.goto(address)
        assert page.get_by_label("Projected embedding").input_value() == row
        with page.expect_download() as begun:
            page.get_by_role("link", name=".npy").press("Enter")
        assert Path(begun.value.path()).stat().st_size == 128 + 4 * 1536


def test_a_person_logs_in_looks_and_logs_out(service_class: Any, registry: Registry, tmp_path: Path) -> None:
    from serving.access.keys import new_key
    from tests.serving.pages.conftest import Console

    key, stored = new_key("someone", ["read"])
    service = service_class(registry.root, tmp_path, api_keys=stored.line())
    try:
        console = Console(service)
        console.http.close()
        with watched_page(console) as page:
            page.goto(f"{console.address}/console/batches")
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Log in").press("Enter")
            page.get_by_role("heading", name="Batches", exact=True).wait_for()
            assert page.evaluate("document.cookie") == "", "no script sees the session"
            assert accessibility_faults(page) == []
            page.get_by_role("button", name="Log out").press("Enter")
            page.get_by_label("API key").wait_for()
            assert accessibility_faults(page) == []
    finally:
        assert service.end() == 0
