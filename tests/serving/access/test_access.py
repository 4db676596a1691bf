"""API keys: who gets in with which key, which files of keys are taken, and where none are needed."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog

from embup_core.errors import InputError
from serving.access import keys as access
from serving.access.control import OPEN, needed_scope
from serving.access.keys import (
    SCOPES,
    ApiKey,
    ApiKeys,
    new_key,
    parse_keys,
    require_keys_beyond_loopback,
)
from serving.application import assemble
from serving.server import run_server
from serving.services import Services
from serving.settings import ServingSettings
from tests.browser import browser_page, execute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from embup_core.artifacts.registry import Registry

ROW = {"embedding": [0.1] * 32}
DIGEST = hashlib.sha256(b"key").hexdigest()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


class Keys:
    """A file of one key for each scope, and the keys."""

    def __init__(self, file: Path) -> None:
        self.file = file
        made = {scope: new_key(f"the-{scope}-key", [scope]) for scope in SCOPES}
        self.key: dict[str, str] = {scope: key for scope, (key, _) in made.items()}
        self.lines: dict[str, str] = {scope: stored.line() for scope, (_, stored) in made.items()}
        self.write(*self.lines.values())

    def write(self, *lines: str) -> None:
        """Replace the file, as an editor does."""
        new = self.file.with_suffix(".new")
        new.write_text("# keys of a test\n\n" + "\n".join(lines) + "\n")
        new.chmod(0o600)
        new.replace(self.file)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys") / "keys")


@pytest.fixture(scope="module")
def guarded(
    service_class: Any, registry: Registry, tmp_path_factory: pytest.TempPathFactory, keys: Keys
) -> Iterator[Any]:
    """A service with keys; its log never has one, nor a hash of one."""
    data = tmp_path_factory.mktemp("guarded")
    service = service_class(registry.root, data, api_keys_file=keys.file, log_format="json", access_log=True)
    asked = service.http.post("/v1/upsample", json=ROW, headers=bearer(keys.key["realtime"]))
    assert asked.status_code == 200
    yield service
    assert service.end() == 0
    log = service.log.read_text()
    assert '"api_key": "the-realtime-key"' in log
    for key in keys.key.values():
        assert key not in log
        assert hashlib.sha256(key.encode()).hexdigest() not in log


def test_each_key_opens_what_its_scope_says_and_nothing_else(
    guarded: Any, keys: Keys, check: Callable[..., dict[str, Any]]
) -> None:
    """No key and an unknown one: 401. A key without the scope: 403. `admin` opens everything."""
    http = guarded.http
    requests: dict[str, Callable[[dict[str, str]], httpx.Response]] = {
        "realtime": lambda headers: http.post("/v1/upsample", json=ROW, headers=headers),
        "batch": lambda headers: http.post("/v1/batches/none/cancel", headers=headers),
        "read": lambda headers: http.get("/v1/batches", headers=headers),
        "admin": lambda headers: http.post("/v1/models/reload", headers=headers),
    }
    for needed, request in requests.items():
        assert check(request({}), 401)["type"] == "/problems/no-valid-key"
        assert request({}).headers["www-authenticate"] == "Bearer"
        unknown = request(bearer(keys.key["admin"][:-1] + "!"))
        assert "invalid_token" in unknown.headers["www-authenticate"]
        assert keys.key["admin"][:-1] not in check(unknown, 401)["detail"]
        check(request({"Authorization": f"Basic {keys.key['admin']}"}), 401)
        for scope, key in keys.key.items():
            answer = request(bearer(key))
            if scope in {needed, "admin"}:
                assert answer.status_code in {200, 404}, (needed, scope, answer.text)
            else:
                problem = check(answer, 403)
                assert problem["type"] == "/problems/key-without-scope"
                assert f"scope {needed}" in problem["detail"]
    check(http.get("/metrics"), 401)
    assert http.get("/metrics", headers=bearer(keys.key["read"])).status_code == 200
    for path in ("/health/live", "/health/ready", "/docs", "/docs/openapi.json", "/problems/bad-row"):
        assert http.get(path).status_code == 200, path


@pytest.mark.browser
def test_a_person_gives_the_page_of_the_api_a_key_and_sees_the_batches(guarded: Any, keys: Keys) -> None:
    with browser_page() as page:
        page.goto(f"http://127.0.0.1:{guarded.port}/docs#/batches/listBatches")
        shown = execute(page, "batches-listBatches")
        shown.get_by_text("An API key is needed").first.wait_for()
        assert "401" in shown.inner_text()
        page.locator(".auth-wrapper button.authorize").press("Enter")
        page.locator(".auth-container input").fill(keys.key["read"])
        page.locator(".modal-ux button.authorize").press("Enter")
        page.locator(".modal-ux button.btn-done").press("Enter")
        execute(page, "batches-listBatches")
        shown.get_by_text('"batches"').first.wait_for()
        assert "200" in shown.inner_text()


def test_a_request_without_a_key_is_answered_before_its_body_is_there(guarded: Any, keys: Keys) -> None:
    with socket.create_connection(("127.0.0.1", guarded.port), timeout=20) as client:
        client.sendall(
            b"POST /v1/upsample HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b'Content-Length: 100\r\n\r\n{"embedding'
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 401 ")
    metrics = guarded.http.get("/metrics", headers=bearer(keys.key["read"])).text
    assert "embup_gate_realtime_holders 0.0" in metrics
    assert 'route="/v1/upsample",status_code="401"' in metrics.replace('method="POST",', ""), (
        "refusals are counted"
    )


def test_a_changed_file_takes_keys_away_and_a_broken_one_changes_nothing(guarded: Any, keys: Keys) -> None:
    def status(scope: str) -> int:
        answer: httpx.Response = guarded.http.get("/v1/models", headers=bearer(keys.key[scope]))
        return answer.status_code

    assert (status("read"), status("admin")) == (200, 200)
    keys.write(keys.lines["admin"])
    guarded.until(lambda: status("read") == 401)
    assert status("admin") == 200
    keys.write("this is no key")
    guarded.until(lambda: "the API keys stay as they were" in guarded.log.read_text())
    assert (status("read"), status("admin")) == (401, 200)
    keys.file.unlink()
    guarded.until(lambda: "cannot be read" in guarded.log.read_text())
    assert status("admin") == 200
    keys.write(*keys.lines.values())
    guarded.until(lambda: status("read") == 200)
    assert "this is no key" not in guarded.log.read_text()


def test_a_stream_ends_when_its_key_is_taken_away(guarded: Any, keys: Keys) -> None:
    admin = bearer(keys.key["admin"])
    target = guarded.data / "followed.txt"
    body = {"input_filepath": str(guarded.write_input("in.txt", 30_000)), "output_filepath": str(target)}
    submitted = guarded.http.post("/v1/batches", json=body, headers=admin)
    job = f"/v1/batches/{submitted.json()['batch_request_id']}"
    address = f"http://127.0.0.1:{guarded.port}"

    def without_the_key() -> Iterator[bytes]:
        """Half a realtime request, which holds the gate; the other half once the key is gone."""
        yield b'{"embedding": [1'
        guarded.until(lambda: guarded.http.get(job, headers=admin).json()["phase"] == "PAUSED")
        keys.write(keys.lines["admin"], keys.lines["realtime"])
        guarded.until(lambda: guarded.http.get(job, headers=bearer(keys.key["read"])).status_code == 401)
        yield b",1" * 31 + b"]}"

    with (
        httpx.Client(base_url=address, headers=bearer(keys.key["read"])) as reader,
        reader.stream("GET", f"{job}/events") as events,
    ):
        headers = bearer(keys.key["realtime"]) | {"Content-Type": "application/json"}
        asked = httpx.post(f"{address}/v1/upsample", content=without_the_key(), headers=headers)
        seen = [line for line in events.iter_lines() if line.startswith("data:")]
    keys.write(*keys.lines.values())
    assert asked.status_code == 200
    assert seen
    assert not any("COMPLETED" in line for line in seen), "it ended before the batch did"
    guarded.until(lambda: guarded.http.get(job, headers=admin).json()["phase"] == "COMPLETED")
    guarded.until(lambda: guarded.http.get(job, headers=bearer(keys.key["read"])).status_code == 200)


def test_a_key_taken_away_in_a_bad_moment_is_gone_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the file is read for the first time; and when it cannot be read for once."""
    keys = Keys(tmp_path / "keys")
    read, reads = access._read, 0

    def read_in_a_bad_moment(file: Path) -> tuple[ApiKey, ...]:
        nonlocal reads
        reads += 1
        if reads == 2:
            try:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            except OSError as error:
                raise InputError("cannot be read") from error
        found = read(file)
        if reads == 1:
            keys.write(keys.lines["admin"])
        return found

    monkeypatch.setattr(access, "_read", read_in_a_bad_moment)
    monkeypatch.setattr(access, "LOOK_AGAIN_S", 0.01)

    async def story() -> None:
        found = ApiKeys.of(ServingSettings(api_keys_file=keys.file))
        assert found is not None
        assert len(found.keys) == len(keys.lines)
        async with found.kept_fresh(), asyncio.timeout(20):
            while len(found.keys) > 1:
                await asyncio.sleep(0.01)
        assert [key.name for key in found.keys] == ["the-admin-key"]

    asyncio.run(story())


