"""`embup demo`: the report holds what was measured, a second run works, and nothing keeps running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from embup.cli.demo import check_output
from embup_client import Upsampled
from embup_core.errors import JobError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from embup_core.sources import SourceFiles
    from embup_core.upsampler import Upsampler

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def source(sample_source: SourceFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two-files")
    (folder / "projected_train_embs.npy").symlink_to(sample_source.projected)
    (folder / "og_train_cos_theta.npy").symlink_to(sample_source.cosines)
    return folder


def _processes_on(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in argument for argument in process.info["cmdline"] or ())
    ]


@pytest.mark.slow
def test_it_reports_what_it_measured_and_runs_again(script: Path, source: Path, tmp_path: Path) -> None:
    for option in ("--json", None):
        result = subprocess.run(
            [
                script,
                "demo",
                "--source",
                source,
                "--decoder",
                "auto",
                "--rows",
                "600",
                "--work",
                tmp_path,
                *([option] if option else []),
            ],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr
        assert "curl http://127.0.0.1:" in result.stderr
        assert not _processes_on(tmp_path)
        if option:
            report = json.loads(result.stdout)
            assert report["checked_rows"] == report["batch_rows"] == 600
            assert report["worst_length_error"] <= 1e-6
            assert report["worst_difference_to_realtime"] <= 1e-6
            assert report["realtime_alone"]["p99_ms"] >= report["realtime_alone"]["p50_ms"] > 0
            assert report["realtime_beside_batch"]["requests"] > 0
        else:
            for word in (
                "kriging",
                "beside the batch",
                "rows/s",
                "http://127.0.0.1:3000",
                "http://127.0.0.1:8000",
            ):
                assert word in result.stdout


@pytest.mark.slow
def test_an_interrupt_stops_the_service_too(script: Path, source: Path, tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            *(script, "demo", "--source", source, "--decoder", "kriging"),
            *("--rows", "100000", "--work", tmp_path),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        assert demo.stderr
        for line in demo.stderr:
            if line.startswith("4/5"):
                break
        time.sleep(0.5)
        serving = [process for process in _processes_on(tmp_path) if "serve" in process.cmdline()]
        demo.send_signal(signal.SIGINT)
        _, errors = demo.communicate(timeout=60)
    assert serving
    assert demo.returncode == 130
    assert "Traceback" not in errors
    assert not _processes_on(tmp_path)


class _Answers:
    """Realtime answers without a service: what is checked here is the check."""

    def __init__(self, upsampler: Upsampler) -> None:
        self._upsampler = upsampler

    def upsample(self, embedding: NDArray[np.float32]) -> Upsampled:
        rows, _ = self._upsampler.upsample(embedding[None])
        return Upsampled(rows[0].tolist(), self._upsampler.version)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda rows: rows, None),
        (lambda rows: rows[:-1], "expected 40 lines, found 39"),
        (lambda rows: np.concatenate([rows[:7], rows[7:8] * 0.99, rows[8:]]), "line 8 is not a unit vector"),
        (
            lambda rows: np.concatenate([rows[:20], rows[20:21] * np.nan, rows[21:]]),
            "line 21 is not a unit vector",
        ),
        (lambda rows: rows[[0, 1, 3, 2, *range(4, 40)]], "line 3 is not the answer"),
    ],
    ids=["right", "a line missing", "not unit", "not numbers", "out of order"],
)
def test_the_check_of_the_output_finds_what_is_wrong(
    spoil: Callable[[Any], Any], complaint: str | None, upsampler: Upsampler, tmp_path: Path
) -> None:
    projected = np.random.default_rng(0).standard_normal((40, 32)).astype(np.float32)
    decoded, _ = upsampler.upsample(projected)
    output = tmp_path / "output.txt"
    np.savetxt(output, spoil(decoded), fmt="%.8f", delimiter=",")
    service: Any = _Answers(upsampler)
    if complaint is None:
        assert check_output(output, projected, service, output_dims=1536)["checked_rows"] == 40
    else:
        with pytest.raises(JobError, match=complaint):
            check_output(output, projected, service, output_dims=1536)
