"""The files in monitoring/ ask for what the real service has, and the page about it misses nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]  # no stubs are installed
from prometheus_client.parser import text_string_to_metric_families

from embup_core.artifacts.remote import open_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.s3 import S3Server

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "monitoring"
PAGE = ROOT / "docs" / "how-to" / "monitoring.md"
DASHBOARD = MONITORING / "grafana" / "dashboards" / "embup.json"
OURS = re.compile(r"\b((?:embup|process)_[a-z_]+)(\{[^}]*\})?")
OF_PROMETHEUS = {"up"}
PROMTOOL = shutil.which("promtool")


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard_queries() -> Iterator[tuple[str, str]]:
    board = json.loads(DASHBOARD.read_text())
    for annotation in board["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


@pytest.fixture(scope="module")
def seen(
    registry: Any,
    s3_server: S3Server,
    tmp_path_factory: pytest.TempPathFactory,
    rows: Callable[..., Any],
    service_class: Callable[..., Any],
) -> dict[str, list[dict[str, str]]]:
    """Every sample's name and labels of a service that has done a little of everything."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_TRACES_EXPORTER", "none")
        for name, value in s3_server.environment.items():
            environment.setenv(name, value)
        in_store = open_registry(f"{s3_server.new_bucket()}/registry", tmp_path_factory.mktemp("cache"))
        shutil.copytree(registry.root, in_store.root, dirs_exist_ok=True)
        in_store.promote(registry.current_version())
        service = service_class(in_store.address, tmp_path_factory.mktemp("monitored"), traces=True)
    try:
        service.http.post("/v1/upsample", json={"embeddings": rows(3).tolist()})
        assert service.final(service.submit(service.write_input("in.txt", 9), "out.txt"))["error"] is None
        text = service.http.get("/metrics").text
    finally:
        service.end()
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample.labels)
    return found


def test_alerts_and_panels_ask_for_metrics_and_labels_that_there_are(
    seen: dict[str, list[dict[str, str]]],
) -> None:
    queries = [*dashboard_queries(), *((rule["alert"], rule["expr"]) for rule in alerts())]
    asked = set()
    for name, query in queries:
        for metric, selector in OURS.findall(query):
            assert metric in seen, f"{name}: {metric}"
            asked.add(metric)
            labels = {label for labels in seen[metric] for label in labels} | {"instance", "job"}
            for label, _, values in re.findall(r'(\w+)(=~|!=|!~|=)"([^"]*)"', selector):
                assert label in labels, f"{name}: {metric} has no label {label}"
                if "$" in values or label in {"job", "route", "status_code"}:
                    continue
                has = {labels.get(label) for labels in seen[metric]}
                assert set(values.split("|")) <= has, f"{name}: {metric} has only {has}"
        for by in re.findall(r"\bby \(([^)]*)\)", query):
            metrics = [metric for metric, _ in OURS.findall(query)]
            for label in re.split(r",\s*", by):
                known = {one for metric in metrics for labels in seen[metric] for one in labels}
                assert label in known | {"instance"}, f"{name}: nothing has a label {label}"
    assert len(asked) > 40


def test_every_metric_of_the_service_is_on_the_page_and_on_the_dashboard_or_in_an_alert(
    seen: dict[str, list[dict[str, str]]],
) -> None:
    page, files = PAGE.read_text(), DASHBOARD.read_text() + (MONITORING / "alerts.yml").read_text()
    ours = {name for name in seen if name.startswith("embup_") and not name.endswith("_created")}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours}
    for name in sorted(families):
        assert re.search(rf"^\| `{name}`(?: `[a-z_, ]+`)? \| \w+ \| \S", page, re.MULTILINE), name
        assert name in files, f"{name} is shown nowhere"
    documented = set(re.findall(r"^\| `(embup_[a-z_]+)`", page, re.MULTILINE))
    assert documented == families, "the page has what the service has not"


def test_every_alert_is_explained_and_tested() -> None:
    page, tests = PAGE.read_text(), yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    fired = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case["exp_alerts"]}
    for rule in alerts():
        assert f"### {rule['alert']}\n" in page, rule["alert"]
        assert rule["alert"] in fired, rule["alert"]
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
        assert rule["annotations"]["summary"]


def test_the_dashboard_is_one_that_grafana_can_load() -> None:
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] <= 24 - place["w"], panel["title"]
        assert panel["type"] == "row" or panel["targets"], panel["title"]
    provisioning = MONITORING / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert board["templating"]["list"][0]["current"]["value"] == source["uid"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "embup.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_accepts_the_configuration_and_the_alerts_fire(arguments: tuple[str, ...]) -> None:
    if PROMTOOL is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    ran = subprocess.run(
        [PROMTOOL, *arguments], cwd=MONITORING, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_takes_every_query_of_the_dashboard(tmp_path: Path) -> None:
    if PROMTOOL is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    rules = [
        {"record": f"panel_{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, (_, query) in enumerate(dashboard_queries())
    ]
    (tmp_path / "panels.yml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    ran = subprocess.run(
        [PROMTOOL, "check", "rules", "panels.yml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
