"""With API keys: a key is given once, its scopes decide what pages do, and the cookie is good for no more."""

from __future__ import annotations

import re
from contextlib import contextmanager
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from serving.access.keys import ApiKeys, new_key, parse_keys
from serving.access.sessions import COOKIE, IDLE_S, MOST_SESSIONS, Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.artifacts.registry import Registry

HTML = {"Accept": "text/html"}
LOGIN = "/console/login"
SCOPES = {"reader": ["read"], "operator": ["read", "batch", "realtime"], "boss": ["admin"]}


class Guarded:
    """A service with a key of each kind."""

    def __init__(self, service_class: Any, registry: Registry, folder: Path) -> None:
        self.file = folder / "keys"
        made = {name: new_key(name, scopes) for name, scopes in SCOPES.items()}
        self.keys = {name: key for name, (key, _) in made.items()}
        self.lines = {name: stored.line() for name, (_, stored) in made.items()}
        self.write(*self.lines.values())
        self.service = service_class(registry.root, folder / "data", api_keys_file=self.file)
        self.address = f"http://127.0.0.1:{self.service.port}"

    def write(self, *lines: str) -> None:
        """Replace the file of keys."""
        new = self.file.with_suffix(".new")
        new.write_text("\n".join(lines) + "\n")
        new.chmod(0o600)
        new.replace(self.file)

    @contextmanager
    def browser(self, key: str = "") -> Iterator[httpx.Client]:
        """Open a browser without scripts; with a key it logs in."""
        with httpx.Client(base_url=self.address, headers=HTML, timeout=20) as client:
            if key:
                answer = log_in(client, self.keys[key])
                assert answer.status_code == 303, answer.text
            yield client


def token_of(page: str) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found is not None
    return unescape(found[1])


def log_in(client: httpx.Client, key: str, *, back: str = "/", **headers: str) -> httpx.Response:
    form = client.get(LOGIN, params={"next": back})
    wanted = re.search(r'name="next" value="([^"]*)"', form.text)
    assert wanted is not None
    fields = {"form_token": token_of(form.text), "next": unescape(wanted[1]), "key": key}
    return client.post(LOGIN, data=fields, headers=headers)


@pytest.fixture(scope="module")
def guarded(
    service_class: Any, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    found = Guarded(service_class, registry, tmp_path_factory.mktemp("guarded-console"))
    yield found
    assert found.service.end() == 0
    log = found.service.log.read_text()
    assert "Traceback" not in log
    assert not any(key in log for key in found.keys.values())


def test_a_page_asks_for_a_key_once_and_leads_back(guarded: Guarded) -> None:
    wanted = "/console/batches?status=FAILED"
    with guarded.browser() as client:
        asked = client.get(wanted)
        assert asked.status_code == 303
        form = client.get(asked.headers["location"])
        assert form.status_code == 200
        assert "asks for an API key" in form.text
        back = unescape(re.search(r'name="next" value="([^"]*)"', form.text)[1])  # type: ignore[index]
        assert back == wanted
        fields = {"form_token": token_of(form.text), "next": back, "key": f" {guarded.keys['reader']}\n"}
        answer = client.post(LOGIN, data=fields)
        assert (answer.status_code, answer.headers["location"]) == (303, wanted)
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"{COOKIE}=")
        for part in ("HttpOnly", "SameSite=strict", "Path=/"):
            assert part.lower() in cookie.lower(), cookie
        assert guarded.keys["reader"] not in cookie
        shown = client.get(wanted)
        assert shown.status_code == 200
        assert "<b>reader</b>" in shown.text


def test_programs_get_a_problem_and_no_login(guarded: Guarded) -> None:
    for path in ("/", "/console/batches", "/v1/batches"):
        answer = httpx.get(guarded.address + path)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
    shown = httpx.get(guarded.address + "/v1/batches", headers=HTML)
    assert shown.status_code == 401
    assert LOGIN in shown.text
    keyed = {"Authorization": f"Bearer {guarded.keys['reader']}"}
    assert httpx.get(guarded.address + "/", headers=keyed).status_code == 200


def test_a_wrong_key_is_refused_without_a_session(guarded: Guarded) -> None:
    with guarded.browser() as client:
        for key in ("", "embup_guessed", guarded.keys["boss"][:-1], "ä", "x" * 5000):
            answer = log_in(client, key)
            assert answer.status_code == 403
            assert "set-cookie" not in answer.headers
            assert "does not know this key" in answer.text
            assert not key or key not in answer.text
        assert client.get("/").status_code == 303


@pytest.mark.parametrize(
    "back",
    ["//evil.test/", "https://evil.test/", "/\\evil.test", "javascript:alert(1)", "\t//evil.test", "x", ""],
)
def test_a_login_leads_to_no_other_site(guarded: Guarded, back: str) -> None:
    with guarded.browser() as client:
        assert log_in(client, guarded.keys["reader"], back=back).headers["location"] == "/"


def test_scopes_of_the_key_hold_for_pages_and_forms(guarded: Guarded) -> None:
    with guarded.browser("reader") as client:
        shown = client.get("/").text
        assert ">Try<" not in shown
        assert ">Batches<" in shown
        for path in ("/console/try", "/console/batches/new", "/console/decoders/none/promote"):
            refused = client.get(path)
            assert refused.status_code == 403, path
            assert "does not allow this" in refused.text
        fields = {"form_token": token_of(shown), "input_filepath": "a", "output_filepath": "b"}
        assert client.post("/console/batches", data=fields).status_code == 403
    with guarded.browser("operator") as client:
        token = token_of(client.get("/console/batches/new").text)
        fields = {"form_token": token, "input_filepath": "no.txt", "output_filepath": "b.txt"}
        assert client.post("/console/batches", data=fields).status_code == 422, "it may; the file is missing"
        assert client.get("/console/try").status_code == 200
        assert client.get("/console/decoders/none/promote").status_code == 403
    with guarded.browser("boss") as client:
        assert client.get("/console/decoders/none/promote").status_code == 404


