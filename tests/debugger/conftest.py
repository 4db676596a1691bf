"""A generated data set, imported, and an analysis that needs no fit."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from debugger.importing.annotated import import_annotated
from embup_core.debugging.analysis import Analysis, AnnotatedRows, Finding, Neighbours, Prediction, Slice
from tests.debugger.chatbot import Chat, generate_chat
from tests.debugger.test_import import write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(scope="session")
def chat() -> Chat:
    return generate_chat(400)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder."""
    return tmp_path / "data"


@pytest.fixture
def chat_file(tmp_path: Path, chat: Chat) -> Path:
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(chat.records))
    return path


@pytest.fixture
def imported(data: Path, chat_file: Path) -> Path:
    """The data folder with the data set `chat` in it."""
    import_annotated(chat_file, data, "chat")
    return data


@pytest.fixture
def texts(data: Path, tmp_path: Path) -> list[str]:
    """Texts of the data set `few`, 50 rows, the last without a text."""
    found = [f"word{i} of row {i}" for i in range(49)]
    records = [{"id": i, "text": text, "usage": "train" if i < 10 else None} for i, text in enumerate(found)]
    import_annotated(write(tmp_path / "few.json", [*records, {"id": 49}]), data, "few")
    return found


def quick_analysis(
    rows: AnnotatedRows, *, predictions: Sequence[Prediction] = (), seed: int = 0, progress: Any = None
) -> Analysis:
    """An analysis of the right form, made of numbers that a test can predict: rows by their number."""
    n_rows = len(rows.labels)
    classes = tuple(sorted({label for label in rows.labels if label})) or ("none",)
    probabilities = np.full((n_rows, len(classes)), 1 / len(classes), np.float32)
    unlabelled = np.array([row for row, label in enumerate(rows.labels) if label is None], dtype=np.int64)
    others = np.tile(np.array([[1, 0]]), (n_rows, 1))
    score = np.arange(n_rows, dtype=np.float64) / n_rows + seed
    expected = score / 2
    expected[0] = np.nan
    findings = [
        Finding("label_error", "warning", np.array([row]), f"Row {row}.", {"p": np.float32(0.1)},
                "Read it.", float(-row))
        for row in range(5)
    ]  # fmt: skip
    findings.append(
        Finding("label_next", "note", unlabelled[:3], "Label these.", {"nan": float("nan")}, "Label.", 1)
    )
    return Analysis(
        scores={
            "label_error": score,
            "pair_error": score,
            "expected_error": expected,
            "margin": 1 - score,
        },
        findings=tuple(findings),
        slices=(Slice("label", "visa", np.arange(4), "wrong", 0.5, 0.4, 0.6, 0.1, 0.01, 0.02, True),),
        predictions=(
            Prediction("out of fold: text", classes, probabilities, np.zeros(n_rows, bool)),
            *predictions,
        ),
        positions=np.stack([score, score], axis=1).astype(np.float32),
        summary={"kind": "annotated", "labelled": n_rows - len(unlabelled), "accuracy": np.float64(0.5)},
        neighbours={"text": Neighbours(others - [0, 1], np.full((n_rows, 2), 0.5, np.float32))},
    )
