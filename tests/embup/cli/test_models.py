"""`embup models`: what a registry holds."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pytest

from embup.cli.service_process import service_process
from embup_core.artifacts.anchoring import publish_with_anchors
from embup_core.artifacts.artifact import Provenance
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.recovered_map import RecoveredMap
from embup_core.artifacts.registry import Registry
from embup_core.decoders.baselines.linear import Linear
from embup_core.training.promotion import GateCheck, GateResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.sources import SourceFiles


def test_the_published_decoders_are_listed(embup: Callable[..., Any], registry: Registry) -> None:
    result = embup("models", "--registry", registry.root)
    assert result.returncode == 0, result.stderr
    assert registry.current_version() in result.stdout
    assert "kriging" in result.stdout


def test_json_marks_the_latest(embup: Callable[..., Any], registry: Registry) -> None:
    answer = json.loads(embup("models", "--registry", registry.root, "--json").stdout)
    assert answer["current"] == registry.current_version()
    assert [model["version"] for model in answer["models"]] == [info.version for info in registry.versions()]


def test_an_empty_registry_is_no_error_and_says_how_to_fill_it(
    embup: Callable[..., Any], tmp_path: Path
) -> None:
    result = embup("models", "--registry", tmp_path)
    assert result.returncode == 0
    assert "embup train" in result.stderr
    assert json.loads(embup("models", "--registry", tmp_path, "--json").stdout) == {
        "current": None,
        "models": [],
    }


@pytest.mark.parametrize("pointer", ["nonsense", "20260101-000000-00000000"])
def test_a_damaged_registry_is_an_error(embup: Callable[..., Any], tmp_path: Path, pointer: str) -> None:
    (tmp_path / "CURRENT").write_text(pointer)
    result = embup("models", "--registry", tmp_path)
    assert result.returncode == 1
    assert pointer in result.stderr
    assert result.stdout == ""


def test_what_a_damaged_pointer_may_name_is_listed_all_the_same(
    embup: Callable[..., Any], registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(registry.root, tmp_path / "copy")
    (tmp_path / "copy" / "CURRENT").write_text("nonsense")
    for options in ((), ("--json",)):
        result = embup("models", "--registry", tmp_path / "copy", *options)
        assert result.returncode == 1
        assert registry.current_version() in result.stdout
        assert "nonsense" in result.stderr


def test_a_version_without_a_manifest_is_an_error_while_it_is_the_latest(
    embup: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "CURRENT").write_text("20260101-000000-00000000")
    (tmp_path / "20260101-000000-00000000").mkdir()
    result = embup("models", "--registry", tmp_path)
    assert result.returncode == 1
    assert "manifest.json" in result.stderr


@pytest.fixture
def two(registry: Registry, publish_another: Callable[[Registry, int], str], tmp_path: Path) -> Registry:
    """A registry with two versions, the second one promoted."""
    shutil.copytree(registry.root, tmp_path / "two")
    made = type(registry)(tmp_path / "two")
    publish_another(made, 7)
    return made


def test_a_version_is_promoted_and_rolled_back(embup: Callable[..., Any], two: Registry) -> None:
    newer = two.current_version()
    older = two.earlier_version()
    result = embup("models", "rollback", "--registry", two.root, "--json")
    assert json.loads(result.stdout) == {"current": older, "before": newer}
    assert two.current_version() == older
    result = embup("models", "rollback", EMBUP_REGISTRY=str(two.root))
    assert result.returncode == 2
    assert f"No version was in service before {older}" in result.stderr
    result = embup("models", "--registry", two.root, "promote", newer)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["current", newer, "before", older]
    assert two.current_version() == newer


def test_a_bad_version_is_found_and_not_promoted(embup: Callable[..., Any], two: Registry) -> None:
    newer, older = two.current_version(), two.earlier_version()
    result = embup("models", "verify", "--registry", two.root)
    assert result.returncode == 0, result.stderr
    (two.root / older / "MODEL_CARD.md").write_text("mine")
    result = embup("models", "verify", "--registry", two.root, "--json")
    assert result.returncode == 1
    problems = {one["version"]: one["problem"] for one in json.loads(result.stdout)["models"]}
    assert problems[newer] is None
    assert "MODEL_CARD.md" in problems[older]
    assert embup("models", "verify", newer, "--registry", two.root).returncode == 0
    for command in (("promote", older), ("rollback",)):
        result = embup("models", *command, "--registry", two.root)
        assert result.returncode == 1
        assert "MODEL_CARD.md" in result.stderr
    assert two.current_version() == newer


def test_a_version_is_shown(embup: Callable[..., Any], registry: Registry) -> None:
    version = registry.current_version()
    shown = json.loads(embup("models", "show", version, "--registry", registry.root, "--json").stdout)
    assert shown["version"] == version
    assert shown["in_service"] is True
    assert shown["decoder"] == "kriging"
    assert shown["settings"]["neighbours"] > 0
    assert (shown["rows"], shown["source"]) == (600, "sample")
    text = embup("models", "show", version, "--registry", registry.root).stdout
    assert version in text
    assert "neighbours" in text
    result = embup("models", "show", "20990101-000000-deadbeef", "--registry", registry.root)
    assert result.returncode == 2


def test_the_recovered_map_and_rows_left_out_are_shown(
    embup: Callable[..., Any], sample_projected: np.ndarray, sample_coordinates: np.ndarray, tmp_path: Path
) -> None:
    rank = sample_coordinates.shape[1]
    kept = RecoveredMap(
        affine=True,
        median_angle=6e-5,
        p99_angle=1e-4,
        explained=1.0,
        curvature=0.0,
        penalty=1e-8,
        rows_used=598,
        matrix=np.ones((rank, 32), np.float32),
        offset=np.zeros(32, np.float32),
    )
    published = Registry(tmp_path / "r").publish(
        Linear().fit(sample_projected, sample_coordinates),
        golden=golden_inputs(sample_projected),
        provenance=Provenance("sample", "0" * 64, 600, {}, {}, {}, transform=kept, left_out=[4, 5]),
    )
    show = ("models", "show", published.version, "--registry", tmp_path / "r")
    shown = json.loads(embup(*show, "--json").stdout)
    assert shown["left_out"] == [4, 5]
    assert shown["transform"]["median_angle"] == 6e-5
    text = embup(*show).stdout
    assert "6.0e-05" in text
    assert re.search(r"left out +2 rows", text)


def test_versions_are_compared_on_the_rows_of_a_source(
    embup: Callable[..., Any], two: Registry, sample_source: SourceFiles
) -> None:
    versions = two.version_names()
    recorded = embup("models", "compare", *versions, "--registry", two.root)
    assert recorded.returncode == 0, recorded.stderr
    assert "warning" in recorded.stderr
    source = sample_source.projected.parent
    result = embup("models", "compare", *versions, "--source", source, "--registry", two.root, "--json")
    found = json.loads(result.stdout)
    assert [one["version"] for one in found["versions"]] == versions
    assert found["rows"] == 600
    for one in found["versions"]:
        assert 0.5 < one["scores"]["test_test"]["r2"] <= 1


def test_old_versions_are_pruned(
    embup: Callable[..., Any], two: Registry, publish_another: Callable[[Registry, int], str]
) -> None:
    older, newer = two.earlier_version(), two.current_version()
    newest = publish_another(two, 8)
    prune = ("models", "prune", "--keep", "0", "--registry", two.root)
    planned = json.loads(embup(*prune, "--dry-run", "--json").stdout)
    assert planned == {
        "removed": [older],
        "dry_run": True,
        "kept": sorted([newest, newer, older], reverse=True),  # by name: they may be of one second
        "reasons": {newest: "in service", newer: "a rollback needs it", older: ""},
    }
    result = embup(*prune)
    assert result.returncode == 0, result.stderr
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines()[1:])
    assert {name: " ".join(verdict.split()) for name, verdict in lines.items()} == {
        newest: "stays in service",
        newer: "stays a rollback needs it",
        older: "removed",
    }
    assert set(two.version_names()) == {newest, newer}


@pytest.mark.parametrize(("phase", "removed"), [("RUNNING", False), ("COMPLETED", True)])
def test_what_a_batch_is_pinned_to_is_not_pruned(
    embup: Callable[..., Any],
    two: Registry,
    publish_another: Callable[[Registry, int], str],
    tmp_path: Path,
    phase: str,
    removed: bool,
) -> None:
    older = two.earlier_version()
    publish_another(two, 8)
    (tmp_path / "history").mkdir()
    with duckdb.connect(str(tmp_path / "history" / "history.duckdb")) as connection:
        connection.execute("CREATE TABLE batch_jobs (model_version VARCHAR, phase VARCHAR)")
        connection.execute("INSERT INTO batch_jobs VALUES (?, ?), (NULL, 'QUEUED')", [older, phase])
    prune = ("models", "prune", "--keep", "0", "--registry", two.root, "--data", tmp_path)
    result = embup(*prune, "--json")
    assert result.returncode == 0, result.stderr
    assert (older in json.loads(result.stdout)["removed"]) is removed
    (tmp_path / "history" / "history.duckdb").write_bytes(b"damaged")
    result = embup(*prune)
    assert result.returncode != 0
    assert "history.duckdb" in result.stderr


def test_an_override_of_the_gate_is_told_and_listed(
    embup: Callable[..., Any],
    registry: Registry,
    publish_another: Callable[[Registry, int], str],
    tmp_path: Path,
) -> None:
    made = Registry(tmp_path / "r")
    first = publish_another(made, 1)
    check = GateCheck("R2 of cosines", False, 0.6, 0.5, "not worse by 0.01", (-0.11, -0.09), 200)
    artifact = made.load_artifact()
    gate = GateResult((check,), 200, first)
    held = made.publish(
        artifact.decoder,
        golden=np.array(artifact.manifest["golden"]["inputs"], np.float32),
        provenance=Provenance("mine", "0" * 64, 600, {}, {}, {"gate": gate.to_json()}),
        promote=False,
    ).version
    shown = embup("models", "show", held, "--registry", made.root)
    assert f"held, compared with {first} on 200 held-out rows" in shown.stdout
    assert "HELD" in shown.stdout
    result = embup("models", "promote", held, "--registry", made.root)
    assert result.returncode == 0, result.stderr
    assert "overrode the gate: R2 of cosines" in result.stderr
    listed = json.loads(embup("models", "history", "--registry", made.root, "--json").stdout)["deployments"]
    assert [(move["how"], move["version"]) for move in listed] == [("publish", first), ("promote", held)]
    assert listed[1]["note"].startswith("overrode the gate: R2 of cosines")
    assert "overrode the gate" in embup("models", "history", "--registry", made.root).stdout


def test_versions_of_batches_that_have_not_ended_are_kept(
    embup: Callable[..., Any], two: Registry, publish_another: Callable[[Registry, int], str], tmp_path: Path
) -> None:
    pinned = two.current_version()
    with service_process(registry=two.root, data=tmp_path / "data", log=tmp_path / "log") as url:
        rows = (
            np.random.default_rng(0).standard_normal((300_000, 32)).astype(np.float32)
        )  # in progress for long
        np.save(tmp_path / "data" / "in.npy", rows)
        submitted = embup("submit", tmp_path / "data" / "in.npy", tmp_path / "data" / "o.txt", "--url", url)
        assert submitted.returncode == 0, submitted.stderr
        for seed in (8, 9):
            publish_another(two, seed)
        two.promote(two.version_names()[0])
        prune = ("models", "prune", "--keep", "0", "--no-quarterly", "--registry", two.root, "--json")
        assert pinned in json.loads(embup(*prune, "--dry-run").stdout)["removed"]
        result = json.loads(embup(*prune, "--service", url).stdout)
        assert pinned in result["kept"]
        assert result["removed"]


@pytest.mark.parametrize("command", ["show", "compare", "history", "prune", "promote", "rollback", "verify"])
def test_each_subcommand_explains_itself(embup: Callable[..., Any], command: str) -> None:
    result = embup("models", command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Usage: embup models {command} ")


def test_versions_that_share_a_basis_are_named(
    embup: Callable[..., Any], anchored_registry: Registry, tmp_path: Path
) -> None:
    shutil.copytree(anchored_registry.root, tmp_path / "r")
    published = Registry(tmp_path / "r")
    artifact = published.load_artifact()
    again = publish_with_anchors(published, artifact, artifact.anchors) if artifact.anchors else None
    assert again is not None
    alone = published.publish(
        artifact.decoder,
        golden=np.array(artifact.manifest["golden"]["inputs"], np.float32),
        provenance=Provenance("mine", "0" * 64, 800, {}, {}, {}),
    )
    basis = published.read_basis(artifact.version)
    assert basis is not None
    grown = published.publish(
        artifact.decoder,
        golden=np.array(artifact.manifest["golden"]["inputs"], np.float32),
        provenance=Provenance(
            "mine",
            "0" * 64,
            800,
            {},
            {},
            {},
            basis=replace(
                basis,
                landmarks=np.concatenate([basis.landmarks, basis.landmarks[:1]]),
                coordinates=np.concatenate([basis.coordinates, basis.coordinates[:1]]),
            ),
        ),
    )
    listed = json.loads(embup("models", "--registry", published.root, "--json").stdout)["models"]
    ids = {model["version"]: model["basis"] for model in listed}
    assert ids[artifact.version] == ids[again.version] == artifact.manifest["basis"]["id"]
    assert ids[alone.version] is None
    assert ids[again.version] in embup("models", "--registry", published.root).stdout
    assert ids[grown.version] not in (None, ids[again.version])
    for version, others in (
        (again.version, {artifact.version, grown.version}),
        (grown.version, {artifact.version, again.version}),
        (alone.version, set()),
    ):
        shown = embup("models", "show", version, "--registry", published.root, "--json")
        assert set(json.loads(shown.stdout)["comparable_with"]) == others
    shown = embup("models", "show", again.version, "--registry", published.root).stdout
    (line,) = (line for line in shown.splitlines() if line.startswith("comparable with"))
    assert artifact.version in line
