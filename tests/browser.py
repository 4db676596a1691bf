"""A real browser, for what people see and do on the service's pages.

Links and buttons are reached by the keyboard: a click waits for a picture that stands still, and a browser
on a busy machine sometimes draws none for half a minute and longer.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator, Page

CHROMIUM = shutil.which("chromium")
QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync")  # fmt: skip


@contextmanager
def browser_page(*more_arguments: str) -> Iterator[Page]:
    """Give an empty page of a browser that asks for nothing by itself; skip where there is no Chromium."""
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *QUIET, *more_arguments]
        )
        yield browser.new_page()
        browser.close()


def execute(page: Page, operation: str) -> Locator:
    """Try an operation that is unfolded on the page of the API, and give the place of its answer.

    The button is there before the page has read the operation; pressed then, it does nothing.
    """
    shown = page.locator(f"#operations-{operation}")
    shown.locator(".responses-inner .response").first.wait_for()
    shown.locator("button.execute").press("Enter")
    return shown.locator(".live-responses-table")


def accessibility_faults(page: Page) -> list[str]:
    """What axe-core finds on a page: rule, gravity, and the first place of each."""
    from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]

    found = Axe().run(page).response["violations"]
    return [f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}" for one in found]
