"""The pages as a browser without scripts gets them: what they show, what they escape, what forms do."""

from __future__ import annotations

import io
import re
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest

from embup_core.sources import SampleParameters, generate_sample
from embup_core.training.train import train
from serving.pages.console.forms import LONGEST_FORM, MOST_FIELDS
from serving.pages.layout import POLICY
from tests.conftest import publish_kriging

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from tests.serving.pages.conftest import Console

HTML = {"Accept": "text/html"}
PAGES = (
    "/",
    "/console/batches",
    "/console/batches?status=FAILED",
    "/console/batches/new",
    "/console/try",
    "/console/decoders",
    "/problems/bad-row",
)


@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_whole_and_loads_nothing_from_elsewhere(console: Console, path: str) -> None:
    answer = console.http.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "</html>" in answer.text
    assert answer.text.count("<h1>") == answer.text.count("<main ") == 1
    # The policy forbids both; a browser would leave them out.
    assert " style=" not in answer.text
    assert not re.search(r"<script(?![^>]* src=)", answer.text)
    for link in re.findall(r'(?:src|href)="([^"#]+)', answer.text):
        assert link.startswith("/"), link
        assert console.http.get(link.replace("&amp;", "&")).status_code == 200, link


def test_the_navigation_says_where_one_is(console: Console) -> None:
    for path, name in (("/", "Overview"), ("/console/batches/new", "Batches"), ("/console/try", "Try")):
        shown = console.http.get(path).text
        assert re.search(rf'aria-current="page">{name}<', shown), path
        assert shown.count("aria-current") == 1


def test_the_overview_shows_the_decoder_its_scores_and_what_needs_a_person(console: Console) -> None:
    shown = console.http.get("/").text
    assert console.service.http.get("/health/ready").json()["model_version"] in shown
    assert "R²" in shown
    assert "Against the version before" in shown
    assert 'class="notice bad"' in shown, "a batch has failed"
    assert f"/console/batches/{console.batches['failed']}" in shown
    assert "line 151" in shown


def test_hostile_texts_are_escaped_on_every_page_that_shows_them(console: Console) -> None:
    paths = [
        "/",
        "/console/batches",
        f"/console/batches/{console.batches['mixed']}",
        f"/console/batches/{console.batches['failed']}",
        "/console/try?row=%3Cscript%3Ealert(1)%3C/script%3E",
        "/console/batches/new?input_filepath=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        "/console/batches/%3Cscript%3E",
        "/%3Cscript%3Ealert(1)%3C",
        "/console/decoders?first=%3Cscript%3E&second=%3Cscript%3E",
        "/console/batches?status=%3Cscript%3E",
    ]
    for path in paths:
        shown = console.http.get(path)
        assert shown.status_code in {200, 400, 404, 422}, path
        assert shown.headers["content-type"].startswith("text/html")
        assert "<script>" not in shown.text, path
        assert "<img src=x" not in shown.text, path
        assert "<i>&" not in shown.text, path
    bad = console.http.get(f"/console/batches/{console.batches['mixed']}").text
    assert "&lt;img src=x onerror=&#34;alert(1)&#34;&gt;" in bad, "the row is shown, as text"
    assert '<td class="number">151</td>' in bad
    assert '<td class="number">251</td>' in bad


def test_one_batch_shows_what_happened_and_how_fast_it_was(console: Console) -> None:
    shown = console.http.get(f"/console/batches/{console.batches['complete']}").text
    for happened in ("Submitted", "Started", "All rows written", "Completed"):
        assert f"<b>{happened}</b>" in shown
    assert '<path class="area" d="M' in shown
    assert "This batch is complete" in shown
    assert "Cancel" not in shown
    failed = console.http.get(f"/console/batches/{console.batches['failed']}").text
    assert "This batch failed" in failed
    assert "line 151" in failed
    assert "Check how the file was downloaded" in failed


def test_a_page_of_batches_goes_on_where_the_one_before_ended(serve: Callable[..., Any]) -> None:
    service = serve()
    service.write_input("in.txt", 2)
    submitted = [service.submit("in.txt", f"out-{number}.txt") for number in range(60)]
    for one in submitted:
        service.final(one)
    seen, path = list[str](), "/console/batches?status=COMPLETED"
    for _ in range(3):
        shown = service.http.get(path, headers=HTML).text
        seen += re.findall(r'href="/console/batches/([0-9a-f-]{36})"', shown)
        following = re.search(r'rel="next" href="([^"]+)"', shown)
        path = "" if following is None else following[1].replace("&amp;", "&")
    assert path == "", "the third page is the last one"
    assert seen == submitted[::-1]


