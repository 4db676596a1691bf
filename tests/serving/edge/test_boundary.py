"""What every request meets first: a name for it, whom it is addressed to, which page sent it, problems."""

from __future__ import annotations

import ast
import http.server
import json
import re
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serving.edge.boundary import HostNames
from serving.problems.kinds import KINDS, kinds_table
from tests.browser import browser_page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[3]
ROW = {"embedding": [0.1] * 32}


def test_every_answer_names_its_request_and_takes_over_the_clients_name(shared_service: Any) -> None:
    get = shared_service.http.get
    made = [get("/health/live").headers["x-request-id"] for _ in range(3)]
    assert len(set(made)) == 3
    assert get("/nowhere", headers={"X-Request-Id": "my-1.2_3"}).json()["request_id"] == "my-1.2_3"
    for refused in ("", "x" * 65, "a b", "a;b", "<b>", "ä".encode("latin-1")):
        assert get("/health/live", headers={"X-Request-Id": refused}).headers["x-request-id"] != refused


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:{port}",
        "localhost.evil.test:{port}",
        "localhost@evil.test",
        "localhost:{port}:1",
        "localhost:",
        "10.0.0.1:{port}",
        "0.0.0.0:{port}",
        "[::]:{port}",
        "2130706433",
        "localhost,evil.test",
        "",
    ],
)
def test_a_request_to_another_name_is_refused(
    shared_service: Any, check: Callable[..., Any], host: str
) -> None:
    answer = shared_service.http.post(
        "/v1/upsample", json=ROW, headers={"Host": host.format(port=shared_service.port)}
    )
    assert check(answer, 421)["type"] == "/problems/unknown-host"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:{port}", "[::1]:{port}"])
def test_a_request_to_the_loopback_names_is_taken(shared_service: Any, host: str) -> None:
    answer = shared_service.http.get("/health/live", headers={"Host": host.format(port=shared_service.port)})
    assert answer.status_code == 200


def test_the_address_that_is_listened_on_is_a_name_and_others_are_not() -> None:
    names = HostNames("10.1.2.3", "embup.internal", ["proxy.example.org"])
    for host in (b"10.1.2.3:80", b"embup.internal", b"proxy.example.org:443", b"localhost"):
        assert host in names, host
    for host in (b"10.1.2.4", b"internal", b"example.org", b"x.proxy.example.org"):
        assert host not in names, host
    assert b"[fe80::1]:8000" in HostNames("fe80::1%2", "fe80::1%2")


