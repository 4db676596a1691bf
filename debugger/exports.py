"""Exports: what reviews decided, applied to files that others read. The data set itself never changes."""

from __future__ import annotations

import os
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import numpy as np

from debugger.formats.delimited import write_table
from debugger.formats.fields import FieldError, FieldMap
from debugger.formats.opening import FORMATS
from debugger.formats.own_kinds import label_like, true_like
from debugger.formats.rows import is_missing, read_complete
from debugger.queries import suggest
from debugger.store.names import SOURCE, SOURCE_STEM
from embup_core.errors import InputError, OutputError
from embup_core.files.atomic import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from debugger.formats.records import Record, RecordFile
    from debugger.reading import OpenDataset
    from debugger.reviews import Review

ExportKind: TypeAlias = Literal["cleaned", "dropped", "annotate", "reviews"]
"""The data set with what was decided; rows to leave out; rows to label next; all reviews."""
EXPORT_KINDS: Final[tuple[str, ...]] = get_args(ExportKind)
DEFAULT_COUNT: Final = 50
_ENDINGS: Final = {"dropped": (".npy", ".txt"), "annotate": (".csv",), "reviews": (".csv",)}


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote.

    Attributes
    ----------
    path
        The file.
    rows
        Rows in it.
    relabelled, dropped
        Rows with another label than at import, and rows that are left out.
    """

    path: Path
    rows: int
    relabelled: int = 0
    dropped: int = 0


def export(
    opened: OpenDataset,
    kind: str,
    target: Path,
    *,
    count: int = DEFAULT_COUNT,
    overwrite: bool = False,
) -> ExportReport:
    """Write one file.

    Parameters
    ----------
    opened
        The data set.
    kind
        ``cleaned``: all rows but dropped ones, in the form of the imported file (in a zip archive where the
        name ends in ``.zip``); relabelled and confirmed rows are complete. ``dropped``: row numbers to leave
        out, ``.npy`` or ``.txt``, as `embup train --without` takes them. ``annotate``: rows to label next,
        CSV. ``reviews``: all reviews, CSV. Cells of a CSV that a spreadsheet would run begin with ``'``.
    target
        The file; it appears when it is whole.
    count
        Rows of ``annotate``.
    overwrite
        Whether a file of this name is replaced.

    Raises
    ------
    InputError
        An unknown kind, or a name whose ending is that of another format.
    OutputError
        The file exists, or cannot be written.
    """
    if kind not in EXPORT_KINDS:
        raise InputError(
            f"Expected an export of {', '.join(EXPORT_KINDS)}, found {kind!r}.", remedy="Choose one of them."
        )
    if kind == "cleaned":
        return _cleaned(opened, target, overwrite=overwrite)
    if target.suffix not in _ENDINGS[kind]:
        raise InputError(
            f"Expected a name that ends in {' or '.join(_ENDINGS[kind])}, found {target.name!r}.",
            remedy="Choose another name.",
        )
    with _new_file(target, overwrite=overwrite) as new:
        if kind == "dropped":
            rows = dropped_rows(opened)
            if target.suffix == ".npy":
                np.save(new, rows)
            else:
                np.savetxt(new, rows, fmt="%d")
            return ExportReport(target, len(rows), dropped=len(rows))
        written = write_table(new, *(_to_annotate(opened, count) if kind == "annotate" else _reviews(opened)))
    return ExportReport(target, written)


def dropped_rows(opened: OpenDataset) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Rows to leave out: int64, shape (w,), sorted."""
    rows = sorted(row for row, decision in opened.decisions.items() if decision.action == "drop")
    return np.array(rows, dtype=np.int64)


def _cleaned(opened: OpenDataset, target: Path, *, overwrite: bool) -> ExportReport:
    if opened.described["kind"] == SOURCE:
        raise InputError(
            f"{opened.name} is the training data of a decoder, whose files are not written again.",
            remedy="Export dropped for `embup train --without`, or mend rows with `embup check --repair`.",
        )
    source: RecordFile = FORMATS[opened.described["format"]](opened.folder.path / SOURCE_STEM)
    endings = {source.ending, _ending(opened.described["source"])} - {".zip"}
    if target.suffix not in {*endings, ".zip"}:
        raise InputError(
            f"Expected a name that ends in {' or '.join(sorted(endings))}, as what was imported, or in .zip; "
            f"found {target.name!r}.",
            remedy="Choose another name.",
        )
    edits = _Edits(opened, source)
    with _new_file(target, overwrite=overwrite) as new:
        if target.suffix != ".zip":
            written = source.rewrite(new, edits.keeps, edits.change)
        else:
            plain = new.with_name(new.name + ".plain")
            try:
                written = source.rewrite(plain, edits.keeps, edits.change)
                with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
                    archive.write(plain, target.stem + source.ending * (not Path(target.stem).suffix))
            finally:
                plain.unlink(missing_ok=True)
    return ExportReport(target, written, edits.relabelled, edits.dropped)


