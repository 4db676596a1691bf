"""All rows of a data set are asked about: in batches, each answer stored at once, bad batches halved."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

from debugger.predictions.client import Answer, ApiRefusesError, RequestFailedError
from debugger.predictions.stored import checked_source, predicted_rows, publish, record_answers
from debugger.reading import open_dataset
from debugger.store.locking import exclusive
from debugger.store.names import find_dataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from debugger.predictions.client import PredictionClient
    from embup_core.progress import Progress

HOPELESS: Final = 5
"""Batches in a row without one answer, after which the API counts as out of order."""
ATTEMPTS_OF_HALVES: Final = 2
_TEXTS_AT_ONCE: Final = 2_000


@dataclass
class PredictReport:
    """What asking came to.

    Attributes
    ----------
    name, source
        The data set, and the name of the classifier.
    rows
        Rows with a text.
    known
        Rows that had a prediction before.
    answered, failed
        Rows that have one now, and rows that were asked in vain.
    not_asked
        Rows that were not asked, because of `stopped`.
    stopped
        Why asking ended early; empty where it did not.
    reasons
        How many rows failed, by reason.
    took_s
        Seconds.
    """

    name: str
    source: str
    rows: int = 0
    known: int = 0
    answered: int = 0
    failed: int = 0
    not_asked: int = 0
    stopped: str = ""
    reasons: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0


@dataclass(frozen=True)
class _Batch:
    rows: tuple[int, ...]
    texts: tuple[str, ...]


@dataclass
class _Outcome:
    answers: list[tuple[int, Sequence[tuple[str, float]]]] = field(default_factory=list)
    failures: list[tuple[int, str]] = field(default_factory=list)


def predict(
    data: Path,
    name: str,
    client: PredictionClient,
    *,
    source: str = "api",
    progress: Progress | None = None,
) -> PredictReport:
    """Ask for predictions of all rows that have none yet.

    Parameters
    ----------
    data
        The data folder.
    name
        Of the data set.
    client
        Of the API.
    source
        Name that the predictions are stored under. Rows that have one of this name are not asked again, also
        after a kill.
    progress
        Called with a label, rows done and rows in all.

    Returns
    -------
    PredictReport
        Partial failure is no error: it is reported.

    Raises
    ------
    InputError
        There is no such data set, or another process asks (code ``conflict``).
    OutputError
        An answer cannot be stored.
    """
    started_s = time.perf_counter()
    checked_source(source)
    folder = find_dataset(data, name)
    report = PredictReport(name, source)
    with exclusive(folder.path / "predict.lock", wait=False, what="asks for predictions"):
        known = predicted_rows(folder, source)
        with open_dataset(data, name) as opened:
            counted = opened.query("SELECT count(*) AS n FROM rows WHERE trim(text) <> ''")
            report.rows, report.known = counted[0]["n"], len(known)
        wanted = report.rows - report.known
        try:
            for outcome in _outcomes(client, _batches(data, name, known, client.limits.batch_rows), report):
                record_answers(folder, source, outcome.answers, outcome.failures)
                report.answered += len(outcome.answers)
                report.failed += len(outcome.failures)
                report.reasons.update(reason for _, reason in outcome.failures)
                if progress is not None:
                    failed = f", {report.failed:,} failed" if report.failed else ""
                    progress(f"{report.answered:,} answered{failed}", report.answered + report.failed, wanted)
        finally:
            publish(folder)
    report.not_asked = wanted - report.answered - report.failed
    report.took_s = time.perf_counter() - started_s
    return report


def _batches(data: Path, name: str, known: set[int], size: int) -> Iterator[_Batch]:
    """Batches of the rows that are not known; of the texts only some thousand are in memory."""
    with open_dataset(data, name) as opened, opened.reading() as connection:
        # Without a sort, which would hold all texts at once: rows are read in the order they were stored in.
        found = connection.execute("SELECT row, text FROM rows WHERE trim(text) <> ''")

        def rows() -> Iterator[tuple[int, str]]:
            while block := found.fetchmany(_TEXTS_AT_ONCE):
                yield from ((row, text) for row, text in block if row not in known)

        wanted = rows()
        while batch := list(islice(wanted, size)):
            yield _Batch(tuple(row for row, _ in batch), tuple(text for _, text in batch))


def _outcomes(
    client: PredictionClient, batches: Iterator[_Batch], report: PredictReport
) -> Iterator[_Outcome]:
    """Outcomes as they come in, until all batches are asked or it is no use to go on."""
    hopeless = 0
    with _pool(client) as pool:
        under_way: set[Future[_Outcome]] = set()
        while True:
            while not report.stopped and len(under_way) < client.limits.concurrency:
                if client.left_s <= 0:
                    report.stopped = f"the deadline of {client.limits.deadline_s:g} s has passed"
                    break
                batch = next(batches, None)
                if batch is None:
                    break
                under_way.add(pool.submit(_ask, client, batch))
            if not under_way:
                return
            # An interrupt that comes just before a wait without end would be heard only when that ends.
            done, under_way = wait(under_way, timeout=1, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    outcome = future.result()
                except ApiRefusesError as error:
                    report.stopped = f"{error.message} {error.remedy}"
                    continue
                hopeless = 0 if outcome.answers else hopeless + 1
                if hopeless >= HOPELESS and not report.stopped:
                    reason = outcome.failures[-1][1] if outcome.failures else "no answer"
                    report.stopped = f"{HOPELESS} batches in a row had no answer; the last: {reason}"
                yield outcome


@contextmanager
def _pool(client: PredictionClient) -> Iterator[ThreadPoolExecutor]:
    """Threads that ask; an error, such as an interrupt, does not wait for tries that are still to come."""
    with ThreadPoolExecutor(client.limits.concurrency, thread_name_prefix="predict") as pool:
        try:
            yield pool
        except BaseException:
            client.stop()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _ask(client: PredictionClient, batch: _Batch) -> _Outcome:
    """Ask about a batch; where it fails, about its halves, so that one bad text costs one row."""
    outcome = _Outcome()
    todo = [batch]
    while todo:
        part = todo.pop()
        try:
            answers = client.ask(part.texts, attempts=None if part is batch else ATTEMPTS_OF_HALVES)
        except RequestFailedError as error:
            if len(part.rows) == 1 or not error.halve or client.left_s <= 0:
                outcome.failures += [(row, error.reason) for row in part.rows]
                continue
            middle = len(part.rows) // 2
            todo += [
                _Batch(part.rows[middle:], part.texts[middle:]),
                _Batch(part.rows[:middle], part.texts[:middle]),
            ]
            continue
        for row, answer in zip(part.rows, answers, strict=True):
            _note(outcome, row, answer)
    return outcome


def _note(outcome: _Outcome, row: int, answer: Answer) -> None:
    if answer.candidates:
        outcome.answers.append((row, answer.candidates))
    else:
        outcome.failures.append((row, answer.reason))
