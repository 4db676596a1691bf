"""Names and folders of data sets, and the files of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from embup_core.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

DEBUG_FOLDER: Final = "debug"
DATASET_FILE: Final = "dataset.duckdb"
PREDICTIONS_FILE: Final = "predictions.duckdb"
PREDICTION_LOG: Final = "predictions.jsonl"
REVIEW_LOG: Final = "reviews.jsonl"
SOURCE_STEM: Final = "source"
ANNOTATED: Final = "annotated"
"""Kind of a data set whose rows people gave labels."""
SOURCE: Final = "source"
"""Kind of a data set of a decoder's training data."""
DEFAULT_DECODER: Final = "mixture_kriging"
"""Judges rows of training data that it has not seen."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ANALYSIS: Final = re.compile(r"analysis-(\d{1,9})\.duckdb")


@dataclass(frozen=True)
class DatasetFolder:
    """The files of one data set.

    Attributes
    ----------
    path
        The folder. Its last part is the data set's name.
    """

    path: Path

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.path.name

    @property
    def dataset(self) -> Path:
        """Rows and labels; written once, at import."""
        return self.path / DATASET_FILE

    @property
    def predictions(self) -> Path:
        """Predictions of other classifiers; replaced as a whole."""
        return self.path / PREDICTIONS_FILE

    @property
    def prediction_log(self) -> Path:
        """Predictions that came in since; grows."""
        return self.path / PREDICTION_LOG

    @property
    def review_log(self) -> Path:
        """Reviews; grows."""
        return self.path / REVIEW_LOG

    def analysis(self, version: int) -> Path:
        """What a run found; written once."""
        return self.path / f"analysis-{version}.duckdb"

    def vectors(self, name: str) -> Path:
        """Vectors of the rows: float32, shape (n, d)."""
        return self.path / f"{name}.npy"

    def versions(self) -> list[int]:
        """Versions that runs have written, oldest first."""
        found = (_ANALYSIS.fullmatch(path.name) for path in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)


def checked_name(name: str) -> str:
    """The name, if a data set may have it.

    Raises
    ------
    InputError
        It has other characters, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"Expected a name of letters, digits, dots, dashes and underscores, at most 63, found {name!r}.",
            remedy="Choose another one, such as chatbot-2026.",
        )
    return name


def find_dataset(data: Path, name: str) -> DatasetFolder:
    """Find an imported data set.

    Parameters
    ----------
    data
        The data folder.
    name
        As it was given at import.

    Raises
    ------
    InputError
        There is none of this name.
    """
    folder = DatasetFolder(data / DEBUG_FOLDER / checked_name(name))
    if not folder.dataset.is_file():
        there = ", ".join(list_datasets(data)) or "none yet"
        raise InputError(
            f"There is no data set {name!r} in {data / DEBUG_FOLDER}.",
            remedy=f"There are: {there}. `embup debug import FILE --name {name}` makes one.",
        )
    return folder


def list_datasets(data: Path) -> list[str]:
    """Names of all imported data sets."""
    root = data / DEBUG_FOLDER
    if not root.is_dir():
        return []
    return sorted(
        path.name for path in root.iterdir() if _NAME.fullmatch(path.name) and (path / DATASET_FILE).is_file()
    )
