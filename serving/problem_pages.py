"""The page that a problem's `type` leads to: what it means and what to do."""

from __future__ import annotations

from html import escape

from litestar import MediaType, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from serving.access import OPEN
from serving.page import page
from serving.problem_kinds import KINDS


@get(
    "/problems/{kind:str}",
    media_type=MediaType.HTML,
    include_in_schema=False,
    opt={"access": OPEN},
    sync_to_thread=False,
)
def problem_page(kind: FromPath[str]) -> str:
    """Show what a kind of problem means."""
    found = KINDS.get(kind)
    if found is None:
        raise NotFoundException
    # Backquotes are all the Markdown there is in a meaning.
    parts = escape(found.meaning, quote=False).split("`")
    meaning = "".join(f"<code>{part}</code>" if i % 2 else part for i, part in enumerate(parts))
    return page(
        found.title,
        f"<p><code>{kind}</code>, status {found.status}</p>\n<p>{meaning}</p>\n"
        '<p><a href="/docs">API</a></p>',
    )
