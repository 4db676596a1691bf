"""Styles, scripts and icons of the pages: files of the package, read once."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from litestar import Response, get
from litestar.datastructures import CacheControlHeader
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from serving.access.control import OPEN

ASSETS_PATH: Final = "/console/assets"
MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def _contents() -> dict[str, tuple[bytes, str]]:
    """Every file of `static`, and its media type, by name."""
    found = {}
    for file in files("serving.pages").joinpath("static").iterdir():
        ending = file.name[file.name.rfind(".") :]
        if ending in MEDIA_TYPES:
            found[file.name] = file.read_bytes(), MEDIA_TYPES[ending]
    return found


@cache
def asset_path(name: str) -> str:
    """Give the address of a file; another content has another address, so that browsers may keep it."""
    return f"{ASSETS_PATH}/{name}?{hashlib.sha256(_contents()[name][0]).hexdigest()[:12]}"


@get(
    f"{ASSETS_PATH}/{{name:str}}",
    include_in_schema=False,
    opt={"access": OPEN},
    sync_to_thread=False,
    cache_control=CacheControlHeader(max_age=31_536_000, public=True, immutable=True),
)
def page_asset(name: FromPath[str]) -> Response[bytes]:
    """Serve one of the files."""
    if name not in _contents():
        raise NotFoundException
    content, media_type = _contents()[name]
    return Response(content, media_type=media_type)
