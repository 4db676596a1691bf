"""A new version replaces one in service that was trained on the same data and is not better, else none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from embup_core.artifacts.history import Deployment
from embup_core.artifacts.manifest import manifest_bytes
from embup_core.artifacts.registry import ArtifactInfo, Registry
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.errors import InvalidArtifactError
from embup_core.evaluation import Intervals, PairScores, Scores
from embup_core.training.promotion import (
    GateCheck,
    GateResult,
    PreviousVersion,
    decide_promotion,
)
from embup_core.training.promotion.earlier import BEST, compare_with_earlier
from embup_core.training.publication import Published, publish_champion
from embup_core.training.sample import open_sample
from embup_core.training.selection import Evaluation
from embup_core.training.train import train

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.training.result import TrainingResult
    from tests.conftest import AnchoredSource


def scores(r2: float) -> Scores:
    pairs = PairScores(pairs=10, rmse=0.03, mae=0.02, bias=0.0, r2=r2, spearman=0.5)
    return Scores(pairs, None, 0.4, intervals=Intervals((r2 - 0.02, r2 + 0.02), (0, 1), None, rows=10))


def test_nothing_published_is_nothing_replaced(tmp_path: Path) -> None:
    assert PreviousVersion.in_service(Registry(tmp_path)) is None


def test_the_latest_is_what_its_manifest_says(registry: Registry) -> None:
    replaced = PreviousVersion.in_service(registry)
    assert replaced is not None
    manifest = registry.info(registry.current_version()).manifest
    assert (replaced.version, replaced.decoder) == (registry.current_version(), manifest["decoder"]["name"])
    assert replaced.fingerprint == manifest["data"]["fingerprint"]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (lambda m: m.update(format_version=1), "20260101-000000-00000000 (cannot be read)"),
        (lambda m: m.pop("metrics"), "20260101-000000-00000000 (kriging)"),
        (lambda m: m["metrics"].update(test_test={"r2": "0.5"}), "20260101-000000-00000000 (kriging)"),
        (lambda m: m, "20260101-000000-00000000 (kriging, R2 0.500)"),
    ],
    ids=["another format", "no metrics", "odd metrics", "whole"],
)
def test_what_cannot_be_read_is_replaced_all_the_same(
    registry: Registry, tmp_path: Path, edit: Callable[[dict[str, Any]], object], told: str
) -> None:
    version = "20260101-000000-00000000"
    manifest = registry.info(registry.current_version()).manifest
    manifest = json.loads(json.dumps(manifest)) | {
        "version": version,
        "content_hash": "0" * 64,
        "decoder": {"name": "kriging", "settings": {}},
        "metrics": {"test_test": {"r2": 0.5}},
    }
    edit(manifest)
    (tmp_path / version).mkdir()
    (tmp_path / version / "manifest.json").write_bytes(manifest_bytes(manifest))
    (tmp_path / "CURRENT").write_text(version)
    replaced = PreviousVersion.in_service(Registry(tmp_path))
    assert str(replaced) == told


def evaluation(r2: float) -> Evaluation:
    one = {"kriging": scores(r2)}
    return Evaluation("kriging", {"kriging": {}}, one, one, {})


IN_SERVICE = PreviousVersion("v1", "kriging", "mine", r2=0.6, fingerprint="a", test_rows="t")


def decide(
    r2: float,
    previous: PreviousVersion | None = IN_SERVICE,
    *,
    fingerprint: str = "a",
    test_rows: str = "t",
    asked: bool | None = None,
) -> tuple[bool, str | None]:
    decision = decide_promotion(
        evaluation(r2),
        previous,
        source="new",
        fingerprint=fingerprint,
        test_rows=test_rows,
        asked=asked,
    )
    return decision.promoted, decision.objection


def test_the_first_version_is_promoted_and_so_is_one_that_replaces_what_cannot_be_read() -> None:
    assert decide(0.1, None) == (True, None)
    assert decide(0.1, PreviousVersion("v1", None)) == (True, None)


@pytest.mark.parametrize(
    ("r2", "test_rows", "promoted"),
    [
        (0.7, "t", True),
        (0.6, "t", True),
        (0.597, "t", True),
        (0.59, "t", False),  # the same rows: half a hundredth is more than chance
        (0.59, "u", True),  # other rows: within half the width of the interval
        (0.57, "u", False),
    ],
)
def test_of_the_same_data_one_that_is_not_worse_is_promoted(
    r2: float, test_rows: str, promoted: bool
) -> None:
    found, objection = decide(r2, test_rows=test_rows)
    assert found is promoted
    assert (objection is None) is promoted


def test_of_other_data_none_is_promoted_unasked_however_good() -> None:
    promoted, objection = decide(0.9, fingerprint="b")
    assert not promoted
    assert objection is not None
    assert "mine" in objection
    assert "new" in objection


def test_what_is_asked_for_is_done_and_the_objection_stays() -> None:
    assert decide(0.9, asked=False) == (False, None)
    promoted, objection = decide(0.1, fingerprint="b", asked=True)
    assert promoted
    assert objection


def test_a_warning_names_the_command(tmp_path: Path) -> None:
    decision = decide_promotion(evaluation(0.1), IN_SERVICE, source="new", fingerprint="a", test_rows="t")
    assert f"embup models promote v2 --registry {tmp_path}" in str(decision.warning("v2", Registry(tmp_path)))


def gate(*, passed: bool) -> GateResult:
    check = GateCheck("R2 of cosines", passed, 0.6, 0.5, "not worse by 0.01", (-0.11, -0.09), 200)
    return GateResult((check,), 200, "v1")


@pytest.mark.parametrize(
    ("passed", "asked", "promoted"),
    [(True, None, True), (False, None, False), (False, True, True), (True, False, False)],
)
def test_on_held_out_rows_the_gate_decides_whatever_the_data(
    passed: bool, asked: bool | None, promoted: bool, tmp_path: Path
) -> None:
    decision = decide_promotion(
        evaluation(0.1),
        IN_SERVICE,
        source="new",
        fingerprint="other",
        test_rows="other",
        asked=asked,
        gate=gate(passed=passed),
    )
    assert decision.promoted is promoted
    assert decision.held_by_gate is not passed
    if passed:
        assert decision.objection is None
    else:
        warning = str(decision.warning("v2", Registry(tmp_path)))
        assert "R2 of cosines: 0.600 to 0.500 (-0.100 [-0.110, -0.090])" in warning
        assert ("rollback" if asked else "embup models promote v2") in warning


def test_a_held_version_says_why_and_its_promotion_is_recorded(
    anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    registry = Registry(tmp_path / "registry")
    files = anchored_source.files
    result = train(files.name, decoder="kriging", output_dims=100, registry=registry)
    opened = open_sample(files, output_dims=100).sample
    sample = replace(opened, rows=replace(opened.rows, held_out=True), slices={"drop": np.arange(800) // 400})
    bad = Kriging().fit(
        np.roll(sample.projected, 200, axis=0), sample.coordinates, output_dims=100, basis=sample.basis
    )

    def publish(decoder: Kriging, *, promote: bool | None = None) -> Published:
        return publish_champion(
            registry,
            decoder,
            sample,
            result.evaluation,
            source="month",
            fingerprint="b" * 64,
            plots={},
            promote=promote,
        )

    def fitted() -> Kriging:
        z, coordinates = sample.published_rows()
        return Kriging().fit(z, coordinates, output_dims=100, basis=sample.basis)

    # The version in service was fitted on the held-out rows: nothing to compare fairly.
    assert publish(bad, promote=False).promotion.gate is None
    first = publish(fitted(), promote=True).info.version
    held = publish(bad)
    assert held.promotion.held_by_gate
    assert registry.current_version() == first
    card = (held.info.folder / "MODEL_CARD.md").read_text()
    assert f"## Beside {first}" in card
    assert "HELD" in card
    assert "drop 1" in card
    assert registry.deployments()[-1].note == ""
    registry.promote(held.info.version)
    moved = registry.deployments()[-1]
    assert moved.how == "promote"
    assert moved.note.startswith("overrode the gate: R2 of cosines")
    assert moved.by
    assert registry.roll_back().version == first
    assert registry.deployments()[-1].note == ""

    good = publish(fitted())
    assert good.promotion.gate is not None
    assert good.promotion.gate.passed, good.promotion.gate.reasons
    assert registry.current_version() == good.info.version
    assert good.warning is None

    # Damaged, the version in service keeps nothing out: the last sound one is compared with in its place.
    (registry.path(good.info.version) / "decoder.safetensors").write_bytes(b"damaged")
    still_held = publish(bad)
    assert still_held.promotion.held_by_gate
    assert still_held.promotion.gate is not None
    assert still_held.promotion.gate.previous == first
    again = publish(fitted())
    assert registry.current_version() == again.info.version
    assert good.info.version in str(again.warning)
    assert "embup models verify" in str(again.warning)
    for version in registry.version_names():
        (registry.path(version) / "decoder.safetensors").write_bytes(b"damaged")
    last = publish(fitted())
    assert last.promotion.gate is None
    assert registry.current_version() == last.info.version
    assert again.info.version in str(last.warning)


def test_steps_that_the_gate_lets_pass_do_not_add_up(anchored_source: AnchoredSource, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    files = anchored_source.files
    evaluated = train(files.name, decoder="kriging", output_dims=100).evaluation
    opened = open_sample(files, output_dims=100).sample
    sample = replace(opened, rows=replace(opened.rows, held_out=True))
    z, coordinates = sample.published_rows()
    months = []
    # A little of each row is that of another one, more and more of it.
    for month, share in enumerate((0.0, 0.14, 0.18)):
        worse = coordinates + share * np.roll(coordinates, 1, axis=0)
        worse /= np.linalg.norm(worse, axis=1, keepdims=True)
        decoder = Kriging().fit(z, worse, output_dims=100, basis=sample.basis)
        months.append(
            publish_champion(
                registry,
                decoder,
                sample,
                evaluated,
                source="month",
                fingerprint=str(month) * 64,
                plots={},
                promote=True if month < 2 else None,
            )
        )
    gate = months[-1].promotion.gate
    assert gate is not None
    assert gate.previous == months[1].info.version
    assert [check.name for check in gate.checks if not check.passed] == [BEST]
    assert months[0].info.version in gate.reasons[0]
    assert not months[-1].promotion.promoted


class Elsewhere:
    """A registry whose versions lie in a store alone, all of them damaged."""

    def __init__(self, moves: str) -> None:
        self.moves = moves
        self.root = Path("/nowhere")
        self.fetched = ""

    def version_names(self) -> list[str]:
        return sorted(set(self.moves))

    def deployments(self) -> list[Deployment]:
        return [Deployment(version, None, "promote") for version in self.moves]

    def load_artifact(self, version: str) -> None:
        self.fetched += version
        raise InvalidArtifactError(f"{version} is damaged.", remedy="Publish again.")


@pytest.mark.parametrize(
    ("moves", "current", "tried"),
    [
        ("abc", "c", "cba"),
        ("abcb", "b", "bac"),  # after a rollback from c: that is the last to be compared with
        ("ababc", "c", "cba"),
        ("ab", "x", "xba"),
    ],
)
def test_versions_in_a_bucket_take_the_place_of_a_damaged_one_those_before_it_first(
    moves: str, current: str, tried: str
) -> None:
    registry: Any = Elsewhere(moves)
    rows: Any = None
    compared = compare_with_earlier(rows, registry, current, Kriging())
    assert registry.fetched == tried
    assert "No version before it" in str(compared.damage)


class Overtaken(Registry):
    """Another publisher puts a version into service just before a new one of this registry would be."""

    other = ""

    def publish(self, *arguments: Any, **more: Any) -> ArtifactInfo:
        published = super().publish(*arguments, **more)
        if self.other:
            Registry(self.root).promote(self.other)
        return published


def test_a_version_that_another_publisher_overtook_is_published_and_replaces_nothing(
    anchored_source: AnchoredSource, tmp_path: Path
) -> None:
    registry = Overtaken(tmp_path / "registry")
    source = anchored_source.files.name

    def trained(seed: int, *, promote: bool | None = None) -> TrainingResult:
        return train(
            source, decoder="kriging", output_dims=100, registry=registry, seed=seed, promote=promote
        )

    first, second = trained(0), trained(1, promote=True)
    registry.other = first.version
    third = trained(2)
    assert not third.promoted
    assert any("somebody promoted it meanwhile" in warning for warning in third.warnings)
    assert any(f"embup models promote {third.version}" in warning for warning in third.warnings)
    assert registry.current_version() == first.version
    assert third.version in registry.version_names()
    assert second.promoted