def test_no_batch_reads_or_replaces_the_keys(
    serve: Callable[..., Any], tmp_path: Path, check: Callable[..., dict[str, Any]]
) -> None:
    """Refusing a row quotes it; and a file of keys that is replaced locks everybody out at the next start."""
    keys = Keys(tmp_path / "keys")
    service = serve(batch_roots=tmp_path, api_keys_file=keys.file)
    source = service.write_input("in.txt", 2)
    for wanted in (
        {"input_filepath": "keys", "output_filepath": "out.txt"},
        {"input_filepath": str(source), "output_filepath": "keys", "overwrite": True},
    ):
        answer = service.http.post("/v1/batches", json=wanted, headers=bearer(keys.key["batch"]))
        assert "the service's own state" in check(answer, 422)["detail"]


def test_keys_from_the_environment_are_taken_too(serve: Callable[..., Any]) -> None:
    reader, reading = new_key("reader", ["read"])
    other, others = new_key("other", ["realtime", "read"])
    service = serve(api_keys=f"{reading.line()}; {others.line()}")
    assert service.http.get("/v1/models").status_code == 401
    for key in (reader, other):
        assert service.http.get("/v1/models", headers=bearer(key)).status_code == 200


def test_every_handler_says_who_may_use_it(tmp_path: Path) -> None:
    """A handler without `access` would need admin; this one says which forgot."""
    app = assemble(Services(ServingSettings(registry=tmp_path, data=tmp_path)))
    handlers = {
        f"{'/'.join(sorted(handler.http_methods))} {route.path}": handler
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        if handler.http_methods != {"OPTIONS"}
    }
    assert len(handlers) > 12
    silent = [name for name, handler in handlers.items() if "access" not in handler.opt]
    assert not silent, silent
    assert {needed_scope(handler) for handler in handlers.values()} <= {OPEN, *SCOPES}
    for name, handler in handlers.items():
        # Whoever logs in has no key yet, and the form of either needs the token of a page.
        if not name.startswith("GET") and name not in {"POST /console/login", "POST /console/logout"}:
            assert needed_scope(handler) not in {OPEN, "read"}, name


