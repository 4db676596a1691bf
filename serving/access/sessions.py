"""Sessions of browsers: a page asks for an API key once, and a cookie stands for it from then on.

A session lives in this process: a random token in a cookie that no script can read and no other site makes
the browser send. Only the token's SHA-256 is kept. A session ends when its key is taken away, when it is not
used for `IDLE_S`, and with the process.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from litestar.types import Scope

    from serving.access.keys import ApiKey, ApiKeys

COOKIE: Final = "embup_session"
IDLE_S: Final = 12 * 3600.0
MOST_SESSIONS: Final = 1000  # the one unused for longest gives way
VIEWER: Final = "viewer"
"""Where a request's state holds who looks at a page; nothing where the service has no keys."""

_NAME: Final = COOKIE.encode()


class Viewer:
    """Who looks at a page.

    Parameters
    ----------
    key
        The API key; None for everybody where the service has no keys, and for a visitor without a session.
    keyed
        Whether the service has keys.
    form_token
        Comes back with each form, as proof that one of our pages sent it.
    """

    def __init__(self, key: ApiKey | None, *, keyed: bool, form_token: str) -> None:
        self.key = key
        self.keyed = keyed
        self.form_token = form_token

    @property
    def name(self) -> str:
        """Name of the key; empty without one."""
        return "" if self.key is None else self.key.name

    def allows(self, scope: str) -> bool:
        """Whether the viewer may use what needs a scope."""
        return not self.keyed if self.key is None else self.key.allows(scope)


class Sessions:
    """The sessions of this process. For the event loop's thread.

    Parameters
    ----------
    keys
        Those in force; None where the service has none, and nobody needs a session.
    clock
        Seconds, monotonic.
    """

    def __init__(self, keys: ApiKeys | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = keys
        self._clock = clock
        self._sessions: OrderedDict[bytes, tuple[Viewer, float]] = OrderedDict()
        self._visitor = Viewer(None, keyed=keys is not None, form_token=secrets.token_urlsafe(32))

    @property
    def visitor(self) -> Viewer:
        """Whoever has no session."""
        return self._visitor

    def with_key(self, key: ApiKey) -> Viewer:
        """Whoever sent a key with the request, and needs no session."""
        return Viewer(key, keyed=True, form_token=self._visitor.form_token)

    def start(self, key: ApiKey) -> str:
        """Start a session; give the cookie's value."""
        token = secrets.token_urlsafe(32)
        viewer = Viewer(key, keyed=True, form_token=secrets.token_urlsafe(32))
        self._sessions[_digest(token.encode())] = viewer, self._clock()
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return token

    def find(self, scope: Scope) -> Viewer | None:
        """Give the viewer whose session a request's cookie names; None without one that stands."""
        token = _cookie(scope)
        digest = None if token is None else _digest(token)
        found = None if digest is None else self._sessions.get(digest)
        if digest is None or found is None:
            return None
        viewer, used_at = found
        if not self._key_stands(viewer) or self._clock() - used_at > IDLE_S:
            del self._sessions[digest]
            return None
        self._sessions[digest] = viewer, self._clock()
        self._sessions.move_to_end(digest)
        return viewer

    def end(self, scope: Scope) -> None:
        """End the session that a request's cookie names, if it stands."""
        token = _cookie(scope)
        if token is not None:
            self._sessions.pop(_digest(token), None)

    def stands(self, viewer: Viewer) -> bool:
        """Whether a session has not ended; streams ask now and then."""
        return self._key_stands(viewer) and any(found is viewer for found, _ in self._sessions.values())

    def _key_stands(self, viewer: Viewer) -> bool:
        return self._keys is not None and viewer.key in self._keys.keys


def viewer_of(scope: Scope, sessions: Sessions) -> Viewer:
    """Give who looks at the page that a request asks for."""
    found: Viewer | None = scope["state"].get(VIEWER)
    return sessions.visitor if found is None else found


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _cookie(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"cookie":
            for part in value.split(b";"):
                cookie, _, token = part.strip().partition(b"=")
                if cookie == _NAME and token:
                    return bytes(token)
    return None
