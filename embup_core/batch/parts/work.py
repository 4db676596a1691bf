"""What a worker does with one part: read it, decode it into a folder of this attempt alone, hand it over.

A worker may die at any moment, and one that a cluster holds for dead may live on beside its successor. So in
a folder an attempt never writes under an output's name; the driver does, which takes one result of each part.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from embup_core.batch.parts.place import RUN, another_run, open_place
from embup_core.batch.parts.plan import PartRecord, Plan, output_name
from embup_core.errors import EmbupError, InputFileError, InvalidArtifactError, OutputError

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.batch.parts.place import Place
    from embup_core.upsampler import Upsampler

PLAN: Final = f"{RUN}/plan.json"
ERRORS: Final = "_errors"


class Attempt(msgspec.Struct, frozen=True):
    """A part that a worker has finished.

    Attributes
    ----------
    record
        What there is to say of it.
    handed_over
        Where the driver finds the output, and the report on refused rows, by the names they are to get.
    notices
        What a user should know of how the input was understood.
    """

    record: PartRecord
    handed_over: dict[str, str]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class PartWork:
    """Decodes parts by name; it travels to workers with each part.

    Attributes
    ----------
    plan
        The run's; its names of parts stay behind.
    plan_stamp
        Of the plan's file; where it is another one by now, another run has begun.
    output
        Folder or prefix of the outputs.
    registry
        Folder or address, which workers see, too.
    """

    plan: Plan
    plan_stamp: str
    output: str
    registry: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", msgspec.structs.replace(self.plan, parts=()))

    def __call__(self, part: str) -> Attempt | EmbupError:
        """Decode a part; an error that a user can mend is returned, since Ray would wrap what is raised."""
        try:
            return self._decode(part)
        except EmbupError as error:
            return error

    def _decode(self, part: str) -> Attempt:
        plan, output = self.plan, open_place(self.output)
        self._require_plan(output)
        source = open_place(plan.input)
        stamp = source.stamp(part)
        if stamp is None:
            raise InputFileError(
                f"{source.name}/{part} does not exist.",
                remedy="All machines must see the folder under the same path (NFS), or use an object store.",
            )
        upsampler, content_hash = loaded(self.registry, plan.model_version)
        _require_content(plan, content_hash, self.registry)
        name = output_name(part, plan.output_format)
        with source.local_copy(part) as path, output.attempt() as folder:
            try:
                done = upsampler.upsample_file(
                    path,
                    folder / name,
                    on_bad_row=plan.on_bad_row,
                    max_bad_rows=plan.max_bad_rows,
                    basis=plan.basis,
                )
            except EmbupError as error:  # of a copy, whose name says nothing to a user
                error.message = error.message.replace(str(path), f"{source.name}/{part}")
                raise
            if source.stamp(part) != stamp:
                raise InputFileError(
                    f"{source.name}/{part} changed while it was read.", remedy="Start again."
                )
            record = PartRecord(
                part=part,
                output=name,
                rows=done.rows,
                failed_rows=done.failed_rows,
                size_bytes=done.output.stat().st_size,
                sha256=_sha256(done.output),
                input_stamp=stamp,
            )
            self._require_plan(output)  # another run may have begun meanwhile
            return Attempt(record, _hand_over(output, folder, name), done.notices)

    def _require_plan(self, output: Place) -> None:
        stamp = output.stamp(PLAN)
        if stamp is None:
            raise OutputError(
                f"{output.name}: expected the plan that the driver wrote there, found nothing.",
                remedy="All machines must see the folder under the same path (NFS), or use an object store.",
            )
        if stamp != self.plan_stamp:
            raise another_run(output.name)


def _hand_over(output: Place, folder: Path, name: str) -> dict[str, str]:
    """The report first, so that it exists when the output does."""
    handed_over = {}
    report = folder / f"{name}.errors.jsonl"
    if report.exists():
        there = f"{ERRORS}/{report.name}"
        handed_over[there] = output.hand_over(report, there)
    handed_over[name] = output.hand_over(folder / name, name)
    return handed_over


@lru_cache(maxsize=1)
def loaded(registry: str, version: str) -> tuple[Upsampler, str]:
    """A decoder and its content's hash, loaded and verified once a process."""
    from embup_core.artifacts.remote import open_registry

    opened = open_registry(registry)
    return opened.load(version), opened.info(version).manifest["content_hash"]


def _require_content(plan: Plan, found: str, registry: str) -> None:
    if found != plan.content_hash:
        raise InvalidArtifactError(
            f"{plan.model_version} in {registry}: expected a decoder with the content {plan.content_hash}, "
            f"found {found}.",
            remedy="Give all machines the same registry.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
