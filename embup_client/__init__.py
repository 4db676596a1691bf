"""Client of an embup service: the same methods twice, `Client` to call and `AsyncClient` to await.

    from embup_client import Client

    with Client("http://127.0.0.1:8000") as service:
        answer = service.upsample(embedding)
        batch_request_id = service.submit_batch("new.txt", "long.txt")
        print(service.wait(batch_request_id).phase)

It knows the service by HTTP alone, and nothing else of embup. Whatever is raised on purpose is of one tree:

    EmbupServiceError
    ├─ InvalidArgumentError      never sent: no address, no key, an empty id; a ValueError too
    ├─ ConnectionFailedError     no whole answer: nothing listens, it broke off, it took too long
    ├─ UnexpectedAnswerError     an answer that is not one of an embup service
    ├─ BadRequestError           400, and every other 4xx that has no class of its own
    │   └─ UnprocessableError      422: a row, a file or a path cannot be used
    ├─ UnauthorizedError         401: no key, or one that is not known
    ├─ ForbiddenError            403: the key is not allowed to do this
    ├─ NotFoundError             404
    ├─ ConflictError             409: it contradicts another request, or the state of a batch
    ├─ TooManyRequestsError      429
    └─ ServiceFailedError        5xx
        └─ UnavailableError        502, 503, 504: not now; perhaps in a moment
"""

from embup_client.answers import (
    Alive,
    BatchError,
    BatchStatus,
    ModelEntry,
    ModelList,
    Ready,
    Reloaded,
    ReloadFailure,
    Upsampled,
    UpsampledArray,
    UpsampledMany,
)
from embup_client.async_client import AsyncClient
from embup_client.errors import (
    BadRequestError,
    ConflictError,
    ConnectionFailedError,
    EmbupServiceError,
    ForbiddenError,
    InvalidArgumentError,
    NotFoundError,
    ServiceFailedError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
    UnprocessableError,
)
from embup_client.sync_client import Client

__all__ = [
    "Alive",
    "AsyncClient",
    "BadRequestError",
    "BatchError",
    "BatchStatus",
    "Client",
    "ConflictError",
    "ConnectionFailedError",
    "EmbupServiceError",
    "ForbiddenError",
    "InvalidArgumentError",
    "ModelEntry",
    "ModelList",
    "NotFoundError",
    "Ready",
    "ReloadFailure",
    "Reloaded",
    "ServiceFailedError",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "UnexpectedAnswerError",
    "UnprocessableError",
    "Upsampled",
    "UpsampledArray",
    "UpsampledMany",
]
