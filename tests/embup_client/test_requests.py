"""What goes over the wire, and what does not: the key, the address, the same methods for both clients."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from embup_client import AsyncClient, Client, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "a-key-of-mine"


@pytest.mark.parametrize(
    ("call", "path"),
    [
        pytest.param(lambda client: client.promote("v/1"), "/v1/models/v%2F1/promote", id="promote"),
        pytest.param(lambda client: client.rollback(), "/v1/models/rollback", id="rollback"),
        pytest.param(lambda client: client.reload(), "/v1/models/reload", id="reload"),
    ],
)
def test_models_are_changed_by_a_request(
    connect: type[Client], scripted: Any, answer: Any, call: Callable[[Client], Any], path: str
) -> None:
    server = scripted(answer.of({"model_version": "2", "previous_version": "1", "changed": True}))
    with connect(server.url) as client:
        changed = call(client)
    assert (changed.model_version, changed.previous_version, changed.changed) == ("2", "1", True)
    assert [(seen.method, seen.path, seen.body) for seen in server.seen] == [("POST", path, b"")]


def test_the_key_goes_with_every_request(connect: type[Client], scripted: Any, answer: Any) -> None:
    server = scripted(answer.of({"status": "alive"}))
    with connect(server.url, api_key=KEY) as client:
        client.live()
        assert KEY not in repr(client)
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_key_and_the_address_may_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, connect: type[Client], scripted: Any, answer: Any
) -> None:
    server = scripted(answer.of({"status": "alive"}))
    monkeypatch.setenv("EMBUP_API_KEY", f"{KEY}\n")
    monkeypatch.setenv("EMBUP_SERVICE_URL", f"{server.url}/")
    with connect() as client:
        client.live()
    with connect(api_key="") as client:
        client.live()
    monkeypatch.delenv("EMBUP_API_KEY")
    with connect() as client:
        client.live()
    sent = [request.headers.get("authorization") for request in server.seen]
    assert sent == [f"Bearer {KEY}", None, None]


def test_a_key_that_cannot_be_sent_is_not_shown() -> None:
    with pytest.raises(InvalidArgumentError) as raised:
        Client("http://127.0.0.1:9", api_key=f"{KEY}ü{KEY}")
    assert KEY not in str(raised.value)


def test_a_service_below_a_path_is_found(scripted: Any, answer: Any) -> None:
    server = scripted(answer.of({"status": "alive"}))
    with Client(f"{server.url}/embup/") as client:
        client.live()
    assert server.seen[0].path == "/embup/health/live"


def test_variables_for_proxies_are_not_looked_at(
    monkeypatch: pytest.MonkeyPatch, connect: type[Client], scripted: Any, answer: Any
) -> None:
    """A service of one's own machine must not be asked through another."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = scripted(answer.of({"status": "alive"}))
    with connect(server.url) as client:
        assert client.live().status == "alive"


def test_a_proxy_that_is_named_is_used(scripted: Any, answer: Any) -> None:
    proxy = scripted(answer.of({"status": "alive"}))
    with Client("http://embup.invalid", proxy=proxy.url) as client:
        client.live()
    assert proxy.seen[0].path == "http://embup.invalid/health/live"


def test_both_clients_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        found = {name: value for name, value in vars(kind).items() if callable(value)}
        public = {name: value for name, value in found.items() if not name.startswith("_")}
        return {
            name: [str(one) for one in inspect.signature(value).parameters.values()]
            for name, value in public.items()
        }

    assert methods(Client) == methods(AsyncClient)
    assert list(inspect.signature(Client).parameters) == list(inspect.signature(AsyncClient).parameters)


def test_it_comes_with_nothing_of_embup_and_without_numpy() -> None:
    code = "import sys, embup_client; print(*{name.partition('.')[0] for name in sys.modules})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(said.stdout.split())
    assert "embup_client" in loaded
    others = {"embup_core", "serving", "pipelines", "embup.cli", "numpy", "litestar", "dagster"}
    assert loaded.isdisjoint(others)
