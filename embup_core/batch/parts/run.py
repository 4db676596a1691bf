"""A run over parts, as its driver sees it: start or resume, take finished parts, publish the manifest.

<output>/part-0001.parquet …   one output a part
         _errors/…             reports on refused rows
         _MANIFEST.json        last: before, nothing there counts
         _run/                 plan, records of finished parts, attempts; removed after the manifest
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from embup_core.batch.parts.place import ATTEMPTS
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
    from embup_core.batch.parts.place import Place
    from embup_core.batch.parts.work import Attempt

RUN: Final = "_run"
_RECORDS: Final = f"{RUN}/finished"


def earlier_plan(output: Place) -> tuple[Plan, bool] | None:
    """The plan of what an output holds, and whether that is whole; None where there is none."""
    content = output.read(MANIFEST)
    if content is not None:
        return from_json(content, Manifest, f"{output.name}/{MANIFEST}").plan, True
    content = output.read(PLAN)
    return None if content is None else (from_json(content, Plan, f"{output.name}/{PLAN}"), False)


def clear(output: Place) -> None:
    """Remove what an earlier run left, the manifest first, and nothing else.

    Raises
    ------
    OutputError
        A manifest or plan there is not embup's.
    """
    earlier = earlier_plan(output)
    if earlier is None:
        return
    output.remove([MANIFEST])
    output.remove(earlier[0].outputs.values())
    output.remove([PLAN])
    for folder in (ERRORS, _RECORDS, ATTEMPTS):  # and not the lock, which the caller holds
        output.remove_folder(folder)


def require_free(output: Place) -> None:
    """Check that an output is that of a run, or empty.

    Raises
    ------
    OutputError
        It holds files of others.
    """
    if earlier_plan(output) is not None:
        return
    found = [name for name in output.stamps() if not name.startswith(".") and name != f"{RUN}/"]
    if found:
        raise OutputError(
            f"{output.name}: expected an empty folder, found {some(found)}.", remedy="Choose another output."
        )


class PartsRun:
    """A run that was started or resumed.

    Parameters
    ----------
    plan
        What to do.
    source, output
        The places.

    Attributes
    ----------
    manifest
        Of a run that is whole; None before.
    records
        Of the finished parts, by their names.

    Raises
    ------
    OutputError
        The output holds the result of another request.
    InputFileError
        The output is whole, and parts of the input have changed since.
    """

    def __init__(self, plan: Plan, source: Place, output: Place) -> None:
        self._plan = plan
        self._source = source
        self._output = output
        self.manifest: Manifest | None = None
        self.records: dict[str, PartRecord] = {}
        earlier = earlier_plan(output)
        if earlier is None:
            output.write(PLAN, to_json(plan))
            return
        plan.require_same(earlier[0], place=output.name, done=earlier[1])
        if earlier[1]:
            self._take_manifest()
        else:
            self._take_records()

    def _take_manifest(self) -> None:
        content = self._output.read(MANIFEST)
        assert content is not None  # noqa: S101 - it was just read
        manifest = from_json(content, Manifest, f"{self._output.name}/{MANIFEST}")
        self.records = {one.part: one for one in manifest.parts}
        self._require_unchanged()
        self.manifest = manifest
        self._output.remove_folder(RUN)  # where the run was cut off after its last step

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
        ObjectStoreError, OSError
            The place fails.
        """
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
        """
        if self.pending:
            raise RuntimeError(f"finish() with {len(self.pending)} parts to do")
        self._require_unchanged()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest.of(self._plan, self.records, now)
        self._output.write(MANIFEST, to_json(manifest))
        self._output.remove_folder(RUN)
        self.manifest = manifest
        return manifest

    def _require_unchanged(self) -> None:
        inputs, outputs = self._source.stamps(), self._output.stamps()
        records = [self.records[part] for part in self._plan.parts]
        redone = [one.part for one in records if inputs.get(one.part) != one.input_stamp]
        if redone:
            raise InputFileError(
                f"{self._source.name}: {some(redone)} changed since it was decoded.", remedy=self._remedy
            )
        redone = [one.output for one in records if outputs.get(one.output) != one.output_stamp]
        if redone:
            raise OutputError(
                f"{self._output.name}: {some(redone)} changed since it was written.", remedy=self._remedy
            )

    @property
    def _remedy(self) -> str:
        if self._output.read(MANIFEST) is None:
            return "Run it again: what has changed is decoded anew."
        return "Choose another output, or start anew with --overwrite."