def test_a_token_is_good_for_its_own_session_alone(guarded: Guarded) -> None:
    with guarded.browser("operator") as one, guarded.browser("operator") as other, guarded.browser() as none:
        tokens = [token_of(client.get(path).text) for client, path in ((other, "/"), (none, LOGIN))]
        for token in tokens:
            fields = {"form_token": token, "input_filepath": "a", "output_filepath": "b"}
            answer = one.post("/console/batches", data=fields)
            assert answer.status_code == 403
            assert "another session" in answer.text


def test_the_cookie_reads_and_changes_nothing_beside_the_forms(guarded: Guarded) -> None:
    """It stands for the key in GET, so that pages can follow batches; never in what changes something."""
    with guarded.browser("boss") as client:
        assert client.get("/v1/batches", headers={"Accept": "*/*"}).status_code == 200
        changes = {
            "/v1/models/reload": None,
            "/v1/models/rollback": None,
            "/v1/batches": {"input_filepath": "a", "output_filepath": "b"},
            "/v1/upsample": {"embedding": [0.1] * 32},
        }
        for path, body in changes.items():
            answer = client.post(path, json=body, headers={"Accept": "*/*"})
            assert answer.status_code == 401, path


def test_logging_out_ends_the_session_and_needs_the_token(guarded: Guarded) -> None:
    with guarded.browser("reader") as client:
        cookie = client.cookies[COOKIE]
        token = token_of(client.get("/").text)
        assert client.post("/console/logout", data={"form_token": "x"}).status_code == 403
        assert client.get("/").status_code == 200
        assert client.post("/console/logout", data={"form_token": token}).status_code == 303
        assert client.get("/").status_code == 303
        stolen = httpx.get(guarded.address + "/", headers=HTML | {"Cookie": f"{COOKIE}={cookie}"})
        assert stolen.status_code == 303, "the old cookie is good for nothing"


def test_a_session_ends_when_its_key_is_taken_away(guarded: Guarded) -> None:
    with guarded.browser("reader") as client:
        assert client.get("/").status_code == 200
        guarded.write(guarded.lines["boss"], guarded.lines["operator"])
        guarded.service.until(lambda: client.get("/").status_code == 303)
        guarded.write(*guarded.lines.values())
        keyed = {"Authorization": f"Bearer {guarded.keys['reader']}"}
        guarded.service.until(lambda: httpx.get(guarded.address + "/", headers=keyed).status_code == 200)


def test_the_cookie_is_secure_where_the_browser_came_by_https(guarded: Guarded) -> None:
    with guarded.browser() as client:
        host = guarded.address.removeprefix("http://")
        answer = log_in(client, guarded.keys["reader"], Origin=f"https://{host}")
        assert "secure" in answer.headers["set-cookie"].lower()
        answer = log_in(client, guarded.keys["reader"], Origin=f"http://{host}")
        assert "secure" not in answer.headers["set-cookie"].lower()


def test_another_site_can_neither_log_in_nor_out(guarded: Guarded) -> None:
    with guarded.browser("reader") as client:
        token = token_of(client.get("/").text)
        for path in (LOGIN, "/console/logout"):
            for headers in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}):
                fields = {"form_token": token, "key": guarded.keys["reader"]}
                assert client.post(path, data=fields, headers=headers).status_code == 403, path
        assert client.get("/").status_code == 200


def test_who_follows_a_link_from_elsewhere_is_not_asked_again(guarded: Guarded) -> None:
    """The browser keeps the cookie back then, so the page of the login takes a step of its own."""
    followed = HTML | {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    url = f"{guarded.address}{LOGIN}?next=/console/batches"
    assert (
        '<meta http-equiv="refresh" content="0; url=/console/batches">'
        in httpx.get(url, headers=followed).text
    )
    assert "refresh" not in httpx.get(url, headers=followed | {"Sec-Fetch-Site": "same-origin"}).text


def test_without_keys_there_is_nothing_to_log_in_to(shared_service: Any) -> None:
    answer = shared_service.http.get(LOGIN, params={"next": "/docs"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    assert "Log in" not in shared_service.http.get("/").text


def scope_of(*cookies: str) -> Any:
    return {"headers": [(b"cookie", cookie.encode()) for cookie in cookies], "state": {}}


def test_sessions_end_unused_and_give_way_to_newer_ones() -> None:
    now = 0.0
    key = new_key("someone", ["read"])[1]
    sessions = Sessions(ApiKeys(parse_keys(key.line(), "here")), clock=lambda: now)
    first = sessions.start(key)
    assert sessions.find(scope_of(f"a=b; {COOKIE}={first}; c=d")) is not None
    for cookie in (
        "",
        COOKIE,
        f"{COOKIE}=",
        f"x{COOKIE}={first}",
        f"{COOKIE}={first}x",
        f"{COOKIE.upper()}={first}",
    ):
        assert sessions.find(scope_of(cookie)) is None, cookie
    now += IDLE_S - 1
    assert sessions.find(scope_of(f"{COOKIE}={first}")) is not None, "looking is a use"
    now += IDLE_S + 1
    assert sessions.find(scope_of(f"{COOKIE}={first}")) is None
    tokens = [sessions.start(key) for _ in range(MOST_SESSIONS + 1)]
    assert sessions.find(scope_of(f"{COOKIE}={tokens[0]}")) is None
    assert sessions.find(scope_of(f"{COOKIE}={tokens[-1]}")) is not None
