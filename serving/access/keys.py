"""Who gets in: API keys, what each of them allows, and which request needs which.

A key is `embup_` and 32 random bytes; only its SHA-256 is stored, so that a leaked file of keys
opens nothing. (A slow hash would add nothing: 256 random bits cannot be guessed.) Keys come from one
file or from one variable, a line each: name, scopes, hash. A file is read again when it changes, so that a
key is taken away without a restart; one that cannot be read, or has a line that is wrong, leaves the keys as
they were and says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import secrets
import stat
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, get_args

import structlog

from embup_core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from serving.settings import ServingSettings

log = structlog.get_logger("embup.serving.access")

AccessScope = Literal["realtime", "batch", "read", "debug", "admin"]
SCOPES: tuple[AccessScope, ...] = get_args(AccessScope)
ADMIN: AccessScope = "admin"

KEY_PREFIX = "embup_"
KEY_BYTES = 32
LOOK_AGAIN_S = 1.0  # how often the file of keys is looked at

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAKE_ONE = "Make one with `embup keys new NAME --scopes realtime,read`, and store the line that it prints."


class ApiKey(NamedTuple):
    """One key, as it is stored.

    Attributes
    ----------
    name
        Whose it is; log lines have it.
    scopes
        What it allows.
    digest
        SHA-256 of the key, 32 bytes.
    """

    name: str
    scopes: frozenset[str]
    digest: bytes

    def allows(self, scope: str) -> bool:
        """Whether the key is enough for a handler; `admin` is enough for all."""
        return scope in self.scopes or ADMIN in self.scopes

    def line(self) -> str:
        """Give the line to store."""
        scopes = ",".join(scope for scope in SCOPES if scope in self.scopes)
        return f"{self.name} {scopes} {self.digest.hex()}"


def new_key(name: str, scopes: Iterable[str]) -> tuple[str, ApiKey]:
    """Make a key; return it, which cannot be done again, and what to store of it.

    Raises
    ------
    InputError
        The name or a scope is none.
    """
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)
    digest = hashlib.sha256(key.encode()).digest()
    return key, _api_key(name, ",".join(scopes), digest.hex())


def parse_keys(text: str, origin: str, *, separator: str = "\n") -> tuple[ApiKey, ...]:
    """Read keys, one a line; empty lines and those that begin with `#` are skipped.

    Parameters
    ----------
    text
        The lines.
    origin
        Where they come from, for messages.
    separator
        What stands between lines, besides the end of a line.

    Raises
    ------
    InputError
        A line is none of a key, or a name or a key stands there twice. The message has its number, and
        nothing of what it holds.
    """
    keys: list[ApiKey] = []
    for number, line in enumerate(text.replace(separator, "\n").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            keys.append(_parsed(line, keys))
        except InputError as error:
            raise InputError(f"{origin}, line {number}: {error.message}", remedy=error.remedy) from None
    return tuple(keys)


def _parsed(line: str, earlier: list[ApiKey]) -> ApiKey:
    parts = line.split()
    if len(parts) != 3:
        # Never the line itself: it may be a key.
        raise InputError(
            f"expected a name, scopes and a SHA-256, found {len(parts)} words instead of 3.", remedy=_MAKE_ONE
        )
    if parts[2].startswith(KEY_PREFIX):
        raise InputError(
            "expected the SHA-256 of a key, found a key itself.",
            remedy="The key is known to every reader of the file. " + _MAKE_ONE,
        )
    key = _api_key(*parts)
    if any(other.name == key.name for other in earlier):
        raise InputError(f"expected a name of its own, found {key.name} again.", remedy="Name it otherwise.")
    if any(other.digest == key.digest for other in earlier):
        raise InputError("expected a key of its own, found one that stands above.", remedy=_MAKE_ONE)
    return key


def _api_key(name: str, scopes: str, digest: str) -> ApiKey:
    if not _NAME.fullmatch(name):
        raise InputError(
            "expected a name of 1 to 64 letters, digits, dots, underscores and dashes, found another.",
            remedy="Name the user of the key, such as `ci` or `search-team`.",
        )
    wanted = [scope for scope in scopes.split(",") if scope]
    if not wanted or not set(wanted) <= set(SCOPES):
        raise InputError(
            f"expected scopes among {', '.join(SCOPES)}, separated by commas, found others.",
            remedy="`admin` includes all the others.",
        )
    if not _DIGEST.fullmatch(digest.lower()):
        raise InputError(
            "expected a SHA-256 of 64 hexadecimal digits, found something else.", remedy=_MAKE_ONE
        )
    return ApiKey(name, frozenset(wanted), bytes.fromhex(digest))


class ApiKeys:
    """The keys in force.

    Parameters
    ----------
    keys
        Known keys; without any, every request is refused.
    file
        Where they came from; None if from the environment.
    seen
        How the file was before it was read.
    """

    def __init__(
        self, keys: tuple[ApiKey, ...], file: Path | None = None, seen: tuple[int, ...] | None = None
    ) -> None:
        self.keys = keys
        self._file = file
        self._seen = seen

    @classmethod
    def of(cls, settings: ServingSettings) -> Self | None:
        """Read the keys that the settings name; None when they name none, and everybody may do everything.

        Raises
        ------
        InputError
            The file cannot be read, others may write it, a line is wrong, or there is no key; or both a file
            and a variable are set.
        """
        if settings.api_keys_file is not None and settings.api_keys:
            raise InputError(
                "Expected keys from EMBUP_API_KEYS_FILE or from EMBUP_API_KEYS, found both set.",
                remedy="Leave one of them out.",
            )
        seen = None
        if settings.api_keys_file is not None:
            seen = _state(settings.api_keys_file)  # first: what changes while it is read is read again
            keys, origin = _read(settings.api_keys_file), str(settings.api_keys_file)
        elif settings.api_keys:
            keys, origin = parse_keys(settings.api_keys, "EMBUP_API_KEYS", separator=";"), "EMBUP_API_KEYS"
        else:
            return None
        if not keys:
            raise InputError(f"{origin}: expected at least one API key, found none.", remedy=_MAKE_ONE)
        return cls(keys, settings.api_keys_file, seen)

    def find(self, presented: bytes) -> ApiKey | None:
        """Find a key that a client sent; every stored one is compared, in constant time."""
        digest = hashlib.sha256(presented).digest()
        found = None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Look at the file again and again while the block runs."""
        if self._file is None:
            yield
            return
        looking = asyncio.create_task(self._look(self._file), name="api keys")
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _look(self, file: Path) -> None:
        said = ""
        while True:
            await asyncio.sleep(LOOK_AGAIN_S)
            state = await asyncio.to_thread(_state, file)
            if state == self._seen:
                continue
            self._seen = state
            try:
                self.keys = await asyncio.to_thread(_read, file)
            except InputError as error:
                if isinstance(error.__cause__, OSError):
                    self._seen = None  # may pass without a change of the file, such as a want of descriptors
                if str(error) != said:
                    log.error("the API keys stay as they were", error=str(error))  # noqa: TRY400 - no traceback
                said = str(error)
            else:
                said = ""
                log.info("the API keys were read again", names=[key.name for key in self.keys])