def test_the_form_submits_a_batch_once_and_says_what_speaks_against_it(console: Console) -> None:
    fields = {"input_filepath": "good.txt", "output_filepath": "by-form.npy", "on_bad_row": "nan"}
    fields |= {"basis": "decoded", "max_bad_rows": "0.5", "idempotency_key": "of-a-form"}
    first = console.post("/console/batches", on="/console/batches/new", **fields)
    again = console.post("/console/batches", on="/console/batches/new", **fields)
    assert first.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    final = console.service.final(first.headers["location"].rpartition("/")[2])
    assert final["phase"] == "COMPLETED"
    assert final["max_bad_rows"] == 0.5
    refused = console.post("/console/batches", on="/console/batches/new", **fields, overwrite="on")
    assert refused.status_code == 422
    refused = console.post(
        "/console/batches", on="/console/batches/new", input_filepath="nowhere.txt", output_filepath="x.npy"
    )
    assert refused.status_code == 422
    assert "nowhere.txt" in refused.text
    assert 'value="x.npy"' in refused.text, "what was filled in is still there"
    for bad in ({"on_bad_row": "no"}, {"max_bad_rows": "many"}, {"max_bad_rows": "-1"}, {"basis": "<b>"}):
        answer = console.post("/console/batches", on="/console/batches/new", **(fields | bad))
        assert answer.status_code == 422, bad


def test_a_running_batch_is_cancelled_by_its_form(console: Console) -> None:
    service = console.service
    service.write_input("long.txt", 40_000)
    job = service.submit("long.txt", "long.npy")
    service.until(lambda: service.status(job)["phase"] == "RUNNING")
    page = f"/console/batches/{job}"
    answer = console.post(f"{page}/cancel", on=page)
    assert (answer.status_code, answer.headers["location"]) == (303, page)
    assert service.final(job)["phase"] == "CANCELLED"
    shown = console.http.get(page).text
    assert "This batch was cancelled" in shown
    assert console.http.post(f"{page}/cancel", data={"form_token": ""}).status_code == 403


@pytest.mark.parametrize("fields", [{}, {"form_token": ""}, {"form_token": "guessed"}, {"form_token": "ä"}])
def test_a_form_without_the_token_of_a_page_does_nothing(console: Console, fields: dict[str, str]) -> None:
    before = len(console.service.http.get("/v1/batches").json()["batches"])
    wanted = {"input_filepath": "good.txt", "output_filepath": "never.npy"}
    answer = console.http.post("/console/batches", data=wanted | fields)
    assert answer.status_code == 403
    assert "The form is of another session" in answer.text
    assert len(console.service.http.get("/v1/batches").json()["batches"]) == before


def test_forms_of_other_sites_and_shapes_are_refused(console: Console) -> None:
    token = console.token("/console/batches/new")
    fields = {"form_token": token, "input_filepath": "good.txt", "output_filepath": "never.npy"}
    for headers in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert console.http.post("/console/batches", data=fields, headers=headers).status_code == 403
    assert (
        console.http.post("/console/batches", data=fields, headers={"Host": "evil.test"}).status_code == 421
    )
    assert console.http.post("/console/batches", json=fields).status_code == 415
    assert console.http.post("/console/batches", files={"a": b"b"}, data=fields).status_code == 415
    many = {"form_token": token} | {f"f{number}": "" for number in range(MOST_FIELDS)}
    assert console.http.post("/console/batches", data=many).status_code == 400
    long = {"form_token": token, "input_filepath": "x" * LONGEST_FORM}
    assert console.http.post("/console/batches", data=long).status_code == 413
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"\xff=1", b"%ff=%fe", b"no pairs", b"a=1&;"):
        answer = console.http.post("/console/batches", content=content, headers=headers)
        assert answer.status_code in {400, 403}, content


def test_a_row_is_tried_and_its_vector_can_be_downloaded(console: Console) -> None:
    row = ",".join(["0.25"] * 32)
    shown = console.http.get("/console/try", params={"row": f"[{row}]"})
    assert shown.status_code == 200
    assert "Confidence" in shown.text
    assert "1,536 numbers" in shown.text
    answered = console.service.http.post("/v1/upsample", json={"embedding": [0.25] * 32}).json()
    npy = console.http.get("/console/try/vector/npy", params={"row": row})
    vector = np.load(io.BytesIO(npy.content))
    assert (vector.dtype, vector.shape) == (np.float32, (1536,))
    assert np.abs(vector - np.array(answered["embedding"])).max() < 1e-7
    assert "attachment" in npy.headers["content-disposition"]
    assert console.http.get("/console/try/vector/json", params={"row": row}).json() == answered["embedding"]
    text = console.http.get("/console/try/vector/txt", params={"row": row}).text
    assert len(text.split(",")) == 1536
    assert console.http.get("/console/try/vector/exe", params={"row": row}).status_code == 422


