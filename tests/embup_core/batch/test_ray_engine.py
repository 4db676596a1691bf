"""Ray beside others: a connection that is there already, a cluster without a free core, a bare error."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from embup_core.batch import ray_engine
from embup_core.batch.ray_engine import cluster, spread

if TYPE_CHECKING:
    from pathlib import Path

ray = pytest.importorskip("ray")


def test_an_error_without_a_message_is_named() -> None:
    assert "MemoryError" in str(ray_engine._failed("a.npy", MemoryError()))


def test_a_connection_is_kept_and_a_wait_for_a_core_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hold(path: Path) -> None:
        deadline_s = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline_s:
            time.sleep(0.05)

    told = tmp_path / "told"
    monkeypatch.setattr(ray_engine, "_NOTICE_S", 0.5)
    monkeypatch.setattr(ray_engine._LOG, "warning", told.write_text)
    with cluster(None, 1):
        with cluster("127.0.0.1:1"):
            pass
        assert ray.is_initialized()
        assert list(spread(str.upper, ["a", "b"])) == ["A", "B"]
        assert not told.exists()
        holding = ray.remote(num_cpus=1)(hold).remote(told)
        assert list(spread(str.upper, ["a"])) == ["A"]
        ray.get(holding)
    assert "ray status" in told.read_text()
    assert not ray.is_initialized()
