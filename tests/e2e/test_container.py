"""The container files: what they promise, and that the steps of the service's image make a service that runs.

No engine is needed. The last test takes a minute and runs with `make test-container`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest
import yaml  # type: ignore[import-untyped]  # no stubs are installed

from pipelines.settings import PipelineSettings
from serving.settings import ServingSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from embup_core.artifacts.registry import Registry

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = ("service", "dagster-webserver", "dagster-daemon")
UID = 10001
STARTED_WITHIN_S = 60.0
STOPPED_WITHIN_S = 10.0


class Step(NamedTuple):
    """One instruction of a Dockerfile, its continued lines joined."""

    stage: str
    name: str
    text: str


def dockerfile() -> list[Step]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found, stage = [], ""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.strip().partition(" ")
        if name == "FROM":
            stage = text.split()[-1]
        if name:
            found.append(Step(stage, name, text.strip()))
    return found


STEPS = dockerfile()


def steps(stage: str, name: str) -> list[str]:
    """What an instruction of a stage says, that of the stages it is made from first."""
    (base,) = (step.text.split()[0] for step in STEPS if step.stage == stage and step.name == "FROM")
    below = steps(base, name) if any(step.stage == base for step in STEPS) else []
    return below + [step.text for step in STEPS if step.stage == stage and step.name == name]


def environment(stage: str) -> dict[str, str]:
    return dict(word.split("=", 1) for text in steps(stage, "ENV") for word in shlex.split(text))


def command(stage: str, name: str) -> list[str]:
    """The words of the last CMD or HEALTHCHECK, which must be in the exec form."""
    words: list[str] = json.loads(re.sub(r"^.*?CMD ", "", steps(stage, name)[-1]))
    return words


def test_hadolint_has_nothing_to_say() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), "--no-color", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (linted.returncode, linted.stdout) == (0, "")


def test_the_compose_file_is_one() -> None:
    checked = subprocess.run(
        [
            Path(sys.executable).with_name("check-jsonschema"),
            "--builtin-schema", "vendor.compose-spec", ROOT / "compose.yaml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_what_is_kept_can_be_set_from_outside() -> None:
    template = (ROOT / "deploy" / "aws" / "template.yaml").read_text()
    of_services = (("dagster-daemon", PipelineSettings), ("service", ServingSettings))
    found = 0
    for service, settings in of_services:
        for name, field in settings.model_fields.items():
            if name.startswith("keep_"):
                variable, found = f"EMBUP_{name.upper()}", found + 1
                passed = COMPOSE["services"][service]["environment"][variable]
                assert passed == f"${{{variable}:-{field.default}}}"
                parameter = name.title().replace("_", "")
                assert f"--env {variable}=${{{parameter}}}" in template
                assert f"  {parameter}:\n    Type: Number\n    Default: {field.default}\n" in template
    assert found == 4


def test_every_image_from_elsewhere_is_pinned_by_its_content() -> None:
    stages = {step.stage for step in STEPS}
    images = [base for step in STEPS if step.name == "FROM" if (base := step.text.split()[0]) not in stages]
    images += [service["image"] for service in COMPOSE["services"].values() if "build" not in service]
    assert len(images) == 3
    for image in images:
        assert re.fullmatch(r"[a-z/]+:v?\d[\w.-]+@sha256:[0-9a-f]{64}", image), image


@pytest.mark.parametrize("stage", ["serving", "pipelines"])
def test_an_image_runs_as_nobody_special_and_says_how_it_is(stage: str) -> None:
    assert steps(stage, "USER") == [f"{UID}:{UID}"]
    assert f"--uid {UID}" in " ".join(steps(stage, "RUN"))
    assert steps(stage, "STOPSIGNAL") == ["SIGTERM"]
    assert steps(stage, "VOLUME") == ["/data"]
    assert command(stage, "CMD")[0] in {"embup", "dagster-webserver"}
    assert command(stage, "HEALTHCHECK")[:3] == ["python", "-I", "-c"]
    assert steps(stage, "ENTRYPOINT") == []
    assert all("secret" not in text.lower() and "key" not in text.lower() for text in steps(stage, "ENV"))


def test_the_services_image_is_the_default_one() -> None:
    assert STEPS[-1].stage == "serving"


@pytest.mark.parametrize(
    ("stage", "extra"), [("build-serving", "s3,serve"), ("build-pipelines", "dagster,notify,s3")]
)
def test_an_image_installs_its_extra_in_the_versions_that_were_tested(stage: str, extra: str) -> None:
    *_, dependencies, code = steps(stage, "RUN")
    assert dependencies.endswith(f"pip install --constraint constraints.txt '.[{extra}]'")
    install, check = code.split("&&")
    assert install.strip().endswith("pip install --no-deps --force-reinstall .")
    assert "mixture_kriging._kernel" in check  # decoding without the extension is three times slower
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extra.split(",")) <= set(extras)


def test_nothing_but_what_is_copied_goes_to_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        word.removeprefix("./")
        for step in STEPS
        if step.name == "COPY" and "--from" not in step.text
        for word in step.text.split()[:-1]
    }
    assert let_in == copied
    assert all((ROOT / name).exists() for name in let_in)


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_can_write_to_its_volumes_alone_and_has_no_privileges(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "cap_add" not in service
    for volume in service["volumes"]:
        source, *_ = volume.split(":")
        assert volume.endswith(":ro") or source in COMPOSE["volumes"], volume
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", OURS)
def test_our_containers_write_to_the_data_volume_and_to_memory(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["volumes"] == ["data:/data"]
    assert [mount.partition(":")[0] for mount in service["tmpfs"]] == ["/tmp"]
    assert service["build"]["target"] == ("serving" if name == "service" else "pipelines")
    assert service["init"] is True


def test_the_service_gets_its_keys_from_a_secret_and_the_time_to_stop() -> None:
    service = COMPOSE["services"]["service"]
    assert service["environment"]["EMBUP_API_KEYS_FILE"] == "/run/secrets/embup_api_keys"
    assert service["secrets"] == ["embup_api_keys"]
    assert int(service["stop_grace_period"].removesuffix("s")) > STOPPED_WITHIN_S
    used = {secret for one in COMPOSE["services"].values() for secret in one.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert "/secrets/" in ignored


def test_drops_registry_and_messages_reach_the_containers_that_need_them() -> None:
    store = {"EMBUP_REGISTRY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"}
    monthly = {"EMBUP_DROPS", "EMBUP_FIRST_MONTH", "EMBUP_NOTIFY_FILE", "EMBUP_DAGSTER_URL"}
    for name in ("dagster-webserver", "dagster-daemon"):
        service = COMPOSE["services"][name]
        assert service["environment"].keys() >= store | monthly
        assert service["environment"]["EMBUP_NOTIFY_FILE"].removeprefix("/run/secrets/") in service["secrets"]
    assert COMPOSE["services"]["service"]["environment"].keys() >= store
    # Without a value a variable is passed on where it is set, and no key stands in the file.
    assert all(COMPOSE["x-store"][name] is None for name in store if name.startswith("AWS_"))
    settings = {f"EMBUP_{name.upper()}" for name in PipelineSettings.model_fields}
    assert monthly <= settings


def test_prometheus_asks_the_service_with_a_key_of_its_own() -> None:
    scraped = yaml.safe_load((ROOT / "monitoring" / "prometheus-compose.yml").read_text())
    (job,) = scraped["scrape_configs"]
    assert job["authorization"] == {"credentials_file": "/run/secrets/embup_read_key"}
    assert COMPOSE["services"]["prometheus"]["secrets"] == ["embup_read_key"]
    assert job["static_configs"] == [{"targets": ["service:8000"]}]
    assert COMPOSE["services"]["service"]["environment"]["EMBUP_ALLOWED_HOSTS"] == "service"


# In a mount namespace of its own: the data folder stays as it is, the interpreter is put where the image's
# user may reach it, everything else becomes read-only.
READ_ONLY = """
mount --bind "$0" "$0"
if [ -n "$3" ]; then
  mount --bind "$2" "$1"
  mount -t tmpfs -o mode=755 tmpfs "$3"
  mkdir -p "$2"
  mount --bind "$1" "$2"
