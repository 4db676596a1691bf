"""Try one row: the decoded vector, how much of it is known, and what it took."""

from __future__ import annotations

import asyncio
import io
import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from litestar import Controller, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Redirect

from embup_core.errors import ArtifactError, EmbupError, InputError
from embup_core.text import format_json_row
from serving.access.sessions import Viewer
from serving.pages.charts import envelope
from serving.pages.layout import page
from serving.problems.problem import ProblemError
from serving.realtime.answering import answer
from serving.realtime.stages import RealtimeStages
from serving.services import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from embup_core.upsampler import Basis, Upsampler

PATH: Final = "/console/try"
LONGEST_ROW: Final = 7000  # an address has room for some more
FIRST_NUMBERS: Final = 8
NEAREST: Final = 5
BINS: Final = 240
CURVE: Final = (960.0, 120.0)
_SEPARATORS: Final = re.compile(r"[\s,;\[\]]+")

Row = Annotated[str, QueryParameter(max_length=LONGEST_ROW)]
Which = Annotated[Literal["decoded", "original"], QueryParameter()]


class TryPages(Controller):
    """The page, and its downloads."""

    path = PATH
    include_in_schema = False
    opt = {"access": "realtime", "page": True}  # noqa: RUF012 - Litestar's own attribute

    @get()
    async def show(
        self,
        services: NamedDependency[Services],
        viewer: NamedDependency[Viewer],
        row: Row = "",
        basis: Which = "decoded",
        take: Annotated[Literal["", "golden", "random"], QueryParameter()] = "",
    ) -> Response[Any]:
        """Decode the row of the address, or draw one."""
        model = services.model
        if take and model.version is not None:
            drawn = await asyncio.get_running_loop().run_in_executor(
                services.file_executor, _drawn, services, take
            )
            return Redirect(f"{PATH}?row={','.join(f'{value:.6f}' for value in drawn)}", status_code=303)
        tried, near, problem, remedy = None, None, "", ""
        if row.strip():
            try:
                tried = await _tried(services, row, basis)
                near = await asyncio.get_running_loop().run_in_executor(
                    services.file_executor, _near, services, tried
                )
            except EmbupError as error:
                shown = services.public if isinstance(error, ArtifactError) else str
                problem, remedy = shown(error.message), shown(error.remedy)
        return page(
            "console/try.html",
            viewer,
            here=PATH,
            title="Try a row",
            status_code=422 if problem else 200,
            row=row,
            basis=basis,
            tried=tried,
            near=near,
            problem=problem,
            remedy=remedy,
            dims=model.dims,
        )

    @get("/vector/{ending:str}")
    async def download(
        self,
        ending: FromPath[str],
        services: NamedDependency[Services],
        row: Row = "",
        basis: Which = "decoded",
    ) -> Response[bytes]:
        """Decode the row of the address, and answer the vector as a file."""
        tried = await _tried(services, row, basis)
        if ending not in _FILES:
            raise InputError(
                f"Expected an ending of {', '.join(_FILES)}, found {ending!r}.",
                remedy="Use a link of the page.",
            )
        write, media_type = _FILES[ending]
        return Response(
            write(tried.vector),
            media_type=media_type,
            headers={"Content-Disposition": f'attachment; filename="vector.{ending}"'},
        )


def _npy(vector: NDArray[np.float32]) -> bytes:
    content = io.BytesIO()
    np.save(content, vector)
    return content.getvalue()


def _text(vector: NDArray[np.float32]) -> bytes:
    return bytes(format_json_row(vector))[1:-1] + b"\n"


_FILES: Final[Mapping[str, tuple[Callable[[NDArray[np.float32]], bytes], str]]] = {
    "json": (format_json_row, "application/json"),
    "npy": (_npy, "application/octet-stream"),
    "txt": (_text, "text/plain"),
}


class Tried(NamedTuple):
    """What came of a row.

    Attributes
    ----------
    vector
        float32, shape (output dimensions,).
    row
        What it was made of.
    numbers
        The first ones.
    curve
        All of them, for a plot.
    confidence, low, training
        How much of the vector is known, below what that is little, and how much it is on average for rows
        that training held back; None where the decoder does not know.
    length
        Of the row as it came: only its direction counts.
    decode_s
        Seconds in the decoder.
    paused
        Whether a batch was frozen meanwhile.
    version
        The decoder.
    """

    vector: NDArray[np.float32]
    row: tuple[float, ...]
    numbers: tuple[float, ...]
    curve: str
    confidence: float | None
    low: float | None
    training: float | None
    length: float
    decode_s: float
    paused: bool
    version: str


