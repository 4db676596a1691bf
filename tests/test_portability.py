"""Without Linux's own names, as on macOS, everything is imported and decodes; the service is refused.

A process stands in for macOS: it loads the packages of others first, then takes the names away.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry

OF_LINUX = {
    "os": (
        "CLONE_ EFD_ MFD_ O_DIRECT O_LARGEFILE O_NOATIME O_PATH O_RSYNC O_TMPFILE P_PIDFD PIDFD_ "
        "POSIX_FADV_ RWF_ SCHED_ SPLICE_ copy_file_range eventfd fdatasync getrandom memfd_create pidfd_open "
        "pipe2 posix_fadvise posix_fallocate preadv pwritev sched_ sendfile setns splice unshare waitid"
    ),
    "fcntl": "F_ADD_SEALS F_GET_SEALS F_NOTIFY F_SEAL_ F_SETPIPE_SZ F_GETPIPE_SZ F_OFD_ F_SETLEASE",
    "resource": "prlimit RLIMIT_MSGQUEUE RLIMIT_NICE RLIMIT_OFILE RLIMIT_RTPRIO RLIMIT_RTTIME",
    "socket": "AF_PACKET AF_VSOCK SO_PEERCRED SO_INCOMING_CPU TCP_DEFER_ACCEPT TCP_QUICKACK TCP_USER_TIMEOUT",
    "signal": "SIGRTMAX SIGRTMIN SIGPWR SIGSTKFLT SIGPOLL sigtimedwait sigwaitinfo",
}

ON_MACOS = f"""
import ctypes, importlib, pkgutil, shutil, sys, sysconfig, urllib.request

for name in sys.argv.pop(1).split():
    importlib.import_module(name)
sysconfig.get_config_vars()  # looks for a file of the platform when it is first asked
shutil._USE_CP_SENDFILE = False
for module, names in {OF_LINUX!r}.items():
    module = importlib.import_module(module)
    for name in names.split():
        for found in list(vars(module)):
            if found == name or (name.endswith("_") and found.startswith(name)):
                delattr(module, found)

class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name in ("prctl", "renameat2", "syscall"):
            raise AttributeError(name)
        return super().__getattr__(name)

ctypes.CDLL = Library
sys.platform = "darwin"
"""


OTHERS = (
    "dagster duckdb faiss httptools litestar litestar.plugins.prometheus litestar.testing msgspec numpy "
    "prometheus_client pyarrow.parquet pydantic_settings stamina structlog typer uvicorn uvloop"
)


def on_macos(code: str, *arguments: object, others: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ON_MACOS + code, others, *map(str, arguments)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_every_module_is_imported_without_the_names_of_linux() -> None:
    result = on_macos(
        "import os, embup, embup_client, embup_core, pipelines, serving\n"
        "assert not hasattr(os, 'O_PATH') and not hasattr(os, 'fdatasync')\n"
        "count = 0\n"
        "for package in (embup, embup_core, embup_client, pipelines, serving):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "            count += 1\n"
        "print(count)",
        others=OTHERS,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) > 100


@pytest.mark.parametrize("ending", ["txt", "npy", "parquet"])
def test_files_are_decoded_without_the_names_of_linux(
    ending: str, registry: Registry, tmp_path: Path
) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    rows = np.random.default_rng(0).standard_normal((7, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.savetxt(tmp_path / "in.txt", rows, delimiter=",")
    np.save(tmp_path / "in.npy", rows)
    pyarrow.parquet.write_table(pa.table({"embedding": list(rows)}), tmp_path / "in.parquet")
    result = on_macos(
        "from embup.cli.main import app; app(prog_name='embup')",
        "upsample", tmp_path / f"in.{ending}", tmp_path / f"out.{ending}",
        "--registry", registry.root, others="faiss numpy pyarrow.parquet typer",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    output = tmp_path / f"out.{ending}"
    decoded: NDArray[np.float32]
    if ending == "txt":
        decoded = np.loadtxt(output, delimiter=",", dtype=np.float32)
    elif ending == "npy":
        decoded = np.load(output)
    else:
        decoded = np.array(pyarrow.parquet.read_table(output).column(0).to_pylist())
    assert np.allclose(decoded, registry.load().upsample(rows)[0], atol=1e-5)


def test_the_service_says_that_it_needs_linux(registry: Registry, tmp_path: Path) -> None:
    result = on_macos(
        "from embup.cli.main import app; app(prog_name='embup')",
        "serve", "--registry", registry.root, "--data", tmp_path, "--port", 0,
        others="faiss litestar structlog uvicorn",
    )  # fmt: skip
    assert result.returncode == 2
    assert "needs Linux, found darwin" in result.stderr
    assert "Traceback" not in result.stderr
