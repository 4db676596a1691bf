"""The documentation's site is built without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Loaded(HTMLParser):
    """Collects what a browser loads with a page, which links are not."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "src" or (tag == "link" and name == "href")):
                self.addresses.append(value)


def test_the_site_is_built_with_no_broken_link_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    built = subprocess.run(
        [Path(sys.executable).with_name("mkdocs"), "build", "--strict", "--site-dir", tmp_path],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    pages = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.html")}
    assert pages == sources | {Path("404.html")}
    for page in pages:
        loaded = Loaded()
        loaded.feed((tmp_path / page).read_text(encoding="utf-8"))
        assert loaded.addresses
        for address in loaded.addresses:
            assert not address.startswith(("http:", "https:", "//")), f"{page} loads {address}"
