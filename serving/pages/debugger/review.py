"""Reviews: the form that every table has, the log, and the exports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect

from debugger.queries import analysis_row
from debugger.reviews import ACTIONS, Review
from debugger.store.names import SOURCE
from serving.access.sessions import Sessions, Viewer
from serving.actions.debugging import read_dataset, store_reviews
from serving.pages.console.forms import own_path, read_form
from serving.pages.debugger.frame import PAGE_ROWS, PATH, dataset_page, frame_of
from serving.problems.problem import ProblemError
from serving.services import Services

if TYPE_CHECKING:
    from collections.abc import Mapping

    from debugger.reading import OpenDataset

TAKE: Final = "take"
"""Action of a form: relabel with what was predicted."""


class ReviewPages(Controller):
    """The pages of reviews."""

    path = f"{PATH}/{{name:str}}"
    include_in_schema = False

    @post("/review", opt={"access": "debug", "page": True})
    async def review(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        sessions: NamedDependency[Sessions],
    ) -> Redirect:
        """Store the form's decision, and go back to where it was made."""
        form = await read_form(request, sessions)
        seen = _number(form, "seen")
        review = _review(form, reviewer=viewer.name or "console")
        await store_reviews(services, name, [review], unchanged_since=seen)
        return Redirect(own_path(form.get("back", PATH)), status_code=303)

    @get("/reviews", opt={"access": "read", "page": True})
    async def log(
        self,
        request: Request[Any, Any, Any],
        name: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        before: Annotated[int | None, QueryParameter(ge=0, le=2**53)] = None,
    ) -> Response[str]:
        """List what was decided, the newest first, and what can be exported."""

        def read(opened: OpenDataset) -> dict[str, Any]:
            wanted = [one for one in opened.reviews if before is None or one.seq < before]
            shown = wanted[: -PAGE_ROWS - 1 : -1]
            texts = opened.query(
                "SELECT row, left(text, 200) AS text FROM rows WHERE list_contains($rows::BIGINT[], row)",
                {"rows": [one.row for one in shown]},
            )
            actions = [one.action for one in opened.decisions.values()]
            return {
                "frame": frame_of(opened),
                "reviews": shown,
                "texts": {one["row"]: one["text"] for one in texts},
                "holds": {one.seq for one in opened.decisions.values()},
                "following": shown[-1].seq if len(wanted) > PAGE_ROWS else None,
                "counts": {action: actions.count(action) for action in ACTIONS if action in actions},
                "annotated": opened.described["kind"] != SOURCE,
                "effect": None
                if opened.version is None
                else analysis_row(opened)["summary"].get("review_effect"),
            }

        found = await read_dataset(services, name, read)
        return dataset_page(
            "reviews.html", request, viewer, found.pop("frame"), tab="/reviews", title="Reviews and export",
            before=before, **found,
        )  # fmt: skip


def _review(form: Mapping[str, str], *, reviewer: str) -> Review:
    action: Any = form.get("action", "")
    row = _number(form, "row")
    if row is None or action not in {*ACTIONS, TAKE}:
        raise ProblemError(
            "malformed-request",
            f"Expected a row and an action, found {form.get('row', '')[:40]!r} and {action[:40]!r}.",
            remedy="Send the form from its page.",
        )
    label = form.get("predicted" if action == TAKE else "label", "").strip() or None
    return Review(
        row=row,
        action="relabel" if action == TAKE else action,
        label=label if action in {TAKE, "relabel"} else None,
        note=form.get("note", "").strip() or None,
        version=_number(form, "version"),
        reviewer=reviewer,
    )


def _number(form: Mapping[str, str], name: str) -> int | None:
    text = form.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
