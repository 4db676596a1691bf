"""Telling the running service: the real one, none, one on another registry, something else on that port."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import dagster as dg
import httpx
import pytest

from embup.cli.service_process import service_process
from embup_core.artifacts.registry import Registry
from pipelines.defs.assets.handles import PublishedDecoder
from pipelines.defs.assets.publication import upsampler_service
from pipelines.defs.resources import DecoderRegistry, UpsamplerService

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def tell(registry: Registry, url: str, version: str | None = None) -> dict[str, Any]:
    handle = PublishedDecoder(version=version or registry.current_version(), registry=str(registry.root))
    result: Any = upsampler_service(
        dg.build_asset_context(),
        decoder_artifact=handle,
        registry=DecoderRegistry(root=str(registry.root)),
        service=UpsamplerService(url=url),
    )
    return dict(result.metadata)


def test_a_running_service_takes_up_the_newest_decoder_and_reproduces_it(
    tmp_path: Path, publish_another: Callable[[Registry, int], str]
) -> None:
    registry = Registry(tmp_path / "registry")
    first = publish_another(registry, 1)
    with service_process(registry=registry.root, data=tmp_path / "data", log=tmp_path / "log") as url:
        assert httpx.get(f"{url}/v1/models").json()["in_service"] == first
        second = publish_another(registry, 2)
        said = tell(registry, url)
        assert httpx.get(f"{url}/v1/models").json()["in_service"] == second

        other = Registry(tmp_path / "other")
        publish_another(other, 3)
        elsewhere = tell(other, url)
    assert said["running"] is True
    assert said["golden_difference"] <= 1e-6
    assert second in said["state"]
    assert elsewhere["running"] is False
    assert "another registry" in elsewhere["state"]


def test_no_service_is_said_plainly_and_is_no_failure(registry: Registry) -> None:
    said = tell(registry, "http://127.0.0.1:9")
    assert said["running"] is False
    assert said["state"].startswith("No service is running at http://127.0.0.1:9.")


@pytest.fixture
def stranger() -> Iterator[Callable[[int, bytes], str]]:
    """Something else that answers on a port."""
    servers = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
                pass

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (404, b"what?", "refused to reload: 404 what?"),
        (200, b"<html>", "is not this service"),
        (200, b"[]", "is not this service"),
        (200, b'{"model_version": "1"}', "serves 1, not"),
    ],
)
def test_something_else_on_the_port_is_no_failure(
    registry: Registry, stranger: Callable[[int, bytes], str], status: int, body: bytes, says: str
) -> None:
    said = tell(registry, stranger(status, body))
    assert said["running"] is False
    assert says in said["state"]


def test_the_key_of_the_environment_goes_with_the_request_and_into_no_configuration(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = []

    class Refusing(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
            pass

        def do_POST(self) -> None:
            keys.append(self.headers["Authorization"])
            self.send_error(401)

    monkeypatch.setenv("EMBUP_API_KEY", "a-key-of-mine")
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        said = tell(registry, url)
        server.shutdown()
    assert keys == ["Bearer a-key-of-mine"]
    assert "refused to reload: 401" in said["state"]
    assert "EMBUP_API_KEY" in said["state"]
    assert "a-key-of-mine" not in str(said) + repr(UpsamplerService(url=url))


@pytest.mark.parametrize("status", [None, 429, 502])
def test_a_service_that_cannot_answer_when_it_is_probed_is_no_failure(
    registry: Registry, status: int | None
) -> None:
    version = registry.current_version()

    class Stopping(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it so
            pass

        def do_POST(self) -> None:
            if self.path != "/v1/models/reload":
                if status is not None:
                    self.send_error(status)
                return  # else the connection ends without an answer
            body = json.dumps({"model_version": version}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Stopping) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        said = tell(registry, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert said["running"] is False
    assert f"took up {version}, and did not answer its golden inputs" in said["state"]


def test_a_service_that_answers_otherwise_than_the_decoder_fails_the_asset(
    registry: Registry, stranger: Callable[[int, bytes], str]
) -> None:
    version = registry.current_version()
    zeros = [[0.0] * 1536] * 4
    body = json.dumps({"model_version": version, "embeddings": zeros, "confidence": [0] * 4}).encode()
    with pytest.raises(dg.Failure, match="golden inputs with a difference"):
        tell(registry, stranger(200, body))