def _ending(name: str) -> str:
    return Path(name).suffix.lower()


class _Edits:
    """Decisions by the number of the record that they concern."""

    def __init__(self, opened: OpenDataset, source: RecordFile) -> None:
        self._source = source
        self._examples: dict[str, Any] = {}
        self._fields = FieldMap(opened.described["fields"])
        found = opened.connection.execute("SELECT record FROM rows ORDER BY row").fetchnumpy()
        records = np.asarray(found["record"], dtype=np.int64)
        self._kept = np.zeros(int(opened.described["records"]), dtype=bool)
        self._kept[records] = True
        self._decisions: dict[int, Review] = {}
        self.relabelled = self.dropped = 0
        for row, decision in opened.decisions.items():
            record = int(records[row])
            if decision.action == "drop":
                self._kept[record] = False
                self.dropped += 1
            elif decision.action in {"relabel", "confirm"}:
                self._decisions[record] = decision
                self.relabelled += decision.action == "relabel"
        if self.relabelled and "label" not in self._fields.paths:
            raise InputError(
                "The imported file has no field for labels, so relabelled rows cannot be written into it.",
                remedy="Export the reviews, or import it again with a field for labels.",
            )

    def keeps(self, record: int) -> bool:
        """Whether a record is written."""
        return bool(self._kept[record])

    def change(self, record: Record) -> Mapping[str, Any] | None:
        """Its fields that differ; None where none does."""
        decision = self._decisions.get(record.number)
        if decision is None or record.values is None:
            return None
        new: dict[str, Any] = {}
        found = self._fields.read(record.values)
        if decision.action == "relabel":
            try:
                new["label"] = label_like(decision.label or "", self._example("label", found))
            except ValueError as error:
                raise InputError(
                    f"{self._source.unit} {record.line:,}: expected {error} as other labels of the imported "
                    f"file, found the new label {decision.label!r}.",
                    remedy="Relabel the row with such a label, or import a file whose labels are strings.",
                ) from error
        if "complete" in self._fields.paths and not read_complete(found["complete"], default=False):
            default = "true" if self._source.format == "csv" else True
            new["complete"] = true_like(self._example("complete", found), default=default)
        return self._fields.changed(record.values, new) or None

    def _example(self, meaning: str, found: Mapping[str, Any]) -> Any:
        """A value of the record or, where it has none, the first one of the file; else None."""
        if not is_missing(found[meaning]):
            return found[meaning]
        if meaning not in self._examples:
            self._examples[meaning] = next(self._values(meaning), None)
        return self._examples[meaning]

    def _values(self, meaning: str) -> Iterator[Any]:
        fields = FieldMap({meaning: self._fields.paths[meaning]})
        for record in self._source.records(fields.columns(self._source.fields())):
            with suppress(FieldError):
                value = fields.read(record.values or {})[meaning]
                if not is_missing(value):
                    yield value


def _to_annotate(opened: OpenDataset, count: int) -> tuple[list[str], Iterator[list[object]]]:
    found = suggest(opened, count=count)
    columns = ["row", "id", "text", "label", "predicted", "confidence", "why"]
    keys = ["row", "external_id", "text", "label", "predicted", "confidence", "why"]
    return columns, ([row[key] for key in keys] for row in found)


def _reviews(opened: OpenDataset) -> tuple[list[str], Iterator[list[object]]]:
    found = opened.query(
        "SELECT seq, row, external_id, action, label, note, reviewer, version, reviewed_at"
        " FROM reviews JOIN rows USING (row) ORDER BY seq"
    )
    columns = ["seq", "row", "id", "action", "label", "note", "reviewer", "version", "reviewed_at"]
    return columns, (list(row.values()) for row in found)


@contextmanager
def _new_file(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A file beside the target that becomes it when the block ends without an error."""
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists.", remedy="Choose another name, or give --overwrite.")
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{target.name[:80]}.", suffix=target.suffix, dir=target.parent
        )
        os.close(descriptor)
        new = Path(name)
        try:
            yield new
            with new.open("rb") as file:
                os.fsync(file.fileno())
            new.chmod(0o644)
            if overwrite:
                new.replace(target)
            else:
                os.link(new, target)  # never replaces what came meanwhile
            sync_folder(target.parent)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{target} cannot be written: {error.strerror or error}.", remedy="Check the folder and its disk."
        ) from error