def _state(file: Path) -> tuple[int, ...] | None:
    """Give what changes with a file's content; None where there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode


def _read(file: Path) -> tuple[ApiKey, ...]:
    try:
        with file.open(encoding="utf-8") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise InputError(
                    f"{file}: expected a file that its owner alone may write, found mode "
                    f"{stat.S_IMODE(mode):04o}: others could add keys.",
                    remedy=f"chmod go-w {file}",
                )
            text = opened.read()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"{file}: expected a file of API keys, found one that cannot be read ({reason}).",
            remedy="Correct EMBUP_API_KEYS_FILE. " + _MAKE_ONE,
        ) from error
    return parse_keys(text, str(file))


def require_keys_beyond_loopback(address: str, keys: ApiKeys | None) -> None:
    """Refuse to listen where other machines can reach the service without API keys.

    Parameters
    ----------
    address
        The IP address that is to be listened on.
    keys
        Those in force.

    Raises
    ------
    InputError
        It is no loopback address, and there are no keys.
    """
    if keys is None and not ip_address(address.partition("%")[0]).is_loopback:
        raise InputError(
            f"Expected API keys before listening on {address}, which other machines can reach, found none.",
            remedy="Set EMBUP_API_KEYS_FILE or EMBUP_API_KEYS (`embup keys new NAME --scopes admin` makes a "
            "key), or listen on 127.0.0.1.",
        )
