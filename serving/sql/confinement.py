"""What a process gives up before it runs a stranger's statement. Linux only; nothing can be taken back.

One fence would do as long as DuckDB has no fault. These are for the day it has one: each holds by itself,
and all of them also hold for machine code that was smuggled in.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from typing import Final

# The same numbers on every architecture.
_LANDLOCK_CREATE_RULESET: Final = 444
_LANDLOCK_RESTRICT_SELF: Final = 446
_PR_SET_NO_NEW_PRIVS: Final = 38
# What each version of the kernel's interface added: rights on files, on the network, and beyond the process.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 5: 16}
_NET_RIGHTS: Final = {4: 2}
_SCOPES: Final = {6: 2}


def limit_resources(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound the address space and the processor time, and let no file grow.

    Parameters
    ----------
    memory_bytes
        Most bytes of address space; an allocation beyond it fails.
    cpu_s
        Seconds of processor time, after which the kernel ends the process.
    """
    for kind, limit in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (limit, limit))


def open_nothing_more() -> None:
    """Refuse every further descriptor: no file, no socket, no pipe. What is open stays open."""
    _give_up_paths()
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _give_up_paths() -> None:
    """Have the kernel refuse reading, writing, removing and executing anything by its path (Landlock).

    A kernel without Landlock, or a container that hides it, leaves this fence out.
    """
    kernel = ctypes.CDLL(None, use_errno=True)
    version = kernel.syscall(_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    rights = [_newest(_FILE_RIGHTS, version), _newest(_NET_RIGHTS, version), _newest(_SCOPES, version)]
    known = 1 + (version >= 4) + (version >= 6)  # fields of the structure that this kernel has
    ruleset = struct.pack(f"={known}Q", *((1 << bits) - 1 for bits in rights[:known]))
    descriptor = kernel.syscall(_LANDLOCK_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "no Landlock ruleset")
    if kernel.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or kernel.syscall(
        _LANDLOCK_RESTRICT_SELF, descriptor, 0
    ):
        raise OSError(ctypes.get_errno(), "Landlock cannot be entered")
    os.close(descriptor)


def _newest(added: dict[int, int], version: int) -> int:
    """How many rights a version knows."""
    return max((bits for since, bits in added.items() if since <= version), default=0)
