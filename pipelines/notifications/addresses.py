"""Where messages go: apprise's URLs, one a line, in a file that only its owner reads.

They hold passwords and tokens, so no error, log line or table shows one: only its line and its scheme.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from embup_core.errors import InputError

CONTAINER_SECRETS = "/run/secrets"

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Address:
    """One line of the file.

    Attributes
    ----------
    url
        Secret.
    line
        From 1.
    """

    url: str = field(repr=False)
    line: int

    @property
    def name(self) -> str:
        """What may be shown of it."""
        return f"line {self.line} ({self.url.partition(':')[0]})"

    @property
    def digest(self) -> str:
        """Tells addresses apart in the record of what was sent."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]


def _forbidden(file: Path) -> int:
    """Bits of a mode that are refused. A secret of a container has one reader, whatever its mode says."""
    is_mounted = file.absolute().is_relative_to(CONTAINER_SECRETS)
    return stat.S_IWGRP | stat.S_IWOTH | (0 if is_mounted else stat.S_IRWXO)


def read_addresses(file: Path) -> list[Address]:
    """The addresses in a file; empty lines and those that begin with # are passed over.

    Raises
    ------
    InputError
        It cannot be read, or others may read or change it.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if mode & _forbidden(file):
                raise InputError(
                    f"{file}: expected a file that only its owner and group may read, found mode "
                    f"{stat.S_IMODE(mode):04o}: addresses hold passwords.",
                    remedy=f"chmod 600 {file}",
                )
            lines = opened.read().splitlines()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"{file}: expected a file of addresses, found one that cannot be read ({reason}).",
            remedy="Correct EMBUP_NOTIFY_FILE; the file has one apprise URL a line.",
        ) from error
    return [
        Address(line.strip(), number)
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
