"""What a year runs in: an S3 server with a bucket, a receiver of messages, and Dagster with its records."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, NoReturn

import dagster as dg
import httpx

from benchmarks.year.outcome import MonthOutcome
from embup_core.artifacts.remote import open_registry
from embup_core.drops import open_drops
from embup_core.drops.month import training_folder
from pipelines.definitions import build_defs
from pipelines.instance import prepare_dagster_home
from pipelines.settings import PipelineSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from embup_core.drops import DropsFolder

BUCKET: Final = "embup-year"
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LATE_DAY: Final = 6
"""Day of a month on which its drop is looked for in vain."""


@contextmanager
def s3_server() -> Iterator[None]:
    """Run moto's S3 server with an empty bucket, and let this process' environment lead to it."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    given = {
        "AWS_ACCESS_KEY_ID": "year",
        "AWS_SECRET_ACCESS_KEY": "year",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
    }
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        httpx.put(f"http://127.0.0.1:{port}/{BUCKET}").raise_for_status()
        yield
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def message_receiver() -> Iterator[tuple[str, list[str]]]:
    """Run a webhook; give its address as apprise names it, and the titles that come in."""
    titles: list[str] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            titles.append(json.loads(content)["title"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"json://127.0.0.1:{server.server_port}/", titles
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class World:
    """Dagster on drops and a registry in a bucket.

    Parameters
    ----------
    folder
        Of the data folder, with Dagster's records: `make dev DATA=FOLDER/data` shows the year.
    instance
        Those records.
    messages
        Titles of messages, as they come in.
    settings
        Of the pipeline.
    """

    def __init__(
        self, folder: Path, instance: dg.DagsterInstance, messages: list[str], settings: PipelineSettings
    ) -> None:
        self.folder, self.instance, self.messages, self.settings = folder, instance, messages, settings

    @classmethod
    @contextmanager
    def start(cls, folder: Path, *, decoder: str, output_dims: int, first_month: str) -> Iterator[World]:
        """Start all of it, with nothing delivered yet."""
        data = folder / "data"
        with ExitStack() as running:
            running.enter_context(s3_server())
            address, titles = running.enter_context(message_receiver())
            addresses = folder / "addresses"
            addresses.write_text(address + "\n")
            addresses.chmod(0o600)
            instance = running.enter_context(dg.DagsterInstance.from_config(str(prepare_dagster_home(data))))
            settings = PipelineSettings(
                drops=f"s3://{BUCKET}/monthly",
                registry=f"s3://{BUCKET}/registry",
                data=data,
                notify_file=addresses,
                first_month=first_month,
                decoder=decoder,
                output_dims=output_dims,
            )
            yield cls(folder, instance, titles, settings)

    def place(self) -> DropsFolder:
        """The place of drops, as it is now in the bucket."""
        return open_drops(self.settings.drops, cache=self.folder / "deliverer")

    def registry(self) -> Registry:
        """The registry, opened by somebody else than the pipeline."""
        return open_registry(self.settings.registry, self.folder / "other-cache")

    def training_set(self, month: str) -> Path:
        """Folder of a month's training set."""
        return training_folder(self.settings.data, month)

    def look_for_late(self, month: str) -> None:
        """Let the schedule look on a day on which the drop of a month is due."""
        defs = build_defs(self.settings)
        day = datetime.fromisoformat(f"{month}-{LATE_DAY:02d}").replace(tzinfo=UTC)
        context = dg.build_schedule_context(self.instance, scheduled_execution_time=day)
        requests = defs.get_repository_def().get_schedule_def("late_drop").evaluate_tick(context).run_requests
        for request in requests or _nothing("the schedule"):
            defs.resolve_job_def("late_drop").execute_in_process(
                instance=self.instance, tags=dict(request.tags), run_config=QUIET, raise_on_error=False
            )

    def run(self, number: int, *, decoder: str | None = None, rival: str = "") -> MonthOutcome:
        """Let the sensor see the one new drop, and run what it asks for.

        Parameters
        ----------
        number
            Of the month.
        decoder
            Instead of the usual one.
        rival
            Version that another publisher puts into service while this month is trained.
        """
        changed = {} if decoder is None else {"decoder": decoder}
        defs = build_defs(self.settings.model_copy(update=changed))
        started_s, said = time.monotonic(), len(self.messages)
        (request,) = self._requests(defs)
        race = threading.Thread(target=self._promote_in_training, args=(request.partition_key, rival))
        if rival:
            race.start()
        result = defs.resolve_job_def("monthly").execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            run_config=QUIET,
            raise_on_error=False,
        )
        if rival:
            race.join()
        seconds = time.monotonic() - started_s
        month = str(request.partition_key)
        report = self.place().report(month) or _nothing(f"a verdict on {month}")
        found = {
            name: {key: value.value for key, value in one.metadata.items()}
            for name in ("training_set", "monthly_decoder")
            for one in (result.asset_materializations_for_node(name) if result.success else ())
        }
        sizes, trained = found.get("training_set", {}), found.get("monthly_decoder", {})
        return MonthOutcome(
            number=number,
            name=month,
            report=report,
            decision=str(trained.get("decision", "failed" if report.accepted else "refused")),
            seconds=seconds,
            messages=tuple(self.messages[said:]),
            in_service=self.registry().current_version() if number > 1 or trained else "",
            version=str(trained.get("version", "")),
            rows=int(str(sizes.get("rows", 0))),
            held_out=int(str(sizes.get("held_out_rows", 0))),
            reasons=str(trained.get("reasons", "")),
            overtaken_by=rival,
        )

    def _requests(self, defs: dg.Definitions) -> Sequence[dg.RunRequest]:
        sensor = defs.resolve_sensor_def("drop_delivered")
        drops, repository = (defs.resources or {})["drops"], defs.get_repository_def()
        with dg.build_sensor_context(
            instance=self.instance, resources={"drops": drops}, repository_def=repository
        ) as context:
            return sensor.evaluate_tick(context).run_requests or _nothing("the sensor")

    def _promote_in_training(self, month: str | None, version: str) -> None:
        """Wait until the training set of a month is there, which the training then reads; then promote."""
        folder = self.training_set(str(month))
        while not folder.exists():
            time.sleep(0.05)
        time.sleep(1)  # the training has looked at the registry by now, and goes on for longer
        self.registry().promote(version)


def _nothing(of: str) -> NoReturn:
    raise SystemExit(f"error: expected something of {of}, found nothing")
