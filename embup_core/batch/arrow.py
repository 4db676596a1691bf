"""The one place where Arrow is imported: it takes 0.1 s and 40 MB, which only some formats need."""

from __future__ import annotations

import os
from typing import Any

from embup_core.extras import extra_required


def load_arrow() -> Any:
    """Return the module pyarrow, with pyarrow.parquet in it.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    # Its allocator would start a thread as soon as it is loaded, and a process with threads should not fork.
    os.environ.setdefault("JE_ARROW_MALLOC_CONF", "background_thread:false")
    with extra_required():
        import pyarrow as pa
        import pyarrow.parquet  # becomes an attribute of it

    return pa


def first_line(error: BaseException) -> str:
    """Return what an error of Arrow says, without its inner places."""
    return str(error).partition("\n")[0].rstrip(".")