FOREIGN = [
    {"Origin": "http://evil.test"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "http://localhost:{port}"},
    {"Origin": "http://127.0.0.1:{port}.evil.test"},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("sent", FOREIGN, ids=str)
def test_what_another_page_sends_is_refused_whatever_it_asks_for(
    shared_service: Any, check: Callable[..., Any], sent: dict[str, str]
) -> None:
    headers = {name: value.format(port=shared_service.port) for name, value in sent.items()}
    http = shared_service.http
    for answer in (
        http.post("/v1/upsample", json=ROW, headers=headers),
        http.post("/v1/models/reload", headers=headers),
        http.post("/v1/batches/some/cancel", headers=headers),
        http.get("/v1/batches", headers=headers),
        http.options("/v1/upsample", headers=headers | {"Access-Control-Request-Method": "POST"}),
    ):
        assert check(answer, 403)["type"] == "/problems/foreign-origin"
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_the_services_own_page_and_links_to_it_work(shared_service: Any) -> None:
    own = {"Origin": f"http://127.0.0.1:{shared_service.port}", "Sec-Fetch-Site": "same-origin"}
    assert shared_service.http.post("/v1/upsample", json=ROW, headers=own).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert shared_service.http.get("/docs", headers=link).status_code == 200
    assert shared_service.http.post("/v1/models/reload", headers=link).status_code == 403


def test_answers_cannot_be_framed_or_taken_in_by_other_pages(shared_service: Any) -> None:
    for path in ("/", "/v1/models", "/nowhere"):
        headers = shared_service.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"


ATTACK = """<!DOCTYPE html><title>attack</title><script>
const service = "{service}", row = JSON.stringify({{embedding: Array(32).fill(0.1)}});
const tries = [
  ["/v1/models/reload", {{method: "POST"}}],
  ["/v1/models/reload", {{method: "POST", mode: "no-cors"}}],
  ["/v1/upsample", {{method: "POST", mode: "no-cors", body: row}}],
  ["/v1/upsample", {{method: "POST", body: row, headers: {{"Content-Type": "application/json"}}}}],
  ["/v1/models", {{}}],
  ["/v1/models", {{mode: "no-cors"}}],
];
window.read = [];
window.attack = (async () => {{
  for (const [path, how] of tries) {{
    try {{ const answer = await fetch(service + path, how); window.read.push(answer.type); }}
    catch (error) {{ window.read.push("refused"); }}
  }}
  document.body.innerHTML = `<iframe name="sink"></iframe>
    <form id="form" target="sink" method="post" action="${{service}}/v1/models/reload"></form>`;
  document.getElementById("form").submit();
}})();
</script><body></body>"""


@contextmanager
def page_of_somebody_else(service: str) -> Iterator[int]:
    """Serve the attack on another port."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(ATTACK.format(service=service).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.browser
def test_a_page_in_a_browser_cannot_drive_the_service(serve: Callable[..., Any]) -> None:
    """Requests and forms of a page elsewhere do nothing; neither does a page whose name leads here."""
    service = serve(access_log=True, log_format="json")
    before = service.http.get("/metrics").text
    with (
        page_of_somebody_else(f"http://127.0.0.1:{service.port}") as port,
        browser_page("--host-resolver-rules=MAP evil.test 127.0.0.1") as page,
    ):
        page.goto(f"http://127.0.0.1:{port}/")
        page.evaluate("window.attack")
        read = page.evaluate("window.read")
        service.until(lambda: service.log.read_text().count('"path": "/v1/models/reload"') >= 3)
        rebound = page.goto(f"http://evil.test:{service.port}/v1/models")
        assert rebound is not None
        assert rebound.status == 421
    assert len(read) == 6
    assert set(read) <= {"refused", "opaque"}, "nothing of an answer can be read"
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    asked = [(line["path"], line["status"]) for line in lines if line["event"] == "request"]
    assert {status for path, status in asked if path.startswith("/v1/")} == {403, 421}, asked
    after = service.http.get("/metrics").text
    for name in ("embup_model_reloads_total", "embup_gate_realtime_acquisitions_total"):
        counted = [re.search(rf"^{name} (\S+)", text, re.MULTILINE) for text in (before, after)]
        assert counted[0] is not None
        assert counted[1] is not None
        assert counted[0][1] == counted[1][1], name


def test_each_kind_of_problem_has_its_page(shared_service: Any, check: Callable[..., Any]) -> None:
    for kind, found in KINDS.items():
        page = shared_service.http.get(f"/problems/{kind}")
        assert page.headers["content-type"].startswith("text/html")
        assert str(found.status) in page.text
        assert "`" not in page.text
    check(shared_service.http.get("/problems/none"), 404)
    check(shared_service.http.get("/docs/none"), 404)


def test_the_docs_explain_each_kind_of_problem() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    assert kinds_table() in page, "paste what `python -m serving.problems.kinds` prints"


def test_each_kind_that_the_code_names_is_known_and_none_is_left_over() -> None:
    """A kind is the first argument of a ProblemError, or the third of send_problem."""
    named: set[str] = set()
    text = ""
    for module in (ROOT / "serving").rglob("*.py"):
        if module.name == "problem_kinds.py":
            continue
        text += module.read_text()
        for node in ast.walk(ast.parse(module.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            place = {"ProblemError": 0, "_RefusedRequestError": 0, "send_problem": 2, "make_problem": 0}.get(
                node.func.id
            )
            if place is not None and len(node.args) > place:
                argument = node.args[place]
                if isinstance(argument, ast.Constant):
                    named.add(str(argument.value))
    assert "no-valid-key" in named
    assert named <= set(KINDS)
    assert {kind for kind in KINDS if f'"{kind}"' not in text} == set()


def test_no_answer_says_where_the_service_keeps_its_folders(
    serve: Callable[..., Any], check: Callable[..., Any], tmp_path: Path
) -> None:
    registry = tmp_path / "an absolute folder" / "registry"
    registry.mkdir(parents=True)
    service = serve(decoders=registry)
    assert "No decoder" in check(service.http.get("/health/ready"), 503)["detail"]
    check(service.http.post("/v1/upsample", json=ROW), 503)
    check(service.http.post("/v1/models/reload"), 503)
    (registry / "CURRENT").write_text("20200101-000000-00000000\n")
    check(service.http.post("/v1/models/reload"), 503)
    shown = [service.http.get(path).text for path in ("/", "/v1/models", "/health/ready")]
    shown.append(service.http.post("/v1/upsample", json=ROW).text)
    for text in shown:
        assert str(tmp_path) not in text, text
    assert "20200101-000000-00000000" in shown[1]
    assert str(registry) in service.log.read_text(), "the log has the rest"