def test_the_description_has_the_scope_of_each_operation_that_needs_a_key(shared_service: Any) -> None:
    described = shared_service.http.get("/docs/openapi.json").json()
    assert described["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    for path, operations in described["paths"].items():
        for operation in operations.values():
            is_open = path.startswith("/health")
            assert operation.get("security", []) == ([] if is_open else [{"apiKey": []}]), path
            assert ("401" in operation["responses"]) is not is_open
            assert ("API keys: scope `" in operation["description"]) is not is_open


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"name read {DIGEST} more", "4 words"),
        ("name read", "2 words"),
        (f"na/me read {DIGEST}", "a name of"),
        (f"name write {DIGEST}", "scopes among"),
        (f"name , {DIGEST}", "scopes among"),
        (f"name read {DIGEST[1:]}", "64 hexadecimal"),
        ("name read embup_secret", "a key itself"),
        (f"first read {'0' * 64}", "name of its own"),
        (f"name read {DIGEST}\nother read {DIGEST}", "stands above"),
    ],
)
def test_a_line_that_is_no_key_is_refused_with_its_number_and_without_its_content(
    line: str, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        parse_keys(f"# comment\n\nfirst read {'1' * 64}\n{line}", "the file")
    assert said in str(refused.value)
    assert f"the file, line {4 + line.count(chr(10))}: " in str(refused.value)
    assert DIGEST[1:] not in str(refused.value)
    assert "secret" not in str(refused.value)


def refused_start(data: Path, **settings: Any) -> str:
    """Start in this process, and put back what it sets there: how lines are logged."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        with pytest.raises(InputError) as refused:
            run_server(ServingSettings(registry=data, data=data, port=0, **settings))
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        structlog.reset_defaults()
    return str(refused.value)


def own_address() -> str:
    """The address of this machine's name; a loopback one where the name leads nowhere."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", own_address()])
def test_other_machines_are_not_served_without_keys(tmp_path: Path, host: str) -> None:
    if host.startswith("127."):
        pytest.skip("this machine has no address of its own")
    assert "Expected API keys" in refused_start(tmp_path, host=host)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_addresses_need_no_keys(address: str) -> None:
    require_keys_beyond_loopback(address, None)


def test_a_file_of_keys_that_cannot_be_trusted_is_refused_at_the_start(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    assert "cannot be read" in refused_start(tmp_path, api_keys_file=tmp_path / "missing")
    keys.file.chmod(0o660)
    assert "chmod go-w" in refused_start(tmp_path, api_keys_file=keys.file)
    keys.write("# none")
    assert "at least one API key" in refused_start(tmp_path, api_keys_file=keys.file)
    assert "both set" in refused_start(tmp_path, api_keys_file=keys.file, api_keys="x")
    assert "EMBUP_API_KEYS, line 1" in refused_start(tmp_path, api_keys="no key at all")


def test_with_keys_other_machines_are_served_by_address(serve: Callable[..., Any], keys: Keys) -> None:
    """On all addresses any address is a name of the service, a foreign host name is not."""
    service = serve(host="0.0.0.0", api_keys_file=keys.file, allowed_hosts="embup.example.org")
    known = ["127.0.0.1", f"localhost:{service.port}", "10.1.2.3:8000", "[fe80::1]", "EMBUP.example.org:443"]
    for host in known:
        assert service.http.get("/health/live", headers={"Host": host}).status_code == 200, host
    for host in ("example.org", "evil.embup.example.org", "10.1.2.3.nip.io", "127.0.0.1.evil.test"):
        assert service.http.get("/health/live", headers={"Host": host}).status_code == 421, host


def test_a_new_key_is_found_by_its_line_alone() -> None:
    key, stored = new_key("ci", ["read", "realtime"])
    assert key.startswith("embup_")
    assert len(key) >= 48
    assert stored.line().split() == ["ci", "realtime,read", hashlib.sha256(key.encode()).hexdigest()]
    known = ApiKeys(parse_keys(stored.line(), "here"))
    assert known.find(key.encode()) == stored
    assert known.find(key.encode() + b"x") is None
