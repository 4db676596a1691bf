"""What is looked at before a batch is accepted; what a library must unpack first, in a process of its own.

    python -P -m serving.jobs.checking PARENT

A Parquet file of some hundred bytes can stand for gigabytes, of which it need not speak beforehand, and Arrow
takes them whole; the head of a gzip file can take minutes. In the service that would stop all
requests. So the look, which decodes the first rows, is taken in a process whose memory and time are bounded;
it costs some tenths of a second. Text and `.npy` are bounded where they are read.
"""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from embup_core.batch import check_request
from embup_core.errors import InputFileError
from embup_core.files.processes import ONE_MATH_THREAD, be_the_first_to_go, end_with_parent
from embup_core.object_store import is_address
from serving.jobs.confinement import Buckets, Confinement, Root
from serving.jobs.model import JobRequest
from serving.jobs.worker.protocol import Failed

if TYPE_CHECKING:
    from embup_core.upsampler import Upsampler

COMMAND: Final = (sys.executable, "-P", "-m", "serving.jobs.checking")
INHERITED: Final = ("LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH")
# Credentials, endpoints, and the way to them: for a look at objects alone.
OF_STORES: Final = ("AWS_", "GOOGLE_", "AZURE_", "REQUESTS_CA_BUNDLE", "SSL_CERT_")
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
# Arrow's own allocators reserve more address space than the process has, and so do obstore's many threads.
ENVIRONMENT: Final = dict(ONE_MATH_THREAD) | {
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "TOKIO_WORKER_THREADS": "2",
}
MEMORY_BYTES: Final = 1 << 30  # beyond what the libraries take; usual pages have 1 MB
DEADLINE_S: Final = 15.0
_APART: Final = (".parquet", ".npz", ".gz", ".zst")


class Look(msgspec.Struct, frozen=True):
    """What is to be looked at.

    Attributes
    ----------
    request
        The batch, with resolved paths.
    roots, reserved, buckets
        As in `Confinement`; the process inherits the roots' descriptors.
    input_dims, output_dims, replace_parts
        As in `check_request`.
    """

    request: JobRequest
    roots: list[Root]
    reserved: list[str]
    buckets: Buckets
    input_dims: int
    output_dims: int
    replace_parts: bool

    @property
    def of_objects(self) -> bool:
        """Whether one end is an object."""
        return is_address(self.request.input_filepath) or is_address(self.request.output_filepath)

    def taken(self) -> int:
        """Look, here and now; give the input's size in bytes. Raises as `check_request`."""
        buckets = replace(self.buckets, looking=True)
        confinement = Confinement([Path(folder) for folder in self.reserved], self.roots, buckets)
        return check_request(
            self.request.spec(),
            input_dims=self.input_dims,
            output_dims=self.output_dims,
            open_folder=confinement.open_folder,
            replace_parts=self.replace_parts,
        ).size_bytes


class Fit(msgspec.Struct, frozen=True, tag="fit"):
    """Nothing speaks against the batch."""

    size_bytes: int


def check_job(
    request: JobRequest, model: Upsampler, confinement: Confinement, *, replace_parts: bool = False
) -> int:
    """Refuse what can be known at once; give the input's size in bytes.

    Raises
    ------
    InputFileError, BadRowError, OutputError
        As `check_request`; or the first rows of a packed file take too much memory or time.
    NoAnchorsError
        The decoder in service has not the basis that is asked for.
    """
    model.require_basis(request.basis)
    look = Look(
        request,
        list(confinement.roots),
        [str(folder) for folder in confinement.reserved],
        confinement.buckets,
        model.input_dims,
        model.output_dims,
        replace_parts,
    )
    return _taken_apart(look) if Path(request.input_filepath).suffix.lower() in _APART else look.taken()


def _taken_apart(look: Look) -> int:
    try:
        ended = subprocess.run(  # noqa: S603 - our own words
            [*COMMAND, str(os.getpid())],
            input=msgspec.json.encode(look),
            stdout=subprocess.PIPE,
            env=_environment(objects=look.of_objects),
            pass_fds=[root.descriptor for root in look.roots],
            process_group=0,  # a Ctrl-C at a terminal is the service's to hear
            timeout=DEADLINE_S,
            check=False,
        )
        reply = msgspec.json.decode(ended.stdout, type=Fit | Failed)
    except (subprocess.TimeoutExpired, msgspec.MsgspecError) as error:  # it hangs, or died
        raise InputFileError(
            f"{look.request.input_filepath}: the first rows take more memory or time to read than they may"
            f" ({MEMORY_BYTES >> 20} MiB, {DEADLINE_S:g} s).",
            remedy="Write it again; a Parquet file with pages of about 1 MB.",
        ) from error
    if isinstance(reply, Failed):
        raise reply.error()
    return reply.size_bytes


def _environment(*, objects: bool) -> dict[str, str]:
    """Return what the process inherits: it reads what strangers wrote, so no credentials it does not need."""

    def inherited(name: str) -> bool:
        of_stores = name.startswith(OF_STORES) or name.upper() in _PROXIES
        return name in INHERITED or (objects and of_stores)

    return {name: value for name, value in os.environ.items() if inherited(name)} | ENVIRONMENT


def main() -> None:
    """Take the look that standard input asks for, and write what came of it to standard output."""
    import resource

    from embup_core.batch.arrow import load_arrow

    end_with_parent(int(sys.argv[1]))
    be_the_first_to_go()
    look = msgspec.json.decode(sys.stdin.buffer.read(), type=Look)
    load_arrow()
    if look.of_objects:
        with suppress(ImportError):  # the look says what is missing
            for name in ("botocore.session", "obstore.store"):
                import_module(name)
    if sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        limit = pages * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        reply: Fit | Failed = Fit(look.taken())
    except MemoryError:
        os._exit(1)
    except Exception as error:  # noqa: BLE001 - raised again by who asked
        reply = Failed.of(error)
    sys.stdout.buffer.write(msgspec.json.encode(reply))
    sys.stdout.buffer.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
