"""Which extra of the distribution installs each package that embup imports where it is used.

Decoding needs none of them: ``pip install embup`` is enough.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from embup_core.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EXTRA_OF: Final[Mapping[str, str]] = {
    "apprise": "notify",
    "botocore": "s3",
    "dagster": "dagster",
    "docstring_parser": "dagster",
    "duckdb": "serve",
    "httptools": "serve",
    "httpx": "client",
    "jinja2": "serve",
    "lancedb": "lancedb",
    "litestar": "serve",
    "matplotlib": "train",
    "milvus_lite": "milvus",
    "obstore": "s3",
    "offapi": "serve",
    "opentelemetry": "otel",
    "openTSNE": "debug",
    "pgvector": "pgvector",
    "prometheus_client": "serve",
    "psycopg": "pgvector",
    "pyarrow": "parquet",
    "pydantic_settings": "serve",
    "pymilvus": "milvus",
    "pytz": "serve",
    "qdrant_client": "qdrant",
    "ray": "ray",
    "scipy": "train",
    "sklearn": "train",
    "stamina": "client",
    "structlog": "serve",
    "torch": "train",
    "uvicorn": "serve",
    "uvloop": "serve",
}
"""The smallest extra with the package, by the name it is imported under."""


@contextmanager
def extra_required(extra: str | None = None) -> Iterator[None]:
    """Import optional packages in this block, or in the function that this decorates.

    Parameters
    ----------
    extra
        What to install for all that the block does; by default the extra of the package that is missing.

    Raises
    ------
    MissingExtraError
        A package of an extra is not installed; the remedy names the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        raise MissingExtraError(
            f"This needs the package {package}, which is not installed.",
            remedy=f"Install it with: pip install 'embup[{extra or EXTRA_OF[package]}]'",
        ) from error