async def _tried(services: Services, text: str, basis: Basis) -> Tried:
    """Decode a row as a realtime request would, but do not count it as one: it is nobody's data.

    Raises
    ------
    InputError
        It is no row of the decoder in service.
    ArtifactError
        No decoder is in service.
    ProblemError
        429: as many realtime requests as may be are in flight. 408: it took too long.
    """
    upsampler, settings = services.model.current(), services.settings
    row = _parsed(text, upsampler.input_dims)
    if services.gate.statistics().realtime_holding >= settings.max_realtime_requests:
        raise ProblemError(
            "too-many-requests",
            f"Expected at most {settings.max_realtime_requests} realtime requests at once, found one more.",
            remedy="Try the row again a little later.",
        )
    stages = RealtimeStages()
    async with services.gate.realtime():
        paused = services.gate.statistics().batch_frozen
        try:
            async with asyncio.timeout(settings.realtime_deadline_s):
                content, _ = await asyncio.get_running_loop().run_in_executor(
                    services.realtime_executor,
                    lambda: answer(upsampler, [row], stages, single=True, raw=True, basis=basis),
                )
        except TimeoutError as error:
            raise ProblemError(
                "too-slow",
                f"The row was not decoded within {settings.realtime_deadline_s:g} s.",
                remedy="Try it again a little later.",
            ) from error
    vector: NDArray[np.float32] = np.frombuffer(content, np.dtype("<f4"))
    return _described(upsampler, row, vector, stages, paused=paused)


def _described(
    upsampler: Upsampler,
    row: list[float],
    vector: NDArray[np.float32],
    stages: RealtimeStages,
    *,
    paused: bool,
) -> Tried:
    confidence = float("nan") if stages.confidence is None else float(stages.confidence[0])
    training = upsampler.reference_statistics
    return Tried(
        vector=vector,
        row=tuple(row),
        numbers=tuple(vector[:FIRST_NUMBERS].tolist()),
        curve=envelope(vector.tolist(), bins=BINS, width=CURVE[0], height=CURVE[1]),
        confidence=None if np.isnan(confidence) else confidence,
        low=upsampler.low_confidence,
        training=None if training is None else training.confidence_mean,
        length=float(np.linalg.norm(row)),
        decode_s=stages.decoded - stages.decoding,
        paused=paused,
        version=upsampler.version,
    )


def _near(services: Services, tried: Tried) -> list[tuple[int | None, float, float]] | None:
    """Number, distance and cosine of the nearest training rows; for a thread.

    Returns
    -------
    None where the decoder does not hold them, or another one is in service by now.
    """
    upsampler = services.model.current()
    found = None
    if upsampler.version == tried.version:
        found = upsampler.nearest_training_rows(tried.row, count=NEAREST)
    if found is None:
        return None
    numbers = [None] * len(found.distances) if found.numbers is None else found.numbers.tolist()
    return list(zip(numbers, found.distances.tolist(), found.cosines.tolist(), strict=True))


def _parsed(text: str, dims: int) -> list[float]:
    """Read numbers as people paste them: separated by commas or spaces, with brackets or without."""
    words = [word for word in _SEPARATORS.split(text) if word]
    numbers = []
    for place, word in enumerate(words, 1):
        try:
            numbers.append(float(word))
        except ValueError as error:
            raise InputError(
                f"Expected numbers, found {word[:40]!r} in place {place}.",
                remedy="Paste one row: numbers separated by commas or spaces.",
            ) from error
    if len(numbers) != dims:
        raise InputError(
            f"Expected {dims} numbers, found {len(numbers)}.",
            remedy=f"Paste one row of {dims} numbers; files go through a batch.",
        )
    return numbers


def _drawn(services: Services, how: str) -> NDArray[np.float64]:
    """Draw a row: a golden input, which is like the training rows, or a direction at random; for a thread."""
    rng = np.random.default_rng()
    dims = services.model.current().input_dims
    if how == "golden" and services.model.version is not None:
        golden = services.model.registry.info(services.model.version).manifest["golden"]
        inputs = np.array(golden["inputs"], np.float64)
        row: NDArray[np.float64] = inputs[rng.integers(len(inputs))]
        return row
    row = rng.standard_normal(dims)
    return row / np.linalg.norm(row)
