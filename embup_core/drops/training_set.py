"""All accepted drops as one source to train on, with coordinates instead of the N x N matrix."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from embup_core.artifacts.manifest import BASIS_FILE
from embup_core.blocks import row_blocks
from embup_core.drops.format import GROUPS, LABELS
from embup_core.drops.held_out import held_out_mask
from embup_core.errors import InvalidDataError, OutputError, SourceUnavailableError
from embup_core.files.atomic import sync_folder, write_durably
from embup_core.sources.files import (
    COORDINATES_FILE,
    DROP_OF_ROW_FILE,
    GROUPS_FILE,
    HELD_OUT_FILE,
    LABELS_FILE,
    PROJECTED_FILE,
)
from embup_core.sources.row_labels import load_row_labels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.drops.folder import AcceptedDrop, DropsFolder

_BLOCK_ROWS: Final = 4096


@dataclass(frozen=True)
class TrainingSet:
    """A source made of drops.

    Attributes
    ----------
    folder
        The source: ``projected_train_embs.npy``, ``coordinates.npy``, ``basis.safetensors``,
        ``held_out.npy``, ``drops.npy`` (the month of each row), and ``groups.npy`` and ``labels.npy`` where
        all drops have them.
    rows
        N.
    held_out_rows
        Rows that no version is trained on.
    months
        Rows by drop, in order.
    basis
        Id of the basis.
    """

    folder: Path
    rows: int
    held_out_rows: int
    months: dict[str, int]
    basis: str


def write_training_set(place: DropsFolder, folder: Path, *, through: str | None = None) -> TrainingSet:
    """Unite the accepted drops. The folder appears whole or not at all, and replaces an earlier one.

    Memory is bounded by z and one block of coordinates.

    Parameters
    ----------
    place
        Where the drops are.
    folder
        The source to write.
    through
        Last month that takes part; None takes all.

    Raises
    ------
    SourceUnavailableError
        No drop is accepted.
    InvalidDataError
        Drops are in bases that do not belong together: a first drop was checked again after later ones.
    OutputError
        The folder cannot be written.
    """
    accepted = place.accepted(through=through)
    known = place.known(accepted)
    if known is None:
        raise SourceUnavailableError(
            f"{place.root} has no accepted drop{'' if through is None else f' up to {through}'}.",
            remedy="Check the drops in order: embup drops check.",
        )
    foreign = [one.month for one in accepted if known.for_basis(one.report.basis) is None]
    if foreign:
        raise InvalidDataError(
            f"The drops {', '.join(foreign)} are in another basis than {known.basis.id}.",
            remedy="Check these drops again, in order: embup drops check.",
        )
    z = np.concatenate([one.projected() for one in accepted])
    held_out = held_out_mask(z)
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        np.save(beside / PROJECTED_FILE, z)
        _save_coordinates(beside / COORDINATES_FILE, accepted, len(z), known.basis.dims)
        write_durably(beside / BASIS_FILE, known.basis.to_bytes())
        np.save(beside / HELD_OUT_FILE, held_out)
        rows_of = {one.month: one.report.accepted_rows for one in accepted}
        np.save(beside / DROP_OF_ROW_FILE, np.repeat(list(rows_of), list(rows_of.values())))
        for given, name in ((GROUPS, GROUPS_FILE), (LABELS, LABELS_FILE)):
            values = _row_values(accepted, given)
            if values is not None:
                np.save(beside / name, values)
        sync_folder(beside)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise OutputError(
            f"{folder}: the training set cannot be written ({error.strerror or error}).",
            remedy="Free space, or name a data folder that this user may write.",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return TrainingSet(folder, len(z), int(held_out.sum()), rows_of, known.basis.id)


def _save_coordinates(path: Path, accepted: Sequence[AcceptedDrop], rows: int, dims: int) -> None:
    """Coordinates of all drops, a block at a time; older ones have zeros in directions added since."""
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dims)}
        np.lib.format.write_array_header_1_0(file, header)
        for one in accepted:
            coordinates = one.coordinates()
            for block in row_blocks(len(coordinates), _BLOCK_ROWS):
                part = np.zeros((block.stop - block.start, dims), "<f4")
                part[:, : coordinates.shape[1]] = coordinates[block]
                file.write(part.data)
        file.flush()
        os.fsync(file.fileno())


def _row_values(accepted: Sequence[AcceptedDrop], name: str) -> NDArray[Any] | None:
    """Groups or labels of all rows; None where a drop has none, or where some are numbers and some text."""
    found = []
    for one in accepted:
        path = one.drop.path(name)
        if path is None:
            return None
        found.append(load_row_labels(one.drop.require_unchanged(name), one.report.rows)[one.rows()])
    if len({values.dtype.kind in "iu" for values in found}) > 1:
        return None
    return np.concatenate(found)
