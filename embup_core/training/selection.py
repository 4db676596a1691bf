"""How decoders are compared, and which one is published. Nothing about Dagster, nothing about fitting.

Rows are split into train, validation and test. Every candidate is fitted on train and scored on validation,
which decides; it is fitted again on train and validation and scored on test, which is what is reported and
decides nothing. The published decoder has the champion's settings and all rows.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from embup_core.artifacts.artifact import decoder_bytes, decoder_from_bytes
from embup_core.decoders import DECODERS, Decoder
from embup_core.errors import InputError, InvalidArtifactError
from embup_core.evaluation import ConfidenceDecile, LearningPoint, ProbeScores, Scores
from embup_core.evaluation.groups import GroupScores
from embup_core.geometry.anchors import AnchorScores
from embup_core.training.scores_table import markdown_table, scores_table
from embup_core.training.split import SplitBy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

AUTO = "auto"
LADDER = "ladder"
CHOICES = (AUTO, LADDER)
CONTENDERS = ("linear_residual", "nearest_neighbours", "kriging", "mixture_kriging")
"""Decoders that ``auto`` fits: the baseline and those that have come out best on some data.

The others are steps on the way to these (docs/explanation/design.md). ``ladder`` fits them too, and so does
``python -m benchmarks.decoders``; a decoder of another package takes part in ``ladder``, or by its name.
"""
SLOW_LIBRARY = "pytorch"
BASELINE = "linear_residual"
CONSTANT = "constant_mean"

SELECTION_FILE = "fitted_on_train.safetensors"
REPORT_FILE = "fitted_on_train_and_validation.safetensors"
DESCRIPTION_FILE = "decoder.json"

_DIVISION = {
    SplitBy.rows: "Rows are split at random into train, validation and test. ",
    SplitBy.groups: (
        "Whole groups of rows are split at random into train, validation and test, so test rows are of "
        "groups that no decoder was fitted on. "
    ),
}
PROTOCOL = (
    "Each candidate is fitted on train rows and scored on validation rows, which decides. It is fitted again "
    "on train and validation rows and scored on test rows, which is what the tables and plots show and "
    "decides nothing; in brackets stand 95 % bootstrap intervals over rows. The published decoder has the "
    "champion's settings and is fitted on all rows{but}."
)
_HELD_OUT = "The source says which rows are test rows. The others are split into train and validation. "
_BUT_HELD_OUT = " but the test rows, which no version is ever fitted on"
RULE = "The champion is {whose} with the best R2 of cosines between validation rows, never between test rows"
_WHOSE = {
    AUTO: "the candidate",
    LADDER: "the candidate, of all decoders,",
}


def wanted_candidates(choice: str) -> frozenset[str]:
    """Decoders to fit for a choice.

    `CONTENDERS` for ``auto``, all but those that are opt-in for ``ladder``; else the one named and the
    baseline it must beat.

    Raises
    ------
    InputError
        The choice is no decoder's name.
    """
    if choice == AUTO:
        return frozenset(CONTENDERS)
    if choice == LADDER:
        return frozenset(name for name, decoder in DECODERS.items() if not decoder.opt_in)
    if choice not in DECODERS:
        raise InputError(
            f"decoder {choice!r} is unknown, expected {', '.join(CHOICES)} or one of {', '.join(DECODERS)}.",
            remedy=f"Choose one of them; {AUTO} takes the best of those that can win, {LADDER} of all.",
        )
    return frozenset({choice, BASELINE})


def required_candidates(choice: str) -> frozenset[str]:
    """Decoders without which nothing can be published for a choice."""
    return frozenset({BASELINE} if choice in CHOICES else {BASELINE, choice})


def best_on_validation(validation: Mapping[str, Scores]) -> str:
    """The name with the best R2 of cosines between validation rows."""
    return max(validation, key=lambda name: validation[name].test_test.r2)


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
        """Rebuild from the files; raises `InvalidArtifactError` where they are damaged or gone."""
        try:
            described = json.loads((folder / DESCRIPTION_FILE).read_bytes())
            for_selection, for_report = (
                decoder_from_bytes(described["name"], described["settings"], (folder / name).read_bytes())
                for name in (SELECTION_FILE, REPORT_FILE)
            )
            return cls(for_selection, for_report, float(described["fit_s"]))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InvalidArtifactError(
                f"{folder}: expected a fitted candidate, found what cannot be one ({error}).",
                remedy="Materialize the candidate again.",
            ) from error


@dataclass(frozen=True)
class Evaluation:
    """What all candidates and baselines reached.

    Attributes
    ----------
    choice
        ``auto``, ``ladder`` or the decoder asked for.
    settings
        Hyper-parameters of each candidate.
    validation
        Scores on validation rows, which decide.
    test
        Scores on test rows, which are reported.
    baselines
        Scores on test rows of what needs no decoder.
    validation_baselines
        The same on validation rows.
    split
        What the rows were divided by.
    probe
        How well a classifier on decoded rows tells test rows' labels, by decoder, beside ``originals`` and
        ``projected``; None where the source has no labels.
    decode_ms
        Milliseconds that each candidate takes for a row, in blocks of 256 rows, on one core.
    learning_curve
        The champion's R2 between validation rows by the number of train rows; empty where it was not asked
        for.
    confidence
        Errors of the champion's rows by their confidence; empty where it does not know its confidence.
    probe_left_out
        Why there is no `probe` in spite of labels; None where there is one, or where there are none.
    not_fitted
        Why a candidate is missing that the choice would have had, by name.
    anchors
        How fresh originals find test rows, by candidate; empty where the source has no anchors.
    held_out
        Whether the source says which rows are test rows, so that no version is ever fitted on them.
    groups
        How the champion decodes groups of test rows; the first is all of them.
    """

    choice: str
    settings: dict[str, dict[str, Any]]
    validation: dict[str, Scores]
    test: dict[str, Scores]
    baselines: dict[str, Scores]
    validation_baselines: dict[str, Scores] = field(default_factory=dict)
    split: SplitBy = SplitBy.rows
    probe: ProbeScores | None = None
    decode_ms: dict[str, float] = field(default_factory=dict)
    learning_curve: tuple[LearningPoint, ...] = ()
    confidence: tuple[ConfidenceDecile, ...] = ()
    probe_left_out: str | None = None
    not_fitted: dict[str, str] = field(default_factory=dict)
    anchors: dict[str, AnchorScores] = field(default_factory=dict)
    held_out: bool = False
    groups: tuple[GroupScores, ...] = ()

    @property
    def champion(self) -> str:
        """The decoder to publish."""
        if self.choice not in CHOICES:
            return self.choice
        return best_on_validation(self.validation)

    @property
    def rule(self) -> str:
        """How the champion was chosen, in a sentence or two."""
        if self.choice in _WHOSE:
            left_out = "".join(
                f" `{name}` could not be fitted: {why}" for name, why in self.not_fitted.items()
            )
            return f"{RULE.format(whose=_WHOSE[self.choice])}. It must beat `{BASELINE}` there.{left_out}"
        asked_for = f"`{self.choice}` was asked for by name."
        if self.choice == BASELINE:
            return asked_for
        return f"{asked_for} It must beat `{BASELINE}` on validation rows."

    @property
    def chosen_because(self) -> str:
        """Why the champion is the champion, with figures, in a clause."""
        if self.choice not in CHOICES:
            return "asked for by name"
        on_validation = {name: one.test_test.r2 for name, one in self.validation.items()}
        best, *others = sorted(on_validation, key=lambda name: -on_validation[name])
        ahead = f", ahead of {others[0]} ({on_validation[others[0]]:.3f})" if others else ""
        return f"best R2 of cosines between validation rows ({on_validation[best]:.3f}){ahead}"

    @property
    def reported(self) -> dict[str, Scores]:
        """Baselines and candidates on test rows."""
        return self.baselines | self.test

    @property
    def validation_r2(self) -> dict[str, float]:
        """R2 between validation rows of baselines and candidates, by name."""
        measured = self.validation_baselines | self.validation
        return {name: one.test_test.r2 for name, one in measured.items()}

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Column names and rows of text, as `scores_table` makes them."""
        return scores_table(self.reported, self.decode_ms, self.validation_r2)

    def to_json(self) -> dict[str, Any]:
        """Nested dict of JSON values, readable by people, and by `from_json`."""
        return asdict(self) | {
            "champion": self.champion,
            "chosen_because": self.chosen_because,
            "protocol": (_HELD_OUT if self.held_out else _DIVISION[self.split])
            + PROTOCOL.format(but=_BUT_HELD_OUT if self.held_out else ""),
            "rule": self.rule,
            "table": markdown_table(*self.table(), marked=self.champion),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Evaluation:
        """Rebuild from `to_json`."""

        def scores(group: Mapping[str, Any]) -> dict[str, Scores]:
            return {name: Scores.from_json(one) for name, one in group.items()}

        probe = content["probe"]
        return cls(
            choice=content["choice"],
            settings=content["settings"],
            validation=scores(content["validation"]),
            test=scores(content["test"]),
            baselines=scores(content["baselines"]),
            validation_baselines=scores(content["validation_baselines"]),
            split=SplitBy(content["split"]),
            probe=None if probe is None else ProbeScores(**probe),
            decode_ms=content["decode_ms"],
            learning_curve=tuple(LearningPoint(**point) for point in content["learning_curve"]),
            confidence=tuple(ConfidenceDecile(**decile) for decile in content["confidence"]),
            probe_left_out=content["probe_left_out"],
            not_fitted=content["not_fitted"],
            anchors={name: AnchorScores(**one) for name, one in content["anchors"].items()},
            held_out=content.get("held_out", False),
            groups=tuple(GroupScores(**one) for one in content.get("groups", ())),
        )
