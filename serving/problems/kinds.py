"""Every kind of problem that the service answers: its status, its title, what it means and what to do.

One entry a kind. It makes the page at `/problems/<kind>`, which a problem's `type` points at, and the table
in docs/reference/errors.md, which `python -m serving.problems.kinds` prints.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class ProblemKind(NamedTuple):
    """What is the same for every occurrence.

    Attributes
    ----------
    status
        HTTP status code.
    title
        What kind of problem it is, in a few words.
    meaning
        When it is answered, and what to do.
    retry_after_s
        In how many seconds trying again may help; None where it does not. Clients hear it as `Retry-After`.
    """

    status: int
    title: str
    meaning: str
    retry_after_s: int | None = None


KINDS: Mapping[str, ProblemKind] = {
    "malformed-request": ProblemKind(
        400,
        "The request cannot be understood",
        "The body is no JSON, or has other fields or values than the request's description says, or a "
        "parameter is out of bounds. `detail` names the place, what was expected and what was found. "
        "Correct the request.",
    ),
    "invalid-http": ProblemKind(
        400,
        "This is no valid HTTP request",
        "What arrived does not follow HTTP/1.1: a broken request line, header or chunk, no `Host` header or "
        "two. The connection is closed. Look at the client, or at the proxy before the service.",
    ),
    "no-valid-key": ProblemKind(
        401,
        "An API key is needed",
        "The service has API keys, and the request brought none or one that it does not know. Send "
        "`Authorization: Bearer <key>`; the operator of the service makes keys with `embup keys new`.",
    ),
    "key-without-scope": ProblemKind(
        403,
        "The API key does not allow this",
        "The key is known but lacks the scope that `detail` names. Ask for a key that has it.",
    ),
    "foreign-origin": ProblemKind(
        403,
        "Requests from other web pages are refused",
        "A browser sent this request for a page of another origin. No page but the service's own may drive "
        "it. Send the request from a program, or put page and service behind one address.",
    ),
    "stale-form": ProblemKind(
        403,
        "The form is of another session",
        "A form of a page brings a token along that shows that it was opened in this session. This one does "
        "not: the service was started again, or somebody logged in or out meanwhile. Open the page again.",
    ),
    "not-found": ProblemKind(
        404,
        "There is nothing at this address",
        "The path is none of the service's. They are listed at /docs.",
    ),
    "unknown-batch-request": ProblemKind(
        404,
        "No such batch request",
        "No batch has this id. It is the `batch_request_id` that `POST /v1/batches` answered; `GET "
        "/v1/batches` lists the newest.",
    ),
    "unknown-decoder": ProblemKind(
        404,
        "No such decoder",
        "No decoder of this version is published. `GET /v1/models` lists them.",
    ),
    "unknown-data-set": ProblemKind(
        404,
        "No such data set",
        "No data set of this name is imported. `GET /v1/debug/datasets` lists them; `embup debug import` "
        "makes one.",
    ),
    "not-in-data-set": ProblemKind(
        404,
        "The data set has no such part",
        "It has no row, finding, slice or analysis of this number, or no findings of this kind. `detail` "
        "says which.",
    ),
    "not-analysed": ProblemKind(
        409,
        "The data set has not been analysed",
        "What was asked for comes out of an analysis, and there is none yet. Make one: `embup debug run`.",
    ),
    "review-conflict": ProblemKind(
        409,
        "Somebody else has reviewed the row meanwhile",
        "One of the rows was reviewed after `unchanged_since`. Nothing was stored. Read the row again, then "
        "decide.",
    ),
    "method-not-allowed": ProblemKind(
        405,
        "The method is not offered at this address",
        "The path exists, but not with this method. The header `Allow` names those that do.",
    ),
    "too-slow": ProblemKind(
        408,
        "The request took too long",
        "The request's head or body did not arrive in time, or a realtime request was not answered within "
        "`EMBUP_REALTIME_DEADLINE_S`. The connection is closed. Send the request at once; split large ones.",
    ),
    "decoder-refused": ProblemKind(
        409,
        "The decoder was not put into service",
        "The decoder to promote, or to roll back to, is damaged or there is none; `detail` says which. What "
        "was in service stays, and `CURRENT` with it. Choose another version of `GET /v1/models`.",
    ),
    "index-of-another-basis": ProblemKind(
        409,
        "The index has another basis than the decoder",
        "The index that `EMBUP_SEARCH_INDEX` names holds vectors that those of the decoder in service cannot "
        "be compared with. Export the archive again with `embup export --recreate` and start the service "
        "again, or put a version of the index's basis into service.",
    ),
    "batch-conflict": ProblemKind(
        409,
        "The batch request contradicts another one",
        "Another live batch writes to the same output, the Idempotency-Key was used for another request, or "
        "the batch has ended already and cannot be cancelled. `detail` says which.",
    ),
    "too-large": ProblemKind(
        413,
        "The request body is too large",
        "The body is longer than `EMBUP_MAX_BODY_BYTES`. Send fewer rows at a time, or a file through "
        "`POST /v1/batches`.",
    ),
    "target-too-long": ProblemKind(
        414,
        "The request's address is too long",
        "Path and query together are longer than any request of this service needs. Shorten them.",
    ),
    "unsupported-media-type": ProblemKind(
        415,
        "The body's media type is not understood",
        "Bodies are JSON, and must say so: `Content-Type: application/json`.",
    ),
    "unknown-host": ProblemKind(
        421,
        "The service does not go by this name",
        "The `Host` header names neither the address that the service listens on nor one of "
        "`EMBUP_ALLOWED_HOSTS`. A page could otherwise reach a local service through a name of its own. Use "
        "another address, or have the name added to the setting.",
    ),
    "bad-row": ProblemKind(
        422,
        "A row cannot be used",
        "One of the first rows of the batch's input cannot be decoded; `line` is its number. Correct it, or "
        "let bad rows be answered by nan (`on_bad_row`).",
    ),
    "bad-input": ProblemKind(
        422,
        "The input cannot be used",
        "A vector without a direction (only zeros), a number beyond float32, or an input file that is "
        "missing, empty, or not where batch files may lie. `detail` says which.",
    ),
    "no-anchors": ProblemKind(
        422,
        "The decoder in service has no anchors",
        "Vectors in the basis `original` compare with original embeddings, and for that the decoder in "
        "service needs anchors: some hundred known originals. Add them with `embup anchors`, or ask for the "
        "basis `decoded`. `GET /v1/models` says which versions have them.",
    ),
    "bad-output": ProblemKind(
        422,
        "The output cannot be written",
        "The output file exists already (`overwrite` replaces it), its folder is missing or may not be "
        "written, space is short, or it is not where batch files may lie. `detail` says which.",
    ),
    "too-many-requests": ProblemKind(
        429,
        "Too many realtime requests at once",
        "`EMBUP_MAX_REALTIME_REQUESTS` are in flight. Wait as long as `Retry-After` says and send it again, "
        "or send several vectors in one request.",
        retry_after_s=1,
    ),
    "head-too-large": ProblemKind(
        431,
        "The request's headers are too large",
        "The headers are more, or longer altogether, than the service reads. The connection is closed. Send "
        "fewer.",
    ),
    "internal": ProblemKind(
        500,
        "The service failed",
        "A fault of the service itself; its log has what happened, under the problem's `request_id`. Try "
        "again; if it stays, report what the log says.",
    ),
    "sql-statement": ProblemKind(
        422,
        "The statement cannot be answered",
        "It is not one SELECT, or the history has no such table or column; `detail` has DuckDB's words.",
    ),
    "sql-deadline": ProblemKind(
        422,
        "The statement takes too long",
        "It ran to the deadline (`EMBUP_SQL_DEADLINE_S`) and was ended. Ask for fewer rows, or copy "
        "`history.duckdb` and ask that.",
    ),
    "sql-memory": ProblemKind(
        422,
        "The statement needs too much memory",
        "It wanted more than a statement gets. Ask for fewer rows or columns at a time.",
    ),
    "sql-died": ProblemKind(
        422,
        "The statement ended its process",
        "Most likely for want of memory. The service is unharmed. Ask for fewer rows or columns at a time.",
    ),
    "sql-busy": ProblemKind(
        429,
        "Another statement runs",
        "One runs at a time. Ask again after `Retry-After` seconds.",
        retry_after_s=1,
    ),
    "sql-snapshot": ProblemKind(
        503,
        "There is no history to ask",
        "The snapshot is not published yet, or cannot be read; the log says why.",
        retry_after_s=10,
    ),
    "no-decoder": ProblemKind(
        503,
        "No decoder is published yet",
        "The service runs, but has nothing to answer with. Train a decoder (`embup train`): it is taken up "
        "within `EMBUP_MODEL_POLL_S` seconds, at once on `POST /v1/models/reload`, and without a restart.",
        retry_after_s=10,
    ),
    "invalid-decoder": ProblemKind(
        503,
        "The published decoder cannot be used",
        "The latest decoder is damaged, foreign, or does not reproduce its golden answers. One that was in "
        "service stays. Publish again, or go back with `embup models rollback`; the service notices either.",
        retry_after_s=10,
    ),
    "job-database": ProblemKind(
        503,
        "The job database cannot be used",
        "Most of the time the disk of the service's data folder is full. Free space, then send the request "
        "again.",
        retry_after_s=10,
    ),
    "broken-data-set": ProblemKind(
        503,
        "The data set cannot be opened",
        "One of its files is damaged, or another version of embup wrote it; the log says which. An analysis "
        "can be made again with `embup debug run NAME`.",
        retry_after_s=10,
    ),
    "stopping": ProblemKind(
        503,
        "The service is stopping",
        "The service is stopping: it is no longer ready, or the request was not whole in the time it "
        "had left. Send it to another instance, or again once the service is back.",
        retry_after_s=10,
    ),
    "too-many-connections": ProblemKind(
        503,
        "Too many connections at once",
        "`EMBUP_MAX_CONNECTIONS` are open. Wait as long as `Retry-After` says; clients should keep few "
        "connections and use them again.",
        retry_after_s=10,
    ),
    "refused": ProblemKind(
        400,
        "The request is refused",
        "What has no kind of its own; `status` and `detail` say what it is.",
    ),
}


def kinds_table() -> str:
    """Every kind as one row of a Markdown table."""
    rows = [
        f"| `{kind}` | {found.status} | {found.title} | {found.meaning} |" for kind, found in KINDS.items()
    ]
    return "\n".join(["| kind | status | title | meaning, and what to do |", "|---|---|---|---|", *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(kinds_table())
