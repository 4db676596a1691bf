"""Many files in, as many files out, and a manifest that makes them one result.

`plan` says what a run is, `place` where its files lie, `work` decodes one part in a worker, `run` is the
driver: it resumes, takes finished parts, and publishes the manifest last. An engine has the workers: this
process and its forks, or Ray (`embup_core.batch.ray_engine`).
"""

from __future__ import annotations

import os
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version as installed_version
from typing import TYPE_CHECKING, Literal

from embup_core.artifacts.remote import open_registry
from embup_core.batch.parts.forks import forked
from embup_core.batch.parts.place import another_run, is_folder, open_place
from embup_core.batch.parts.plan import (
    MANIFEST,
    Manifest,
    OutputFormat,
    PartRecord,
    Plan,
    find_parts,
    require_apart,
)
from embup_core.batch.parts.run import PartsRun, clear, found_in, new_id, plan_of, require_whole
from embup_core.batch.parts.work import PartWork, loaded
from embup_core.batch.spec import require_limit
from embup_core.errors import EmbupError, InvalidArgumentError, OutputError
from embup_core.object_store.address import is_address

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from embup_core.batch.parts.work import Attempt
    from embup_core.batch.spec import BadRowPolicy
    from embup_core.progress import Progress
    from embup_core.upsampler import Basis

__all__ = [
    "MANIFEST",
    "Engine",
    "Manifest",
    "OutputFormat",
    "PartRecord",
    "PartsSummary",
    "is_folder",
    "upsample_parts",
]

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class PartsSummary:
    """What `upsample_parts` did.

    Attributes
    ----------
    manifest
        The whole result.
    decoded_rows, decoded_parts
        Those that this call decoded; an earlier one may have decoded others.
    elapsed_s
        Seconds that it took, without the engine's start.
    notices
        What a user should know of how the input was understood.
    """

    manifest: Manifest
    decoded_rows: int
    decoded_parts: int
    elapsed_s: float
    notices: tuple[str, ...] = ()

    @property
    def rows_per_s(self) -> float:
        """Rows that this call decoded a second."""
        return self.decoded_rows / self.elapsed_s if self.elapsed_s else 0.0


