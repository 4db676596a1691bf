"""What the pages of one data set have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from debugger.views.rows import labels_by_rows
from serving.pages.layout import page

if TYPE_CHECKING:
    from litestar import Request, Response

    from debugger.reading import OpenDataset
    from serving.access.sessions import Viewer

PATH: Final = "/console/debug"
PAGE_ROWS: Final = 25
MOST_LABELS: Final = 1000

TABS: Final = (
    ("", "What to do next"),
    ("/findings", "Findings"),
    ("/map", "Map"),
    ("/classes", "Classes"),
    ("/slices", "Slices"),
    ("/next", "Label next"),
    ("/reviews", "Reviews and export"),
)


def frame_of(opened: OpenDataset) -> dict[str, Any]:
    """Read what every page of a data set shows; for a thread."""
    return {
        "name": opened.name,
        "version": opened.version,
        "last_review": opened.reviews[-1].seq if opened.reviews else 0,
        "decisions": len(opened.decisions),
        "labels": opened.once(
            "labels", lambda: [one["label"] for one in labels_by_rows(opened, limit=MOST_LABELS)]
        ),
    }


def dataset_page(
    template: str,
    request: Request[Any, Any, Any],
    viewer: Viewer,
    frame: dict[str, Any],
    *,
    tab: str,
    title: str,
    **context: Any,
) -> Response[str]:
    """Answer a page of a data set.

    Parameters
    ----------
    template
        Its file below `templates/debugger`.
    request
        Whose address a review comes back to.
    viewer
        Who looks at it.
    frame
        Of `frame_of`.
    tab
        The entry of `TABS` that it belongs to.
    title
        Its heading.
    context
        What else the template shows.
    """
    query = request.scope["query_string"].decode("ascii", "replace")
    return page(
        f"debugger/{template}",
        viewer,
        here=PATH,
        title=title,
        base=f"{PATH}/{frame['name']}",
        tabs=TABS,
        tab=tab,
        back=quote(request.url.path, safe="/") + (f"?{query}" if query else ""),
        may_review=viewer.allows("debug"),
        **frame,
        **context,
    )
