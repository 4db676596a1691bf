"""The outside of the service: pages, addresses, methods, metrics, settings, imports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import msgspec
import pytest
from pydantic import ValidationError

from serving.description import examples
from serving.description.api import OPERATIONS
from serving.problems.problem import Problem
from serving.schemas import (
    Alive,
    BatchAccepted,
    BatchList,
    BatchStatus,
    ModelList,
    Ready,
    ReloadAnswer,
    UpsampleAnswer,
    UpsampleManyAnswer,
)
from serving.schemas.debug import (
    DebugComparison,
    DebugDatasetDetails,
    DebugDatasetList,
    DebugFindings,
    DebugLegend,
    DebugReviews,
    DebugRow,
    DebugSelection,
    DebugSlices,
    DebugSuggestions,
)
from serving.settings import ServingSettings, settings_table
from tests.browser import browser_page, execute

if TYPE_CHECKING:
    from collections.abc import Callable

    from embup_core.artifacts.registry import Registry

RAW_MEDIA_TYPES = {"application/octet-stream", "text/event-stream"}


def test_the_root_page_shows_the_state_and_leads_to_the_docs(shared_service: Any) -> None:
    page = shared_service.http.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert shared_service.http.get("/health/ready").json()["model_version"] in page.text
    links = re.findall(r'href="(/[^"]*)"', page.text)
    assert "/docs" in links
    for link in links:
        assert shared_service.http.get(link).status_code == 200, link


def test_unknown_addresses_and_methods_are_problems(shared_service: Any, check: Callable[..., Any]) -> None:
    http = shared_service.http
    assert "/nowhere" in check(http.get("/nowhere"), 404)["detail"]
    assert "/docs/assets/../../app.py" not in check(http.get("/docs/assets/%2e%2e"), 404)["detail"]
    answer = http.delete("/v1/models")
    assert "DELETE is not offered at /v1/models" in check(answer, 405)["detail"]
    assert "GET" in answer.headers["allow"]
    check(http.get("/v1/upsample"), 405)


@pytest.mark.parametrize("path", ["/", "/health/live", "/health/ready", "/v1/models", "/metrics"])
def test_head_is_get_without_the_body(shared_service: Any, path: str) -> None:
    whole, head = shared_service.http.get(path), shared_service.http.head(path)
    assert (head.status_code, head.headers["content-type"]) == (200, whole.headers["content-type"])
    assert not head.content
    counted = f'embup_http_requests_total{{method="HEAD",route="{path}",status_code="200"}} 1.0'
    assert counted in shared_service.http.get("/metrics").text
    assert "HEAD" in shared_service.http.options(path).headers["allow"]
    assert shared_service.http.head("/nowhere").status_code == 404


def test_openapi_describes_every_request_with_examples(shared_service: Any) -> None:
    described = shared_service.http.get("/docs/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    operations = {
        operation["operationId"]: operation
        for path in described["paths"].values()
        for operation in path.values()
    }
    assert set(operations) == {
        "upsample", "submitBatch", "listBatches", "getBatch", "cancelBatch", "followBatch",
        "listModels", "reloadModel", "promoteModel", "rollBackModel", "live", "ready",
        "listDebugDatasets", "getDebugDataset", "listFindings", "getDebugRow", "addReviews", "listReviews",
        "suggestRows", "listSlices", "getDebugMap", "getDebugMapLegend", "selectOnMap", "compareAnalyses",
        "exportDebugDataset",
    }  # fmt: skip
    for name, operation in operations.items():
        assert operation["summary"], name
        assert operation["description"], name
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], (name, status)
            for media_type, content in answer["content"].items():
                assert media_type in RAW_MEDIA_TYPES or content["examples"], (name, status)
    upsample = operations["upsample"]
    assert set(upsample["responses"]["200"]["content"]) == {"application/json", "application/octet-stream"}
    for name, operation in operations.items():
        if "requestBody" in operation:
            assert operation["requestBody"]["content"]["application/json"]["examples"], name
    described_answer = upsample["responses"]["200"]["content"]["application/json"]["schema"]
    assert {one["$ref"].rpartition("/")[2] for one in described_answer["oneOf"]} == {
        "UpsampleAnswer",
        "UpsampleManyAnswer",
    }


ANSWERS = {
    "upsample": UpsampleAnswer | UpsampleManyAnswer,
    "submitBatch": BatchAccepted,
    "listBatches": BatchList,
    "getBatch": BatchStatus,
    "cancelBatch": BatchStatus,
    "listModels": ModelList,
    "reloadModel": ReloadAnswer,
    "promoteModel": ReloadAnswer,
    "rollBackModel": ReloadAnswer,
    "live": Alive,
    "ready": Ready,
    "listDebugDatasets": DebugDatasetList,
    "getDebugDataset": DebugDatasetDetails,
    "listFindings": DebugFindings,
    "getDebugRow": DebugRow,
    "addReviews": DebugReviews,
    "listReviews": DebugReviews,
    "suggestRows": DebugSuggestions,
    "listSlices": DebugSlices,
    "getDebugMapLegend": DebugLegend,
    "selectOnMap": DebugSelection,
    "compareAnalyses": DebugComparison,
}


@pytest.mark.parametrize("operation_id", ANSWERS)
def test_the_answers_examples_have_the_fields_of_the_answers(operation_id: str) -> None:
    kinds = get_args(ANSWERS[operation_id]) or (ANSWERS[operation_id],)
    for name, example in examples.ANSWERS[operation_id].items():
        (kind,) = [kind for kind in kinds if set(kind.__struct_fields__) == set(example)]
        assert msgspec.to_builtins(msgspec.convert(example, kind)) == msgspec.to_builtins(example), name


def test_the_problems_examples_are_problems_of_their_status() -> None:
    for status, found in examples.PROBLEMS.items():
        for example in found.values():
            problem = msgspec.convert(example, Problem)
            assert problem.status == status
            assert msgspec.to_builtins(problem) == example


def test_the_lengths_of_a_request_are_described(shared_service: Any) -> None:
    schemas = shared_service.http.get("/docs/openapi.json").json()["components"]["schemas"]
    request = schemas["UpsampleRequest"]["properties"]
    (one,) = [option for option in request["embedding"]["oneOf"] if option["type"] == "array"]
    (many,) = [option for option in request["embeddings"]["oneOf"] if option["type"] == "array"]
    assert (one["minItems"], one["maxItems"]) == (32, 32)
    assert (many["minItems"], many["maxItems"]) == (1, 256)
    assert (many["items"]["minItems"], many["items"]["maxItems"]) == (32, 32)


def test_the_examples_of_the_description_are_accepted(shared_service: Any) -> None:
    described = shared_service.http.get("/docs/openapi.json").json()
    examples = described["paths"]["/v1/upsample"]["post"]["requestBody"]["content"]["application/json"][
        "examples"
    ]
    assert len(examples) == 2
    for example in examples.values():
        assert shared_service.http.post("/v1/upsample", json=example["value"]).status_code == 200


def test_operations_stand_in_the_order_in_which_they_are_needed(shared_service: Any) -> None:
    described = shared_service.http.get("/docs/openapi.json").json()["paths"]
    ids = {operation["operationId"] for item in described.values() for operation in item.values()}
    assert ids == set(OPERATIONS) - {"search", "sql"}  # the settings for these are off
    first = [
        min((operation["operationId"] for operation in item.values()), key=OPERATIONS.index)
        for item in described.values()
    ]
    assert first == sorted(first, key=OPERATIONS.index)
    assert list(described)[:2] == ["/v1/upsample", "/v1/batches"]


def test_metrics_group_requests_by_route(shared_service: Any) -> None:
    shared_service.http.get("/v1/batches/some-id-of-my-own")
    metrics = shared_service.http.get("/metrics")
    assert metrics.status_code == 200
    assert 'route="/v1/batches/{batch_request_id}"' in metrics.text
    assert "some-id-of-my-own" not in metrics.text
    assert (
        f'embup_model_info{{version="{shared_service.http.get("/v1/models").json()["in_service"]}"}} 1.0'
        in (metrics.text)
    )


@pytest.mark.browser
def test_the_docs_page_works_in_a_browser_without_a_network(shared_service: Any) -> None:
    """Every request the page makes goes to the service, and trying the realtime example shows its answer."""
    asked: list[str] = []
    errors: list[str] = []
    with browser_page() as page:
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{shared_service.port}/")
        page.get_by_role("link", name="API", exact=True).press("Enter")
        page.locator("#operations-realtime-upsample .opblock-summary-control").press("Enter")
        answer = execute(page, "realtime-upsample")
        answer.locator("tr.response").wait_for()
        shown = answer.inner_text()
    assert "200" in shown
    assert "model_version" in shown
    assert errors == []
    assert {url.split("/")[2] for url in asked if not url.startswith(("data:", "blob:"))} == {
        f"127.0.0.1:{shared_service.port}"
    }


def test_serving_imports_nothing_that_only_training_needs(registry: Registry) -> None:
    """A fresh interpreter that serves one row has no torch, scikit-learn or matplotlib in it."""
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "import serving.server\n"
        "from embup_core.artifacts.registry import Registry\n"
        "Registry(Path(sys.argv[1])).load().upsample(np.ones((1, 32), np.float32))\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code, str(registry.root)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "litestar" in loaded
    assert "duckdb" in loaded
    assert {"torch", "sklearn", "matplotlib", "dagster", "pandas", "pyarrow", "scipy"}.isdisjoint(loaded)


def test_computing_threads_are_limited_to_one(registry: Registry) -> None:
    """OpenMP's limit is per thread: the neighbour search must not start a second one in a worker either."""
    code = (
        "import sys, os, numpy as np; from pathlib import Path\n"
        "from serving.services import Services; from serving.settings import ServingSettings\n"
        "from embup_core.artifacts.registry import Registry\n"
        "from threadpoolctl import threadpool_info\n"
        "services = Services(ServingSettings(registry=Path(sys.argv[1]), data=Path(sys.argv[1])))\n"
        "def work():\n"
        "    import faiss\n"
        "    Registry(Path(sys.argv[1])).load().upsample(np.ones((256, 32), np.float32))\n"
        "    return faiss.omp_get_max_threads(), {found['num_threads'] for found in threadpool_info()}\n"
        "for pool in (services._batch_executor, services.realtime_executor):\n"
        "    print(pool.submit(work).result())\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(registry.root)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said == ["(1, {1})"] * 2


def test_the_settings_table_has_a_described_row_for_each_setting() -> None:
    rows = [line for line in settings_table().splitlines() if line.startswith("| `EMBUP_")]
    assert len(rows) == len(ServingSettings.model_fields)
    for row in rows:
        _, name, _, meaning, _ = (cell.strip() for cell in row.split("|"))
        assert len(meaning) > 15, name


def test_settings_come_from_the_environment_and_are_frozen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EMBUP_BATCH_ROOTS", f"{tmp_path}:{tmp_path / 'b'}")
    monkeypatch.setenv("EMBUP_PORT", "1234")
    settings = ServingSettings(port=4321)
    assert settings.batch_roots == (tmp_path, tmp_path / "b")
    assert settings.port == 4321, "arguments go before the environment"
    with pytest.raises(ValidationError):
        settings.port = 1
    with pytest.raises(ValidationError, match="port"):
        ServingSettings(port=70_000)


def test_the_default_roots_are_the_data_and_the_working_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EMBUP_BATCH_ROOTS", raising=False)
    assert ServingSettings(data=Path("d")).batch_roots == (tmp_path / "d", tmp_path)


def test_the_access_log_has_a_json_line_for_each_request_and_never_a_vector(
    serve: Callable[..., Any],
) -> None:
    service = serve(access_log=True, log_format="json")
    service.http.post("/v1/upsample", json={"embedding": [0.123] * 32})
    service.http.get("/nowhere")
    service.end()
    log = service.log.read_text()
    assert '"path": "/v1/upsample"' in log
    assert '"status": 404' in log
    assert "0.123" not in log
