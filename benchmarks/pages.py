"""How soon each page of the console is painted first, over a data set of many rows and one of many findings.

    python -m benchmarks.pages [--rows 100000] [--findings 1000000] [--loads 5] [--most-ms 300] [--only TEXT]
                               [--registry DIR] [--chromium FILE]

Generated rows of 20 classes are imported and given an analysis of the size that a real one has; so is a
second data set, of 1,000 rows with all those findings. Each load is that of a browser that has nothing
cached, pages in turns. A figure is the median first contentful paint after the navigation began. Exits with 1
where one is later than `--most-ms`, a page says something to the console, or asks another host.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.figures import say, table
from benchmarks.service.server import registry_and_rows, serving_process, write_input
from debugger.importing.annotated import import_annotated
from debugger.reviews import Review, add_reviews
from debugger.runs import run
from debugger.store.names import find_dataset
from embup_client import Client
from embup_core.debugging.analysis import Analysis, Finding, Neighbours, Prediction, Slice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.sync_api import Browser

    from embup_core.debugging.analysis import AnnotatedRows

CLASSES = 20
NEIGHBOURS = 10
DECISIONS = 200
ROWS, FINDINGS = "rows", "findings"
SCORES = (
    "label_error", "label_probability", "entropy", "margin", "given_score", "training_cosine", "isolation",
)  # fmt: skip
KINDS = ("label_error", "contradicting_labels", "duplicate_across_usages", "confident_disagreement")
PAINTED = "performance.getEntriesByName('first-contentful-paint').length > 0"
PAINT_MS = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
ANSWER_MS = "performance.getEntriesByType('navigation')[0].responseEnd"
LONGEST_WAIT_MS = 60_000
OF_DATASET = (
    "", "/findings", "/findings?kind=label_error", "/findings/1", "/rows/0", "/map",
    "/map?colour=label_error", "/map?polygon=-1,-1 1,-1 1,1 -1,1", "/classes",
    "/classes?label=class 1&predicted=class 2", "/slices", "/slices/1", "/next", "/reviews", "/compare",
)  # fmt: skip


@dataclass
class Loads:
    """What the loads of one page came to.

    Attributes
    ----------
    paint_ms, answer_ms
        Milliseconds until the first paint, and until the page's last byte.
    faults
        What it said to the console, and which other hosts it asked.
    """

    paint_ms: list[float] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)
    faults: set[str] = field(default_factory=set)


def made_analysis(findings: int) -> Any:
    """An analysis with so many findings, as `run` calls it."""

    def analyse(rows: AnnotatedRows, *, seed: int = 0, **_: Any) -> Analysis:
        rng = np.random.default_rng(seed)
        n_rows = len(rows.labels)
        classes = tuple(f"class {number}" for number in range(CLASSES))
        evidence = {"label": "class 1", "predicted": "class 2", "probability": 0.01}
        return Analysis(
            scores={kind: rng.random(n_rows) for kind in SCORES},
            findings=tuple(
                Finding(
                    KINDS[number * len(KINDS) // findings], "warning",
                    np.array([number % n_rows, (number + 1) % n_rows]),
                    f"Row {number % n_rows} has the label class 1.", evidence, "Read it.", -number,
                )
                for number in range(findings)
            ),
            slices=tuple(
                Slice("cluster", str(number), np.arange(number, n_rows, 80), "wrong", 0.2, 0.1, 0.3, 0.1,
                      0.01, 0.02, number < 5)
                for number in range(80)
            ),
            predictions=(
                Prediction(
                    "out of fold: text", classes, rng.dirichlet(np.ones(CLASSES), n_rows).astype(np.float32),
                    np.zeros(n_rows, bool),
                ),
            ),
            positions=rng.standard_normal((n_rows, 2)).astype(np.float32),
            summary={"kind": "annotated", "rows": n_rows},
            neighbours={
                "text": Neighbours(
                    rng.integers(0, n_rows, (n_rows, NEIGHBOURS)),
                    rng.random((n_rows, NEIGHBOURS)).astype(np.float32),
                )
            },
        )  # fmt: skip

    return analyse


def make_dataset(folder: Path, name: str, rows: int, findings: int) -> None:
    """Import generated rows, analyse them twice, and decide about some."""
    file = folder / f"{name}.jsonl"
    usages = ("train", "train", "validation", "test")
    with file.open("w") as out:
        for row in range(rows):
            label = f"class {row % CLASSES}" if row % 10 else ""
            record = {
                "id": row, "text": f"what is the {row % 977}th thing of {row}", "label": label,
                "complete": bool(label), "usage": usages[row % 4] if label else None, "score": row / rows,
            }  # fmt: skip
            out.write(json.dumps(record) + "\n")
    started_s = time.perf_counter()
    import_annotated(file, folder, name)
    say(f"{name}: {rows:,} rows imported in {time.perf_counter() - started_s:.1f} s")
    decided = [Review(row=row, action="confirm", reviewer="benchmark") for row in range(1, DECISIONS + 1)]
    add_reviews(find_dataset(folder, name), decided, rows=rows)
    for seed in (0, 1):
        started_s = time.perf_counter()
        run(folder, name, analyse=made_analysis(findings), seed=seed)
        say(f"{name}: analysis with {findings:,} findings stored in {time.perf_counter() - started_s:.1f} s")


def load_once(browser: Browser, origin: str, path: str, loads: Loads) -> None:
    """Load a page in a browser that has nothing cached."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.on("console", lambda message: loads.faults.add(f"{message.type}: {message.text[:100]}"))
    page.on("pageerror", lambda error: loads.faults.add(str(error)[:100]))
    page.on(
        "request",
        lambda one: None if one.url.startswith((origin, "data:", "blob:")) else loads.faults.add(one.url),
    )
    answer = page.goto(origin + path, wait_until="commit", timeout=LONGEST_WAIT_MS)
    if answer is None or answer.status != 200:
        loads.faults.add(f"status {None if answer is None else answer.status}")
    deadline = time.monotonic() + LONGEST_WAIT_MS / 1000
    while not page.evaluate(PAINTED):  # the page's policy allows no function that waits for it
        if time.monotonic() > deadline:
            raise SystemExit(f"error: {path} was not painted")
        page.wait_for_timeout(20)
    page.wait_for_load_state("load", timeout=LONGEST_WAIT_MS)
    loads.paint_ms.append(float(page.evaluate(PAINT_MS)))
    loads.answer_ms.append(float(page.evaluate(ANSWER_MS)))
    context.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the data sets, load the pages, and print the table."""
    parser = argparse.ArgumentParser(description="First paint of each page of the console.")
    parser.add_argument("--rows", type=int, default=100_000, help="of the first data set")
    parser.add_argument("--findings", type=int, default=1_000_000, help="of the second data set")
    parser.add_argument("--loads", type=int, default=5, help="of each page")
    parser.add_argument("--most-ms", type=float, default=300, help="latest first paint")
    parser.add_argument("--only", default="", help="pages whose address contains this")
    parser.add_argument("--registry", type=Path, help="of decoders; without one, kriging on the sample")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="the browser")
    given = parser.parse_args(arguments)
    if given.chromium is None:
        raise SystemExit("error: there is no Chromium; install it, or say where it is with --chromium")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        make_dataset(folder, ROWS, given.rows, max(1, given.rows // 20))
        make_dataset(folder, FINDINGS, 1000, given.findings)
        registry, projected = registry_and_rows(given.registry, None, folder)
        with serving_process(registry, folder) as (_, port):
            origin = f"http://127.0.0.1:{port}"
            with Client(origin) as client:
                write_input(folder / "in.csv", projected, 1000)
                batch = client.submit_batch(folder / "in.csv", folder / "out.csv")
                client.wait(batch)
            paths = [
                "/", "/console/batches", f"/console/batches/{batch}", "/console/try",
                "/console/decoders", "/console/debug", "/docs",
                *(f"/console/debug/{name}{path}" for name in (ROWS, FINDINGS) for path in OF_DATASET),
            ]  # fmt: skip
            loads = {path: Loads() for path in paths if given.only in path}
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=given.chromium,
                    args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
                )
                load_once(browser, origin, "/", Loads())
                for number in range(given.loads):
                    say(f"load {number + 1} of {given.loads}")
                    for path, of_page in loads.items():
                        load_once(browser, origin, path, of_page)
                browser.close()
    rows = [
        [path, f"{np.median(one.paint_ms):.0f}", f"{max(one.paint_ms):.0f}",
         f"{np.median(one.answer_ms):.0f}", "; ".join(sorted(one.faults)) or "-"]
        for path, one in loads.items()
    ]  # fmt: skip
    print(table(["page", "first paint, median ms", "latest", "answered, median ms", "faults"], rows))
    return int(any(one.faults or np.median(one.paint_ms) > given.most_ms for one in loads.values()))


if __name__ == "__main__":
    sys.exit(main())
