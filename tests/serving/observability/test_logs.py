"""JSON logs: a line is an object, says what it is about, and never has a number of a vector in it."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.upsampler import Upsampler


ODDITIES = ("7.71531864e39", "8.86425319", "0.97531864x", "9.75319864e39", "0.86420975,")
"""Numbers of rows that are refused."""


def lines_of(service: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in service.log.read_text().splitlines()]


def test_no_number_of_a_vector_is_logged_whatever_is_refused(
    serve: Callable[..., Any], rows: Callable[..., Any], upsampler: Upsampler
) -> None:
    service = serve(log_format="json", log_level="debug", access_log=True)
    z = rows(40)
    for body in (
        {"embedding": z[0].tolist()},
        {"embeddings": z[:20].tolist()},
        {"embedding": [*z[1][:31].tolist(), float(ODDITIES[0])]},
        {"embedding": [*z[1][:31].tolist(), ODDITIES[1]]},
        {"embedding": z[1][:31].tolist()},
    ):
        service.http.post("/v1/upsample", json=body)
    good = 3 * "".join(",".join(f"{value:.8f}" for value in row) + "\n" for row in z)
    for number, odd in enumerate(ODDITIES[2:]):
        text = good + ",".join(f"{value:.8f}" for value in z[3][:31]) + f",{odd}\n"
        (service.data / f"bad{number}.txt").write_text(text)
        for on_bad_row in ("fail", "nan"):
            final = service.final(
                service.submit(f"bad{number}.txt", f"{number}.{on_bad_row}.txt", on_bad_row=on_bad_row)
            )
            assert final["phase"] == ("FAILED" if on_bad_row == "fail" else "COMPLETED")
    assert service.end() == 0
    log = service.log.read_text()
    assert len(lines_of(service)) > 30
    answers, _ = upsampler.upsample(z.astype("float32"))
    for value in (*z.ravel(), *answers[:5].ravel()):
        digits = f"{abs(value):.8f}".partition(".")[2][:7]  # one more than those of a time
        assert digits not in log, digits
    assert "7.71532" not in log, "as it is told to the client"
    for digits in (odd.strip("x,.e")[2:9] for odd in ODDITIES):
        assert digits not in log, digits
    failed = [line for line in lines_of(service) if line["event"] == "job failed"]
    assert {line["error_code"] for line in failed} == {"bad_row"}
    assert {line["error"] for line in failed} == {"line 121 of the input"}


def test_lines_name_the_batch_and_the_decoder(serve: Callable[..., Any], upsampler: Upsampler) -> None:
    service = serve(log_format="json", access_log=True)
    job = service.submit(service.write_input("in.txt", 20), "out.txt")
    assert service.final(job)["phase"] == "COMPLETED"
    service.http.get("/nowhere", headers={"X-Request-Id": "my-request"})
    service.end()
    lines = lines_of(service)
    of_the_batch = [line for line in lines if line["event"].startswith(("job ", "batch worker"))]
    assert {line["event"] for line in of_the_batch} == {
        "job started", "batch worker started", "job finalizing", "job completed",
    }  # fmt: skip
    assert {line["batch_request_id"] for line in of_the_batch} == {job}
    assert {line["model_version"] for line in lines} == {upsampler.version}
    requests = [line for line in lines if line["event"] == "request"]
    assert requests[0]["path"] == "/v1/batches"
    assert (requests[-1]["path"], requests[-1]["request_id"]) == ("/nowhere", "my-request")
    assert len({line["request_id"] for line in requests}) == len(requests)


def test_what_the_worker_says_is_json_too(serve: Callable[..., Any]) -> None:
    """A helper is killed: its worker says so, and ends."""
    service = serve(log_format="json", batch_processes=2, checkpoint_interval_s=0.05)
    job = service.submit(service.write_input("in.txt", 30_000), "out.txt")

    def helper() -> psutil.Process | None:
        found = psutil.Process(service.process.pid).children(recursive=True)
        return found[1] if len(found) == 2 and service.status(job)["num_records_processed"] else None

    os.kill(service.until(helper).pid, signal.SIGKILL)
    service.until(lambda: service.status(job)["worker_deaths"])
    service.http.post(f"/v1/batches/{job}/cancel")
    service.end()
    (said,) = [line for line in lines_of(service) if line["event"] == "the batch worker ends"]
    assert said["batch_request_id"] == job
    assert said["logger"] == "embup.serving.jobs.worker"
    assert said["level"] == "error"
    assert said["model_version"]


def test_a_console_is_told_nothing_that_it_would_obey(serve: Callable[..., Any]) -> None:
    service = serve(log_format="console", access_log=True)
    service.http.get("/%1b%5d0;mine%07/%c2%9b31m/%e2%80%ae")
    service.http.get("/mine%0d%0ainvented=line")
    assert service.end() == 0
    log = service.log.read_text()
    assert all(line.isprintable() for line in log.splitlines())
    escaped, whole = (line for line in log.splitlines() if "mine" in line)
    assert r"path=/\x1b]0;mine\x07/\x9b31m/\u202e" in escaped
    assert "invented=line" in whole
