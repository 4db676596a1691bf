"""How decoders are compared, and which one is published. Nothing about Dagster, nothing about fitting.

Rows are split into train, validation and test. Every candidate is fitted on train and scored on validation,
which decides; it is fitted again on train and validation and scored on test, which is what is reported and
decides nothing. The published decoder has the champion's settings and all rows.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from embup_core.artifact import decoder_bytes, decoder_from_bytes
from embup_core.decoders import DECODERS, Decoder
from embup_core.errors import InputError
from embup_core.evaluation import PairScores, Scores
from embup_core.scores_table import markdown_table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

AUTO = "auto"
YARDSTICK = "linear_residual"
UNIT_TOLERANCE = 1e-6

SELECTION_FILE = "fitted_on_train.safetensors"
REPORT_FILE = "fitted_on_train_and_validation.safetensors"
DESCRIPTION_FILE = "decoder.json"

PROTOCOL = (
    "Rows are split at random into train, validation and test. Each candidate is fitted on train and the "
    "champion is the one with the best R2 of cosines between validation rows, or the one asked for by name; "
    f"it is published only if it beats {YARDSTICK} there. "
    "The table is over test rows, after a fit on train and validation. The published decoder is fitted on "
    "all rows with the champion's settings."
)


def wanted_candidates(choice: str) -> frozenset[str]:
    """Decoders to fit for a choice: all for ``auto``, else the one named and what it must beat.

    Raises
    ------
    InputError
        The choice is no decoder's name.
    """
    if choice == AUTO:
        return frozenset(DECODERS)
    if choice not in DECODERS:
        raise InputError(
            f"decoder {choice!r} is unknown, expected {AUTO} or one of {', '.join(DECODERS)}.",
            remedy=f"Choose one of them; {AUTO} takes the best.",
        )
    return frozenset({choice, YARDSTICK})


@dataclass(frozen=True)
class Candidate:
    """One decoder fitted twice.

    Attributes
    ----------
    for_selection
        Fitted on train rows.
    for_report
        Fitted on train and validation rows.
    fit_s
        Seconds that the second fit took.
    """

    for_selection: Decoder
    for_report: Decoder
    fit_s: float

    @classmethod
    def fit(
        cls,
        decoder_type: type[Decoder],
        settings: Mapping[str, Any],
        projected: NDArray[np.float32],
        coordinates: NDArray[np.float32],
        *,
        train: NDArray[np.int64],
        fit_rows: NDArray[np.int64],
    ) -> Candidate:
        """Fit on `train`, then on `fit_rows`; for the other arguments see `Decoder.fit`."""
        for_selection = decoder_type(**settings).fit(projected[train], coordinates[train])
        started_s = time.perf_counter()
        for_report = decoder_type(**settings).fit(projected[fit_rows], coordinates[fit_rows])
        return cls(for_selection, for_report, time.perf_counter() - started_s)

    def files(self) -> dict[str, bytes]:
        """The candidate as files."""
        described = {
            "name": self.for_report.name,
            "settings": self.for_report.settings(),
            "fit_s": self.fit_s,
        }
        return {
            SELECTION_FILE: decoder_bytes(self.for_selection),
            REPORT_FILE: decoder_bytes(self.for_report),
            DESCRIPTION_FILE: json.dumps(described, indent=2).encode(),
        }

    @classmethod
    def load(cls, folder: Path) -> Candidate:
        """Rebuild from the files; raises `InvalidArtifactError` where they are damaged."""
        described = json.loads((folder / DESCRIPTION_FILE).read_bytes())
        for_selection, for_report = (
            decoder_from_bytes(described["name"], described["settings"], (folder / name).read_bytes())
            for name in (SELECTION_FILE, REPORT_FILE)
        )
        return cls(for_selection, for_report, described["fit_s"])


@dataclass(frozen=True)
class Evaluation:
    """What all candidates and baselines reached.

    Attributes
    ----------
    choice
        ``auto`` or the decoder asked for.
    settings
        Hyper-parameters of each candidate.
    validation
        Scores on validation rows, which decide.
    test
        Scores on test rows, which are reported.
    baselines
        Scores on test rows of what needs no decoder.
    """

    choice: str
    settings: dict[str, dict[str, Any]]
    validation: dict[str, Scores]
    test: dict[str, Scores]
    baselines: dict[str, Scores]

    @property
    def champion(self) -> str:
        """The decoder to publish."""
        if self.choice != AUTO:
            return self.choice
        return max(self.validation, key=lambda name: self.validation[name].test_test.r2)

    @property
    def reported(self) -> dict[str, Scores]:
        """Baselines and candidates on test rows."""
        return self.baselines | self.test

    def to_json(self) -> dict[str, Any]:
        """Nested dict of JSON values, readable by people, and by `from_json`."""
        return asdict(self) | {
            "champion": self.champion,
            "protocol": PROTOCOL,
            "table": markdown_table(self.reported),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Evaluation:
        """Rebuild from `to_json`."""

        def scores(group: Mapping[str, Any]) -> dict[str, Scores]:
            return {
                name: Scores(
                    **(one | {kind: PairScores(**one[kind]) for kind in ("test_test", "test_train")})
                )
                for name, one in group.items()
            }

        return cls(
            choice=content["choice"],
            settings=content["settings"],
            validation=scores(content["validation"]),
            test=scores(content["test"]),
            baselines=scores(content["baselines"]),
        )
