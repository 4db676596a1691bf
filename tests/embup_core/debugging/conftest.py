"""Generated texts and vectors whose defects are known, because they were planted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.debugging.analysis import AnnotatedRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOPICS = {
    "card": ["card", "declined", "blocked", "replacement", "pin", "stolen"],
    "travel": ["visa", "flight", "border", "passport", "country", "luggage"],
    "bill": ["bill", "due", "invoice", "payment", "electricity", "monthly"],
    "voice": ["louder", "volume", "mute", "speak", "quiet", "slower"],
}
FILLERS = ["please", "can", "you", "my", "the", "what", "is", "do", "i", "need", "help", "now"]
EACH = 60
UNLABELLED = 40


@dataclass(frozen=True)
class Planted:
    """Annotated rows and what is wrong with them.

    Attributes
    ----------
    rows
        All of them.
    truth
        Right label of each row.
    wrong
        Rows whose label was exchanged: int64, sorted.
    contradicting
        Two rows of one text with two labels.
    leaked
        Two rows of one text and label in train and test.
    """

    rows: AnnotatedRows
    truth: list[str]
    wrong: NDArray[np.int64]
    contradicting: tuple[int, int]
    leaked: tuple[int, int]


def sentences(seed: int, each: int = EACH) -> tuple[list[str], list[str]]:
    """Texts that differ, and their topics."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    topics: list[str] = []
    for topic, words in TOPICS.items():
        for number in range(each):
            chosen = [*rng.choice(words, 3, replace=False), *rng.choice(FILLERS, 3, replace=False)]
            texts.append(f"{' '.join(rng.permutation(chosen))} {topic[0]}{number}")
            topics.append(topic)
    order = rng.permutation(len(texts))
    return [texts[i] for i in order], [topics[i] for i in order]


@pytest.fixture(scope="session")
def planted() -> Planted:
    """280 texts of four topics: 12 wrong labels, one contradiction, one leak, 40 rows without a label."""
    texts, truth = sentences(0, EACH + UNLABELLED // 4)
    rng = np.random.default_rng(1)
    n_rows = len(texts)
    usages: list[str | None] = ["test" if i % 5 == 0 else "train" for i in range(n_rows)]
    labels: list[str | None] = list(truth)
    unlabelled = n_rows - UNLABELLED
    for row in range(unlabelled, n_rows):
        labels[row] = None
        usages[row] = None
    contradicting, leaked = (0, 1), (5, 6)
    texts[1] = texts[0].upper() + "  "
    truth[1] = labels[0] = truth[0]
    labels[1] = next(topic for topic in TOPICS if topic != truth[0])
    texts[6], labels[6], truth[6] = texts[5], labels[5], truth[5]
    wrong = np.sort(rng.choice(np.arange(10, unlabelled), 12, replace=False))
    for row in wrong.tolist():
        labels[row] = str(rng.choice([topic for topic in TOPICS if topic != truth[row]]))
    rows = AnnotatedRows(labels, texts, usages, rng.random(n_rows))
    return Planted(rows, truth, wrong, contradicting, leaked)


def blobs(
    n_classes: int, each: int, dims: int = 24, *, spread: float = 0.5, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors around one centre for each class, in random order, and their classes."""
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.repeat(np.arange(n_classes), each))
    centres = rng.standard_normal((n_classes, dims))
    noise = spread * rng.standard_normal((len(codes), dims))
    return (centres[codes] + noise).astype(np.float32), codes
