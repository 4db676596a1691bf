"""A run over parts, as its driver sees it: start or resume, take finished parts, publish the manifest.

<output>/part-0001.parquet …   one output a part
         _errors/…             reports on refused rows
         _MANIFEST.json        last: before, nothing there counts
         _embup/               plan, records of finished parts, attempts; removed after the manifest
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from embup_core.batch.parts.place import ATTEMPTS, RUN, another_run
from embup_core.batch.parts.plan import (
    MANIFEST,
    Manifest,
    PartRecord,
    Plan,
    from_json,
    some,
    to_json,
)
from embup_core.batch.parts.work import ERRORS, PLAN
from embup_core.errors import InputFileError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from embup_core.batch.parts.place import Place
    from embup_core.batch.parts.work import Attempt

_RECORDS: Final = f"{RUN}/finished"


def found_in(output: Place) -> Manifest | Plan | None:
    """What an output holds: a whole result, the beginning of one, or nothing.

    Raises
    ------
    OutputError
        It holds files of others.
    """
    content = output.read(MANIFEST)
    if content is not None:
        return from_json(content, Manifest, f"{output.name}/{MANIFEST}")
    content = output.read(PLAN)
    if content is not None:
        return from_json(content, Plan, f"{output.name}/{PLAN}")
    others = [name for name in output.stamps() if not name.startswith(".") and name != f"{RUN}/"]
    if others:
        raise OutputError(
            f"{output.name}: expected an empty folder, found {some(others)}.", remedy="Choose another output."
        )
    return None


def plan_of(found: Manifest | Plan) -> Plan:
    """The plan of what an output holds."""
    return found.plan if isinstance(found, Manifest) else found


def clear(output: Place, earlier: Plan) -> None:
    """Remove what an earlier run left, and nothing else; the manifest first, and its plan last.

    Cut off, it leaves what a later call resumes or clears.
    """
    # Under another id, so that workers of a run that still lives find that it is over.
    output.write(PLAN, to_json(msgspec.structs.replace(earlier, run_id=new_id())))
    output.remove([MANIFEST])
    output.remove(earlier.outputs.values())
    for folder in (ERRORS, _RECORDS, ATTEMPTS):  # and not the lock, which the caller holds
        output.remove_folder(folder)
    output.remove([PLAN])


def new_id() -> str:
    """The id of a run."""
    return uuid.uuid4().hex


def require_unchanged(records: Iterable[PartRecord], source: Place, output: Place, *, remedy: str) -> None:
    """Check that parts and outputs are what they were.

    Raises
    ------
    InputFileError, OutputError
        They have changed, or are gone.
    """
    inputs, outputs, records = source.stamps(), output.stamps(), list(records)
    changed = [one.part for one in records if inputs.get(one.part) != one.input_stamp]
    if changed:
        raise InputFileError(f"{source.name}: {some(changed)} changed since it was decoded.", remedy=remedy)
    changed = [one.output for one in records if outputs.get(one.output) != one.output_stamp]
    if changed:
        raise OutputError(f"{output.name}: {some(changed)} changed since it was written.", remedy=remedy)


def require_whole(manifest: Manifest, source: Place, output: Place) -> None:
    """Check that a result is still that of its input; raises as `require_unchanged`."""
    require_unchanged(
        manifest.parts, source, output, remedy="Choose another output, or start anew with --overwrite."
    )
    if f"{RUN}/" in output.stamps():  # the run was cut off after the manifest
        with output.held():
            output.remove_folder(RUN)


class PartsRun:
    """A run that this call starts or resumes, and that is its own until another call does so.

    Parameters
    ----------
    plan
        What to do.
    source, output
        The places; the output is held.
    earlier
        The plan that the output holds, of the same request; None where it is empty.

    Attributes
    ----------
    records
        Of the finished parts, by their names.
    plan_stamp
        That of the plan which this call has written; another one means another run.

    Raises
    ------
    JobConflictError
        The output holds another plan, or there is one by now.
    """

    def __init__(self, plan: Plan, source: Place, output: Place, earlier: Plan | None = None) -> None:
        self._plan = plan
        self._source = source
        self._output = output
        self.records: dict[str, PartRecord] = {}
        before = None if earlier is None else to_json(earlier)
        self.plan_stamp = output.exchange(PLAN, to_json(plan), instead_of=before)
        if earlier is not None:
            output.remove_folder(ATTEMPTS)  # of workers that nobody waits for
            self._take_records()

    def _take_records(self) -> None:
        inputs, outputs = self._source.stamps(), self._output.stamps()
        for content in self._output.read_all(_RECORDS):
            one = from_json(content, PartRecord, f"{self._output.name}/{_RECORDS}")
            if inputs.get(one.part) == one.input_stamp and outputs.get(one.output) == one.output_stamp:
                self.records[one.part] = one

    @property
    def pending(self) -> tuple[str, ...]:
        """Parts that are not finished, in order."""
        return tuple(part for part in self._plan.parts if part not in self.records)

    def take(self, attempt: Attempt) -> PartRecord:
        """Publish a part that a worker has finished, and record it.

        Raises
        ------
        JobConflictError
            Another run has begun there.
        ObjectStoreError, OSError
            The place fails.
        """
        self._require_alone()
        record = attempt.record
        stamps = {
            name: self._output.accept(handed_over, name) for name, handed_over in attempt.handed_over.items()
        }
        if len(stamps) == 1:  # an earlier state of the part may have had a report
            self._output.remove([f"{ERRORS}/{record.output}.errors.jsonl"])
        record = msgspec.structs.replace(record, output_stamp=stamps[record.output])
        self._output.write(f"{_RECORDS}/{record.output}.json", to_json(record))
        self.records[record.part] = record
        return record

    def finish(self) -> Manifest:
        """Publish the manifest, once all parts are finished and are still what they were.

        Raises
        ------
        InputFileError, OutputError
            Parts, or outputs, have changed meanwhile; a second call decodes these anew.
        JobConflictError
            Another run has begun there.
        """
        if self.pending:
            raise RuntimeError(f"finish() with {len(self.pending)} parts to do")
        require_unchanged(
            self.records.values(),
            self._source,
            self._output,
            remedy="Run it again: what has changed is decoded anew.",
        )
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest.of(self._plan, self.records, now)
        self._require_alone()
        self._output.write(MANIFEST, to_json(manifest))
        self._output.remove_folder(RUN)
        return manifest

    def _require_alone(self) -> None:
        if self._output.stamp(PLAN) != self.plan_stamp:
            raise another_run(self._output.name)