@pytest.mark.parametrize(
    "row", ["1,2", "1," * 31 + "x", "0," * 31 + "0", "nan," * 31 + "1", "1e300," * 31 + "1"]
)
def test_what_is_no_row_is_said_on_the_page(console: Console, row: str) -> None:
    shown = console.http.get("/console/try", params={"row": row})
    assert shown.status_code == 422
    assert 'class="notice bad" role="alert"' in shown.text
    assert "Expected" in shown.text or "expected" in shown.text


@pytest.mark.parametrize("take", ["golden", "random"])
def test_a_drawn_row_has_an_address_of_its_own(console: Console, take: str) -> None:
    drawn = console.http.get("/console/try", params={"take": take})
    assert drawn.status_code == 303
    shown = console.http.get(drawn.headers["location"])
    assert shown.status_code == 200
    assert "Decoded vector" in shown.text
    low = re.search(r'<span class="badge (warn|good)">', shown.text)
    assert low is not None
    if take == "random":
        assert low[1] == "warn", "a direction at random is unlike the training rows"


def test_the_nearest_training_rows_have_their_numbers(
    serve: Callable[..., Any],
    tmp_path: Path,
    sample_projected: np.ndarray,
    sample_coordinates: np.ndarray,
) -> None:
    """Of a version trained without some rows, of one with rows held out, and of one that holds no rows."""
    from embup_core.artifacts.artifact import Provenance
    from embup_core.artifacts.golden import golden_inputs
    from embup_core.artifacts.registry import Registry
    from embup_core.decoders.baselines.linear_residual import LinearResidual
    from tests.serving.pages.conftest import Console

    registry = Registry(tmp_path / "registry")
    source = generate_sample(tmp_path / "source", parameters=SampleParameters(rows=450))
    z, without = np.load(source.projected), [0, 5, 6]
    train(str(source.projected.parent), decoder="kriging", registry=registry, promote=True, without=without)
    console = Console(serve(decoders=registry.root))

    def table(row: int) -> list[list[str]]:
        text = ",".join(map(str, z[row].tolist()))
        shown = console.http.get("/console/try", params={"row": text})
        assert shown.status_code == 200
        _, title, section = shown.text.partition("Nearest training rows")
        assert bool(title) == ("near-title" in shown.text)
        section = section.partition("</section>")[0]
        return [re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", line) for line in section.split("<tr>")[2:]]

    for row in (5, 7, 449):
        distances = np.linalg.norm(z - z[row], axis=1)
        distances[without] = np.inf
        found = table(row)
        assert [int(line[0]) for line in found] == np.argsort(distances, kind="stable")[:5].tolist()
        np.testing.assert_allclose([float(line[1]) for line in found], np.sort(distances)[:5], atol=1e-4)
        cosines = [float(line[2]) for line in found]
        assert cosines[0] > 0.999 if row != 5 else max(cosines) < 0.999

    publish_kriging(registry, sample_projected, sample_coordinates, held_out=True)
    assert console.http.post("/v1/models/reload").status_code == 200
    assert [line[0] for line in table(7)] == ["unknown"] * 5
    registry.publish(
        LinearResidual().fit(sample_projected, sample_coordinates),
        golden=golden_inputs(sample_projected),
        provenance=Provenance("sample", "0" * 64, len(sample_projected), {}, {}, {"protocol": "none"}),
        promote=True,
    )
    assert console.http.post("/v1/models/reload").status_code == 200
    assert table(7) == []
    console.http.close()


def test_trying_a_row_counts_neither_as_a_request_nor_as_a_row(console: Console) -> None:
    def counted() -> list[str]:
        metrics = console.service.http.get("/metrics").text
        return re.findall(
            r"^embup_(?:realtime_rows|input_rows|realtime_duration_seconds_count).*$", metrics, re.MULTILINE
        )

    before = counted()
    assert console.http.get("/console/try", params={"row": ",".join(["0.25"] * 32)}).status_code == 200
    assert counted() == before


def test_two_decoders_stand_side_by_side_with_the_plots_of_their_reports(
    console: Console, two_decoders: Registry
) -> None:
    second, first = two_decoders.version_names()
    shown = console.http.get("/console/decoders", params={"first": first, "second": second}).text
    assert shown.count("R²") >= 2
    assert "different test rows" in shown
    plots = re.findall(r'src="(/console/decoders/[^"]+)"', shown)
    assert len(plots) > 2
    for plot in plots:
        answer = console.http.get(plot)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    for name in ("manifest.json", "decoder.safetensors", "..%2Fmanifest.json", "none.png"):
        assert console.http.get(f"/console/decoders/{second}/plots/{name}").status_code == 404, name
    assert console.http.get("/console/decoders/20000101-000000-00000000/promote").status_code == 404


def test_a_decoder_is_promoted_and_rolled_back_after_a_confirmation(
    serve: Callable[..., Any], tmp_path_factory: Any, publish_another: Callable[..., str]
) -> None:
    from embup_core.artifacts.registry import Registry
    from tests.serving.pages.conftest import Console

    registry = Registry(tmp_path_factory.mktemp("registry"))
    first = publish_another(registry, 1)
    second = publish_another(registry, 2)
    console = Console(serve(decoders=registry.root))
    assert f"Roll back to {first}" in console.http.get("/console/decoders").text

    ask = f"/console/decoders/{first}/promote"
    assert f"in place of <code>{second}</code>" in console.http.get(ask).text
    stale = console.post(ask, on=ask, in_service="another")
    assert stale.status_code == 409
    assert console.post(ask, on=ask, in_service=second).status_code == 303
    assert registry.current_version() == first
    assert console.service.http.get("/health/ready").json()["model_version"] == first

    back = f"/console/decoders/{second}/rollback"
    assert console.post(back, on=back, in_service=first).status_code == 303
    assert registry.current_version() == second
    wrong = f"/console/decoders/{second}/rollback"
    assert console.post(wrong, on=ask, in_service=second).status_code == 409, "that is not the one before"
    console.http.close()
    assert registry.current_version() == second


def test_a_problem_is_a_page_for_a_browser_and_json_for_programs(
    console: Console, check: Callable[..., dict[str, Any]]
) -> None:
    for path, status in (("/nowhere", 404), ("/console/batches/none", 404), ("/console/try?basis=x", 400)):
        shown = console.http.get(path)
        assert shown.status_code == status
        assert shown.headers["content-type"] == "text/html; charset=utf-8"
        assert shown.headers["content-security-policy"] == POLICY
        assert shown.headers["x-request-id"] in shown.text
        assert '<nav aria-label="Main">' in shown.text
        assert int(shown.headers["content-length"]) == len(shown.content)
        check(httpx.get(console.address + path), status)
        head = console.http.head(path)
        assert (head.status_code, head.content) == (status, b"")


def test_assets_are_kept_by_browsers_until_they_change(console: Console) -> None:
    found = re.search(r'href="(/console/assets/pages.css\?[0-9a-f]+)"', console.http.get("/").text)
    assert found is not None
    answer = console.http.get(found[1])
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    for name in ("..%2Flayout.py", "pages.py", "none.css"):
        assert console.http.get(f"/console/assets/{name}").status_code == 404


def test_without_a_decoder_the_pages_say_what_to_do(serve: Callable[..., Any], tmp_path: Any) -> None:
    http = serve(decoders=tmp_path / "empty").http
    assert "embup train" in http.get("/", headers=HTML).text
    for path in ("/console/batches/new", "/console/try", "/console/decoders"):
        assert http.get(path, headers=HTML).status_code == 200
    tried = http.get("/console/try?row=1,2", headers=HTML)
    assert tried.status_code == 422
    assert "No decoder is published yet" in tried.text


def test_a_form_is_not_shown_again_for_what_it_cannot_mend(serve: Callable[..., Any], tmp_path: Any) -> None:
    service = serve(decoders=tmp_path / "empty")
    path = service.write_input("rows.txt", 10)
    shown = service.http.get("/console/batches/new", headers=HTML).text
    token = re.search(r'name="form_token" value="([^"]+)"', shown)
    assert token is not None
    form = {
        "form_token": unescape(token[1]),
        "input_filepath": str(path),
        "output_filepath": str(path.with_suffix(".npy")),
    }
    answer = service.http.post("/console/batches", data=form, headers=HTML)
    assert answer.status_code == 503, answer.text
    assert "embup train" in answer.text
    assert 'name="input_filepath"' not in answer.text
    assert service.http.get("/v1/batches").json()["batches"] == []