def upsample_parts(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    registry: str | os.PathLike[str],
    version: str | None = None,
    output_format: OutputFormat = "parquet",
    on_bad_row: BadRowPolicy = "fail",
    max_bad_rows: float | None = None,
    overwrite: bool = False,
    basis: Basis = "decoded",
    engine: Engine = "local",
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> PartsSummary:
    """Decode all files of a folder, each into one of another folder, and write a manifest last.

    A second call with the same arguments decodes what the first one has not finished, if anything, by the
    version that the first one resolved.

    Parameters
    ----------
    source
        Folder, or address such as ``s3://bucket/prefix``, of files that the batch engine reads. The order of
        their names is that of the rows.
    target
        Folder or address for the outputs. Empty, or of an earlier call.
    registry, version
        As for `embup.load`.
    output_format
        Ending of the outputs.
    on_bad_row, max_bad_rows, basis
        As for `Upsampler.upsample_file`; a limit is that of each part.
    overwrite
        Whether to remove the result, or its beginning, of an earlier call, and start anew.
    engine
        ``"local"``: processes of this machine. ``"ray"``: a cluster, or processes of this machine; needs the
        extra `ray`.
    workers
        Parts that are decoded at a time. By default Ray has one a core, and the local engine one, which is
        this process. More are forked, so a program with threads of its own should keep to one; with an
        object store they are started anew, and a script that calls this needs its ``__main__`` guard.
    address
        Of a Ray cluster; None starts Ray on this machine. A program that is connected already stays so.
    progress
        Called with rows done as text, parts done, and parts in all.

    Raises
    ------
    InputError
        The input holds other files than parts, one has changed or cannot be decoded.
    OutputError
        The output holds something else, or cannot be written.
    JobConflictError
        Another run writes to the output, or has begun there meanwhile.
    ArtifactError
        The version cannot be loaded.
    MissingExtraError
        Ray, or what an object store needs, is not installed.
    """
    if workers is not None and workers < 1:
        raise InvalidArgumentError(
            f"workers: expected 1 or more, found {workers}.", remedy="Leave it out for one a core."
        )
    came, goes, registry = open_place(str(source)), open_place(str(target)), _travelling(registry)
    if f"{goes.name}/".startswith(f"{came.name}/"):
        raise OutputError(
            f"{goes.name} lies in the input {came.name}.", remedy="Choose an output beside the input."
        )
    parts = find_parts(list(came.stamps()), came.name)
    require_apart(parts, output_format)
    require_limit(on_bad_row, max_bad_rows)
    earlier = found_in(goes)
    resumed = None if earlier is None or overwrite else plan_of(earlier)
    if version is None:
        version = open_registry(registry).current_version() if resumed is None else resumed.model_version
    upsampler, content_hash = loaded(registry, version)
    upsampler.require_basis(basis)
    plan = Plan(
        run_id=new_id(),
        embup_version=installed_version("embup"),
        input=came.name,
        parts=parts,
        output_format=output_format,
        model_version=version,
        content_hash=content_hash,
        basis=basis,
        basis_id=upsampler.basis_id,
        output_dims=upsampler.output_dims,
        on_bad_row=on_bad_row,
        max_bad_rows=max_bad_rows,
    )
    if resumed is not None:
        plan.require_same(resumed, place=goes.name, done=isinstance(earlier, Manifest))
    if isinstance(earlier, Manifest) and not overwrite:
        require_whole(earlier, came, goes)
        return PartsSummary(earlier, 0, 0, 0.0)
    # A fork cannot use the store's client, whose threads are in this process.
    anew = any(map(is_address, (came.name, goes.name, registry)))
    # What can be refused has been, and the workers are there, before the output is touched.
    with _engine(engine, workers=workers, anew=anew, address=address) as decode, goes.held():
        if found_in(goes) != earlier:
            raise another_run(goes.name)
        if earlier is not None and resumed is None:
            clear(goes, plan_of(earlier))
        run = PartsRun(plan, came, goes, resumed)
        work = PartWork(plan, run.plan_stamp, goes.name, registry)
        return _complete(run, partial(decode, work), progress)


def _complete(
    run: PartsRun,
    decode: Callable[[Sequence[str]], Generator[Attempt | EmbupError]],
    progress: Progress | None,
) -> PartsSummary:
    """Have the parts decoded that are to do, take them as they come, and publish."""
    pending, earlier = run.pending, len(run.records)
    rows, notices, started_s = 0, dict[str, None](), time.monotonic()
    with closing(decode(pending)) as attempts:
        for done, attempt in enumerate(attempts, start=earlier + 1):
            if isinstance(attempt, EmbupError):
                raise attempt
            rows += run.take(attempt).rows
            notices |= dict.fromkeys(attempt.notices)
            if progress is not None:
                progress(f"{rows:,} rows", done, earlier + len(pending))
    return PartsSummary(run.finish(), rows, len(pending), time.monotonic() - started_s, tuple(notices))


def _travelling(registry: str | os.PathLike[str]) -> str:
    """A registry's name that means the same in any working folder."""
    return str(registry) if is_address(str(registry)) else os.path.abspath(registry)


@contextmanager
def _engine(
    engine: Engine, *, workers: int | None, anew: bool, address: str | None
) -> Iterator[Callable[[PartWork, Sequence[str]], Generator[Attempt | EmbupError]]]:
    """What decodes parts, started before the clock is."""
    if engine == "local":
        yield partial(forked, workers=workers or 1, anew=anew)
        return
    from embup_core.batch.ray_engine import cluster, spread

    with cluster(address, workers):
        yield partial(spread, workers=workers)
