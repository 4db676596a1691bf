"""Data sets that are odd as a whole: each page and each question is answered all the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from debugger.importing.annotated import import_annotated
from debugger.runs import run
from embup_core.debugging.analysis import Finding
from tests.debugger.chatbot import generate_chat
from tests.debugger.conftest import quick_analysis
from tests.serving.debug.conftest import Debugged, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from embup_core.artifacts.registry import Registry
    from embup_core.debugging.analysis import Analysis, AnnotatedRows

PAGES = (
    "", "/findings", "/findings/1", "/rows/0", "/map", "/map?polygon=-99,-99 99,-99 99,99 -99,99", "/classes",
    "/slices", "/slices/1", "/next", "/reviews", "/compare",
)  # fmt: skip
QUESTIONS = (
    "", "/findings?limit=200", "/rows/0", "/slices", "/suggestions", "/map", "/map/legend",
    "/comparison?before=1&after=1", "/reviews", "/exports/cleaned", "/exports/annotate", "/exports/reviews",
    "/exports/dropped",
)  # fmt: skip
RTL = "\u202e\u0645\u0631\u062d\u0628\u0627 \u2066x"
FORMULA = '=HYPERLINK("http://example.org","a")'
ODD: dict[str, list[dict[str, Any]]] = {
    "no-labels": [{"text": f"word{row} of many"} for row in range(60)],
    "one-class": [{"text": f"word{row} of many", "label": "only"} for row in range(60)],
    "vectors-of-zeros": [{"embedding": [0.0, 0.0], "label": "ab"[row % 2]} for row in range(50)],
    "one-row": [{"text": "\x00", "label": "<script>window.executed = 1</script>"}],
    "many-classes": [{"text": f"thing{row // 2} {row}", "label": f"class {row // 2}"} for row in range(6000)],
    "formulas": [
        {"text": text, "label": label, "usage": "train"}
        for text in (FORMULA, "+1", "-2+3", "@SUM(A1)", "\t=1", RTL, "😀" * 50, "\x00", "a" * 1_000_000)
        for label in (FORMULA, RTL)
    ],
}


@pytest.fixture(scope="module")
def odd(
    service_class: Any, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Debugged]:
    """A service over all of them, analysed for real but for the many classes."""
    folder = tmp_path_factory.mktemp("odd")
    for name, records in ODD.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps(records))
        import_annotated(file, folder / "data", name)
        run(folder / "data", name, analyse=quick_analysis if name == "many-classes" else None)
    yield from serve(service_class, registry, generate_chat(1), folder / "data")


@pytest.mark.parametrize("name", ODD)
def test_odd_data_sets_are_answered(odd: Debugged, name: str) -> None:
    assert_all_is_answered(odd, name)


def assert_all_is_answered(debugged: Debugged, name: str) -> None:
    """What a data set lacks is not there; nothing else is refused."""
    http = debugged.service.http
    for path in PAGES:
        answer = http.get(f"/console/debug/{name}{path}", headers={"Accept": "text/html"})
        missing = path in ("/findings/1", "/slices/1")
        assert answer.status_code in ((200, 404) if missing else (200,)), (path, answer.text[-2000:])
        assert "<script>window" not in answer.text, path
        assert len(answer.content) < 600_000, path
    for path in QUESTIONS:
        answer = http.get(f"/v1/debug/datasets/{name}{path}")
        assert answer.status_code == 200, (path, answer.text[-2000:])
    exported = http.get(f"/v1/debug/datasets/{name}/exports/annotate").text
    cells = [line.split(",")[2].strip('"') for line in exported.splitlines()[1:] if line.count(",") > 2]
    assert not [cell for cell in cells if cell[:1] in {"=", "+", "-", "@"}]


@pytest.mark.parametrize("findings", [30_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
@pytest.mark.timeout(400)
def test_as_many_findings_as_there_may_be(
    service_class: Any, registry: Registry, tmp_path: Path, findings: int
) -> None:
    def analyse(rows: AnnotatedRows, **options: Any) -> Analysis:
        found = quick_analysis(rows, **options)
        evidence = {"label": "a"}
        many = tuple(
            Finding(
                "label_error", "warning", np.array([number % 400]), "Look.", evidence, "Read it.", -number
            )
            for number in range(findings)
        )
        return replace(found, findings=many)

    file = tmp_path / "chat.json"
    file.write_text(json.dumps(generate_chat(400).records))
    import_annotated(file, tmp_path / "data", "many")
    run(tmp_path / "data", "many", analyse=analyse)
    for debugged in serve(service_class, registry, generate_chat(1), tmp_path / "data"):
        assert_all_is_answered(debugged, "many")
        body = {"reviews": [{"row": row, "action": "keep"} for row in range(1, 400)]}
        answer = debugged.service.http.post("/v1/debug/datasets/many/reviews", json=body)
        assert answer.status_code == 201
        page = debugged.service.http.get("/v1/debug/datasets/many/findings?limit=200").json()
        assert {tuple(one["rows"]) for one in page["findings"]} == {(0,)}, "what is decided is passed over"
        assert_all_is_answered(debugged, "many")
