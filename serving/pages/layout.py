"""What all pages have in common: the template engine, the navigation, and what a browser may load for them.

Pages are rendered on the event loop, from numbers that were read elsewhere: a page takes about a millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import MediaType, Response

from serving.access.control import LOGIN_PATH, OPEN
from serving.pages.assets import asset_path
from serving.pages.texts import FILTERS

if TYPE_CHECKING:
    from serving.access.sessions import Viewer

POLICY: Final = (
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
"""Scripts, styles and pictures come from the service itself, and none stands in a page."""


class Entry(NamedTuple):
    """One entry of the navigation.

    Attributes
    ----------
    name, path
        What is shown, and where it leads.
    scope
        What a viewer needs to be shown it.
    """

    name: str
    path: str
    scope: str


NAVIGATION: Final = (
    Entry("Overview", "/", "read"),
    Entry("Batches", "/console/batches", "read"),
    Entry("Try", "/console/try", "realtime"),
    Entry("Decoders", "/console/decoders", "read"),
    Entry("Debug", "/console/debug", "read"),
    Entry("API", "/docs", OPEN),
)

_ENVIRONMENT: Final = Environment(
    loader=PackageLoader("serving.pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(FILTERS)
_ENVIRONMENT.globals.update(asset=asset_path, login_path=LOGIN_PATH)


def render(template: str, viewer: Viewer, *, here: str = "", title: str, **context: Any) -> str:
    """Give a page as HTML.

    Parameters
    ----------
    template
        Its file below `templates`.
    viewer
        Who looks at it.
    here
        Path of the entry of the navigation that it belongs to.
    title
        Its heading, and the window's title.
    context
        What the template shows; every text is escaped.
    """
    entries = [entry for entry in NAVIGATION if entry.scope == OPEN or viewer.allows(entry.scope)]
    return _ENVIRONMENT.get_template(template).render(
        context, title=title, viewer=viewer, navigation=entries, here=here
    )


def page(
    template: str, viewer: Viewer, *, here: str = "", title: str, status_code: int = 200, **context: Any
) -> Response[str]:
    """Answer a page; parameters as for `render`."""
    return Response(
        render(template, viewer, here=here, title=title, **context),
        media_type=MediaType.HTML,
        status_code=status_code,
        headers=PAGE_HEADERS,
    )


PAGE_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",  # pages hold the token of their forms
    "Referrer-Policy": "same-origin",
}


def compile_templates() -> None:
    """Compile every template now, rather than for the first viewer of each page."""
    for name in _ENVIRONMENT.list_templates():
        _ENVIRONMENT.get_template(name)
