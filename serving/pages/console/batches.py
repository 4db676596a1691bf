"""Batches: the list, the form to submit one, and what can be done about one."""

from __future__ import annotations

import secrets
from typing import Annotated, Any, Final, Literal

import msgspec
from litestar import Controller, Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect

from embup_core.errors import InputError, JobConflictError, OutputError
from serving.access.sessions import Sessions, Viewer
from serving.actions.batches import batch_status, cancel_batch, submit_batch
from serving.jobs.example import EXAMPLE_FILE
from serving.jobs.model import FINAL_PHASES, Phase
from serving.pages.console.batch import batch_details
from serving.pages.console.forms import read_form
from serving.pages.layout import page
from serving.pages.texts import file_name
from serving.schemas import BatchRequest
from serving.services import Services

PATH: Final = "/console/batches"
PAGE_ROWS: Final = 25
LONGEST_TEXT: Final = 4096

Status = Literal["", "IN PROGRESS", "COMPLETED", "FAILED", "CANCELLED"]
PHASES: Final[dict[Status, list[Phase] | None]] = {
    "": None,
    "IN PROGRESS": [phase for phase in Phase if phase not in FINAL_PHASES],
    "COMPLETED": [Phase.COMPLETED],
    "FAILED": [Phase.FAILED],
    "CANCELLED": [Phase.CANCELLED],
}


class BatchPages(Controller):
    """The pages of batches."""

    path = PATH
    include_in_schema = False

    @get(opt={"access": "read", "page": True})
    async def newest(
        self,
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        status: Annotated[Status, QueryParameter()] = "",
        before: Annotated[int | None, QueryParameter(ge=0, le=2**62)] = None,
    ) -> Response[str]:
        """List a page of batches, the newest first."""
        jobs = await services.store.newest(limit=PAGE_ROWS + 1, phases=PHASES[status], before=before)
        shown, more = jobs[:PAGE_ROWS], len(jobs) > PAGE_ROWS
        return page(
            "console/batches.html",
            viewer,
            here=PATH,
            title="Batches",
            batches=[batch_status(job, services.engine.live) for job in shown],
            statuses=list(PHASES),
            status=status,
            before=before,
            following=shown[-1].sequence if more else None,
        )

    @get("/new", opt={"access": "batch", "page": True})
    async def ask(
        self,
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        input_filepath: Annotated[str, QueryParameter(max_length=LONGEST_TEXT)] = "",
        output_filepath: Annotated[str, QueryParameter(max_length=LONGEST_TEXT)] = "",
    ) -> Response[str]:
        """Show the form, filled in with what the address says."""
        return _form(services, viewer, {"input_filepath": input_filepath, "output_filepath": output_filepath})

    @post(opt={"access": "batch", "page": True})
    async def submit(
        self,
        request: Request[Any, Any, Any],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        sessions: NamedDependency[Sessions],
    ) -> Response[Any]:
        """Submit the form's batch; show the form again with what speaks against it."""
        form = dict(await read_form(request, sessions))
        # Sent twice by a second click, it is one batch all the same.
        key = form.pop("idempotency_key", "")[:255] or None
        try:
            job = await submit_batch(services, _request(form), key)
        except (InputError, OutputError, JobConflictError) as error:  # what the form can mend
            return _form(services, viewer, form, problem=error.message, remedy=error.remedy)
        except msgspec.ValidationError as error:
            return _form(services, viewer, form, problem=f"The form cannot be read: {error}.")
        return Redirect(f"{PATH}/{job.batch_request_id}", status_code=303)

    @get("/{batch_request_id:str}", opt={"access": "read", "page": True})
    async def one(
        self,
        batch_request_id: FromPath[str],
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
    ) -> Response[str]:
        """Show one batch."""
        job = await services.store.get(batch_request_id)
        return page(
            "console/batch.html",
            viewer,
            here=PATH,
            title=f"Batch of {file_name(job.input_filepath)}",
            batch=batch_status(job, services.engine.live),
            details=await batch_details(services, job),
        )

    @post("/{batch_request_id:str}/cancel", opt={"access": "batch", "page": True})
    async def cancel(
        self,
        request: Request[Any, Any, Any],
        batch_request_id: FromPath[str],
        services: NamedDependency[Services],
        sessions: NamedDependency[Sessions],
    ) -> Redirect:
        """Cancel a batch, and show it."""
        await read_form(request, sessions)
        job = await cancel_batch(services, batch_request_id)
        return Redirect(f"{PATH}/{job.batch_request_id}", status_code=303)


def _request(form: dict[str, str]) -> BatchRequest:
    """Read a form's fields as the API would; an empty one of a number is none."""
    fields: dict[str, Any] = {
        "input_filepath": form.get("input_filepath", ""),
        "output_filepath": form.get("output_filepath", ""),
        "on_bad_row": form.get("on_bad_row", "fail"),
        "basis": form.get("basis", "decoded"),
        "overwrite": "overwrite" in form,
        "make_parents": "make_parents" in form,
    }
    if form.get("max_bad_rows", "").strip():
        fields["max_bad_rows"] = form["max_bad_rows"].strip()
    return msgspec.convert(fields, BatchRequest, strict=False)


def _form(
    services: Services, viewer: Viewer, form: dict[str, str], *, problem: str = "", remedy: str = ""
) -> Response[str]:
    names = ("input_filepath", "output_filepath", "on_bad_row", "basis", "max_bad_rows")
    return page(
        "console/submit.html",
        viewer,
        here=PATH,
        title="Submit a batch",
        status_code=422 if problem else 200,
        form={name: form.get(name, "") for name in names},
        checked={name: name in form for name in ("overwrite", "make_parents")},
        problem=problem,
        remedy=remedy,
        roots=[root.path for root in services.confinement.roots],
        example=EXAMPLE_FILE,
        has_example=(services.settings.batch_roots[0].absolute() == services.settings.data.absolute()),
        dims=services.model.dims,
        idempotency_key=secrets.token_urlsafe(16),
    )