fi
mount -o remount,ro,bind /
[ ! -d /dev/shm ] || mount -t tmpfs -o mode=1777 tmpfs /dev/shm
shift 3
exec "$@"
"""


class Image:
    """The service's image without an engine: its files below a folder, its steps run as they stand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        folder.chmod(0o755)
        for name in ("src", "opt", "data", "bin", "hold"):
            (folder / name).mkdir()
        # The base image's python. A script, not a link: a link would look for its library beside itself.
        python = folder / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(os.path.realpath(sys.executable))} "$@"\n')
        python.chmod(0o755)

    def here(self, text: str) -> str:
        """Put the image's folders below ours."""
        return re.sub(r"(?<![\w.])/(src|opt|data)\b", rf"{self.folder}/\1", text)

    def variables(self, stage: str) -> dict[str, str]:
        """The environment that an image has, and what this machine's pip needs."""
        own = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}
        found = own | {name: self.here(value) for name, value in environment(stage).items()}
        path = found.get("PATH", "/usr/bin:/bin").replace("/usr/local/bin", str(self.folder / "bin"))
        return found | {"PATH": f"{path}:{self.folder / 'bin'}", "HOME": "/nonexistent", "LANG": "C.UTF-8"}

    def build(self, stage: str) -> None:
        """Run a stage's steps: copy, and run what it runs."""
        place = self.folder
        variables = self.variables(stage) | {"HOME": os.environ.get("HOME", "/")}  # for pip's configuration
        for step in STEPS:
            if step.stage != stage:
                continue
            if step.name == "WORKDIR":
                place = Path(self.here(step.text))
            elif step.name == "COPY":
                *sources, target = step.text.split()
                for source in sources:
                    self._copy(ROOT / source, place / target)
            elif step.name == "RUN":
                ran = subprocess.run(
                    ["/bin/sh", "-c", self.here(step.text)],
                    cwd=place, env=variables, capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert ran.returncode == 0, f"{step.text}\n{ran.stdout}\n{ran.stderr}"

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        if source.is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "*.pyc", "*.so", "*.egg-info")
            shutil.copytree(source, target, ignore=left_out)
        else:
            target.mkdir(exist_ok=True)
            shutil.copy(source, target)

    def confined(self, words: list[str]) -> list[str]:
        """Run words as the image's user, without a privilege; only the data folder can be written to."""
        privileges = ["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]
        return [
            "unshare", "--mount", "--propagation", "private",
            "sh", "-ec", READ_ONLY,
            str(self.data), str(self.folder / "hold"), sys.base_prefix, closed_folder(),
            "setpriv", f"--reuid={UID}", f"--regid={UID}", *privileges, "--", *words,
        ]  # fmt: skip


def closed_folder() -> str:
    """Give the highest folder on the way to the interpreter that only its owner may enter; or nothing."""
    way = reversed([Path(sys.base_prefix), *Path(sys.base_prefix).parents])
    return next((str(folder) for folder in way if not folder.stat().st_mode & 0o001), "")


def can_confine() -> str:
    """Say why nothing can be confined here; empty when it can."""
    if os.geteuid() != 0:
        return "only root may become the image's user"
    tried = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "no mount namespace of one's own here"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    if os.environ.get("EMBUP_CONTAINER_TEST") != "1":
        pytest.skip("installs for a minute: make test-container")
    if reason := can_confine():
        pytest.skip(reason)
    # Not below pytest's own folder, which nobody but root may enter.
    folder = Path(f"/var/tmp/embup-image-{os.getpid()}")
    folder.mkdir()
    try:
        made = Image(folder)
        made.build("build-serving")
        shutil.rmtree(folder / "src")  # the image has none of it
        yield made
    finally:
        shutil.rmtree(folder)


@pytest.mark.timeout(900)
def test_the_steps_of_the_services_image_make_a_service_that_runs(image: Image, registry: Registry) -> None:
    shutil.copytree(registry.root, image.data / "registry")
    key = "embup_" + "k" * 43
    (image.folder / "keys").write_text(f"probe admin {hashlib.sha256(key.encode()).hexdigest()}\n")
    for path in (image.data, *image.data.rglob("*")):
        os.chown(path, UID, UID)
    port = 18_431
    variables = image.variables("serving") | {
        "EMBUP_API_KEYS_FILE": str(image.folder / "keys"),
        "EMBUP_PORT": str(port),
        "EMBUP_SQL_OVER_HTTP": "true",
    }
    probe = [word.replace("8000", str(port)) for word in command("serving", "HEALTHCHECK")]

    def run(words: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            image.confined(words), cwd=image.data, env=variables, capture_output=True, text=True, check=False
        )

    assert run(probe).returncode != 0, "nothing runs yet"
    for forbidden in ("torch", "dagster", "sklearn", "matplotlib"):
        assert "ModuleNotFoundError" in run(["python", "-c", f"import {forbidden}"]).stderr
    assert "Read-only" in run(["touch", str(image.folder / "opt" / "mine")]).stderr
    assert run(["touch", str(image.data / "mine")]).returncode == 0

    log = image.folder / "log"
    with (
        log.open("wb") as printed,
        subprocess.Popen(
            image.confined(command("serving", "CMD")), cwd=image.data, env=variables,
            stdout=printed, stderr=printed,
        ) as service,
    ):  # fmt: skip
        try:
            deadline = time.monotonic() + STARTED_WITHIN_S
            while run(probe).returncode != 0:
                assert service.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            status = Path(f"/proc/{service.pid}/status").read_text()
            assert f"Uid:\t{UID}" in status
            assert re.search(r"CapEff:\t0+\n", status)
            works(f"http://127.0.0.1:{port}", key, image.data)
            stopped = time.monotonic()
            service.send_signal(signal.SIGTERM)
            assert service.wait(30) == 0, log.read_text()
            assert time.monotonic() - stopped < STOPPED_WITHIN_S
        finally:
            service.kill()
    assert "Traceback" not in log.read_text()


def works(url: str, key: str, data: Path) -> None:
    """A service answers a vector, a batch and a statement."""
    row = [1.0] + [0.0] * 31
    (data / "in.txt").write_text(",".join(map(str, row)) + "\n")
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30) as http:
        assert http.get("/health/ready").status_code == 200
        assert len(http.post("/v1/upsample", json={"embedding": row}).json()["embedding"]) == 1536
        for ending in ("txt", "parquet"):
            paths = {"input_filepath": "in.txt", "output_filepath": f"out.{ending}"}
            batch = http.post("/v1/batches", json=paths).json()["batch_request_id"]
            deadline = time.monotonic() + STARTED_WITHIN_S
            while http.get(f"/v1/batches/{batch}").json()["status"] == "IN PROGRESS":
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert http.get(f"/v1/batches/{batch}").json()["status"] == "COMPLETED"
        asked = http.post("/v1/sql", json={"statement": "select count(*) from batch_jobs"})
        assert asked.status_code == 200, asked.text
