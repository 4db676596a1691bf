"""The README is run: what it shows is what happens. `conftest.py` has the convention.

The working folder's `data/registry` holds a small decoder already, and a real service runs on `data/`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embup.cli.service_process import service_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import SimpleNamespace

    from embup_core.artifacts.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "README.md"


@pytest.fixture(scope="module")
def place(
    registry: Registry, tmp_path_factory: pytest.TempPathFactory, pages: SimpleNamespace
) -> Iterator[Any]:
    """A working folder with a decoder in it and a service beside it."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(registry.root, folder / "data" / "registry", symlinks=True)
    with service_process(
        registry=folder / "data" / "registry", data=folder / "data", log=folder / "service.log"
    ) as url:
        yield pages.Place(folder, int(url.rpartition(":")[2]))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_block_of_the_readme_does_what_it_shows(block: Any, place: Any, pages: SimpleNamespace) -> None:
    pages.check(PAGE, block, place)


def test_the_readme_shows_commands_and_gives_a_reason_for_each_block_left_out(pages: SimpleNamespace) -> None:
    blocks = pages.parse_blocks(PAGE.read_text())
    assert any(block.reason is None for block in blocks)
    assert all(block.reason for block in blocks if block.reason is not None)


def test_the_readme_or_the_index_leads_to_every_page_of_the_docs() -> None:
    docs = ROOT / "docs"
    shown = PAGE.read_text().replace("](docs/", "](") + (docs / "index.md").read_text()
    pages = [str(page.relative_to(docs)) for page in docs.rglob("*.md")]
    assert [page for page in pages if f"]({page}" not in shown and page != "index.md"] == []


def test_the_readme_is_read_in_a_minute() -> None:
    assert len(PAGE.read_text().splitlines()) <= 150


PAGE_OF_ITS_OWN = """\
text
```console
$ echo one \\
  two
one ...
$ cat <<'EOF'
> http://localhost:8000
> EOF
http://localhost:8000
```
<!-- not run: takes a day -->
```sh
sleep 86400
```
```sh
# a comment
true
```
```python
not a command
```
"""


def test_blocks_commands_and_marks_are_found(pages: SimpleNamespace) -> None:
    first, second, third = pages.parse_blocks(PAGE_OF_ITS_OWN)
    assert [(step.line, step.printed) for step in first.steps] == [
        (3, "one ..."),
        (6, "http://localhost:8000"),
    ]
    assert (first.reason, second.reason, third.reason) == (None, "takes a day", None)
    assert [step.command for step in third.steps] == ["true"]


def test_a_page_that_tells_the_truth_passes_and_one_that_does_not_fails(
    tmp_path: Path, pages: SimpleNamespace
) -> None:
    here = pages.Place(tmp_path, 4711)
    for step in pages.parse_blocks(PAGE_OF_ITS_OWN)[0].steps:
        printed = pages.run(step, here).stdout
        assert pages.difference(step, printed, here) == ""
        assert pages.difference(pages.Step(step.line, step.command, "something else"), printed, here)
    assert "4711" in pages.run(pages.Step(1, "echo http://127.0.0.1:8000", ""), here).stdout
