"""Log lines: structlog over the standard library, JSON or for a console, never a vector in them.

The service and its batch worker write them alike. What is bound in structlog's context variables (the id of
the request or of the batch) stands on every line, the version of the decoder in service on those that name
none.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType


class DecoderInService:
    """Adds the version of the decoder in service to lines that name none.

    Attributes
    ----------
    version
        Gives it, None without one.
    """

    def __init__(self) -> None:
        self.version: Callable[[], str | None] = lambda: None

    def __call__(
        self, _: structlog.typing.WrappedLogger, __: str, line: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Add it."""
        if "model_version" not in line and (version := self.version()) is not None:
            line["model_version"] = version
        return line


decoder_in_service = DecoderInService()


def configure_logging(log_format: str, log_level: str) -> None:
    """Send this process's log lines to stderr, what ends it and what warns it too.

    Parameters
    ----------
    log_format, log_level
        As in the settings.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        decoder_in_service,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[structlog.typing.Processor]
    if log_format == "json":
        # Without local variables, among which are vectors.
        trace = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        renderer = [structlog.processors.ExceptionRenderer(trace), structlog.processors.JSONRenderer()]
    else:
        renderer = [
            _printable,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    level = logging.getLevelNamesMapping()[log_level.upper()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for chatty in ("uvicorn.error", "faiss.loader"):  # the start is logged by the service itself
        logging.getLogger(chatty).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)
    sys.excepthook = _log_the_end


def _printable(
    _: structlog.typing.WrappedLogger, __: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Escape what a terminal would obey: paths and headers of requests are a stranger's words."""
    for name, value in line.items():
        if isinstance(value, str) and not value.isprintable() and name not in {"exception", "stack"}:
            line[name] = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in value)
    return line


def _log_the_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write what ends the process as a line like any other."""
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    structlog.get_logger("embup").critical("the process ends by an error", exc_info=(kind, error, trace))
