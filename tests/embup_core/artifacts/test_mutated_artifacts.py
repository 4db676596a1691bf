"""Thousands of artifacts, each spoilt in one way: none loads, none does worse than be refused.

`EMBUP_MUTATED_ARTIFACTS` says how many (300 unless set); `mutations.py` and `forgeries.py` beside this
file how they are spoilt.
"""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.artifacts.artifact import Provenance, decoder_bytes
from embup_core.artifacts.golden import golden_inputs
from embup_core.artifacts.registry import Registry
from embup_core.decoders.baselines.linear_residual import LinearResidual
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.errors import ArtifactError
from tests.embup_core.artifacts.forgeries import FORGERIES, claimed_version, forged_fields
from tests.embup_core.artifacts.mutations import DAMAGE, Spoiler

if TYPE_CHECKING:
    import numpy as np

    from embup_core.decoders import Decoder

KINDS = (*DAMAGE, *FORGERIES)
COUNT = int(os.environ.get("EMBUP_MUTATED_ARTIFACTS", "300"))
FIRST = int(os.environ.get("EMBUP_MUTATED_ARTIFACTS_FROM", "0"))  # for runs in parts
MEMORY_MB = 300  # of which the largest manifest that is parsed may take 100


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


@pytest.fixture(scope="module")
def spoilers(
    tmp_path_factory: pytest.TempPathFactory, sample_projected: np.ndarray, sample_coordinates: np.ndarray
) -> list[Spoiler]:
    """A regression and a decoder that looks rows up, both small."""
    projected, coordinates = sample_projected[:60], sample_coordinates[:60]
    made = []
    for i, kind in enumerate((LinearResidual, Kriging)):
        folder = tmp_path_factory.mktemp(f"artifacts {i}")
        published = Registry(folder / "published")
        paths = [
            published.publish(
                decoder,
                golden=golden_inputs(projected)[:2],  # fewer are parsed faster
                provenance=Provenance("sample", "0" * 64, 60, {"seed": seed}, {"r2": 0.5}, {"seed": seed}),
                plots={"a.png": b"\x89PNG a plot %d" % seed, "b.png": b"another"},
            ).folder
            for seed, decoder in enumerate(_fitted(kind, projected, coordinates))
        ]
        made.append(Spoiler(folder / "spoilt", *paths))
    return made


def _fitted(kind: Any, projected: np.ndarray, coordinates: np.ndarray) -> list[Decoder]:
    return [kind(mean_dims=2, seed=seed).fit(projected, coordinates) for seed in (0, 1)]


@pytest.mark.timeout(60 + COUNT // 5)
def test_no_mutated_artifact_loads_and_none_does_more_than_be_refused(
    spoilers: list[Spoiler], capsys: pytest.CaptureFixture[str]
) -> None:
    refused: Counter[str] = Counter()
    wrong: list[str] = []
    for spoiler in spoilers:
        assert spoiler.registry.load(spoiler.version).version == spoiler.version
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before_mb = _peak_mb()
    for number in range(FIRST, FIRST + COUNT):
        spoil = KINDS[number % len(KINDS)]
        spoiler = spoilers[number // len(KINDS) % len(spoilers)]
        name = f"{spoil.__name__} {number}"
        spoil(spoiler, random.Random(number))
        folder = spoiler.folder
        try:
            # A forger gives the folder the name that its content asks for. Another date beside the same
            # content, and a folder of that name, would be the same artifact with another valid name.
            forged = spoil in FORGERIES and spoil is not forged_fields
            if forged and (named := claimed_version(spoiler)) != folder.name:
                folder = folder.rename(folder.with_name(named))
            artifact = spoiler.registry.load_artifact(folder.name)
            wrong.append(f"{name} loaded as {artifact.version}")
        except ArtifactError as error:
            refused[spoil.__name__] += bool(str(error))
        except BaseException as error:  # noqa: BLE001 - also what a library written in another language raises
            wrong.append(f"{name} raised {type(error).__name__}: {str(error)[:200]}")
        try:
            if number % 5 == 0:  # with every kind in turn
                spoiler.registry.versions()
        except Exception as error:  # noqa: BLE001
            wrong.append(f"{name}, listed, raised {type(error).__name__}: {str(error)[:200]}")
        if folder != spoiler.folder:
            folder.rename(spoiler.folder)
        spoiler.restore()
    grown_mb = _peak_mb() - before_mb
    if COUNT >= 1000:
        with capsys.disabled():
            told = "".join(f"  {kind:28} {count}\n" for kind, count in refused.items())
            sys.stdout.write(f"\n{told}refused {sum(refused.values())}, peak of memory +{grown_mb:.0f} MB\n")
    for spoiler in spoilers:
        assert spoiler.registry.load(spoiler.version).version == spoiler.version, (
            "the test itself is at fault"
        )
    assert not wrong, f"{len(wrong)} of {COUNT}:\n" + "\n".join(wrong[:40])
    assert sum(refused.values()) == COUNT
    assert grown_mb < MEMORY_MB


def test_what_is_forged_to_be_whole_loads(spoilers: list[Spoiler]) -> None:
    """The test's own forger is able: what it refuses above is refused for what it says."""
    for spoiler in spoilers:
        spoiler.forge(spoiler.manifest)
        assert spoiler.registry.load(spoiler.version).version
        spoiler.restore()
        assert decoder_bytes(spoiler.registry.load_artifact(spoiler.version).decoder) == spoiler.data
