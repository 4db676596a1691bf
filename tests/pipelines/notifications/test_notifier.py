"""Messages arrive by HTTP and by mail, once each, and no secret is shown."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from embup_core.errors import InputError
from embup_core.training.promotion import GateCheck, GateResult
from pipelines.notifications import Delivery, Kind, Message, Notifier, outbox
from pipelines.notifications.outbox import FIRST_WAIT, GIVEN_UP_AFTER, LONGEST_WAIT, Outbox
from pipelines.notifications.record import KEPT_LINES, SentRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LATE = Message.drop_late("2026-11", due="2026-11-05")


def test_a_message_arrives_by_webhook_and_by_mail(
    webhook: Any, mails: Any, addresses: Callable[..., Path], tmp_path: Path
) -> None:
    sink, mail_url = mails
    notifier = Notifier(addresses(webhook.url, mail_url), tmp_path, dagster_url="https://dagster.example/")
    message = Message.run_failed("monthly", "abc", step="drop", reason="no such file", partition="2026-11")
    delivery = notifier.send(message)
    assert delivery.reached == ("line 3 (json)", "line 4 (mailto)")
    assert not delivery.failed
    [posted] = webhook.received
    assert posted["title"] == "embup: monthly of 2026-11 failed at drop"
    assert posted["type"] == "failure"
    assert "no such file" in posted["message"]
    assert posted["message"].endswith("https://dagster.example/runs/abc")
    [mail] = sink.mails
    assert mail["Subject"] == posted["title"]
    assert "no such file" in mail.get_body(("plain",)).get_content()


def test_none_is_sent_twice(webhook: Any, addresses: Callable[..., Path], tmp_path: Path) -> None:
    file = addresses(webhook.url)
    assert Notifier(file, tmp_path).send(LATE).reached
    again = Notifier(file, tmp_path).send(LATE)  # another process, later
    assert (again.reached, again.repeated) == ((), ("line 3 (json)",))
    Notifier(file, tmp_path).send(Message.drop_late("2026-12", due="2026-12-05"))
    assert webhook.titles == ["embup: drop 2026-11 is late", "embup: drop 2026-12 is late"]


def test_of_many_senders_at_once_one_sends(
    webhook: Any, addresses: Callable[..., Path], tmp_path: Path
) -> None:
    file = addresses(webhook.url)
    with ThreadPoolExecutor(8) as threads:
        deliveries = list(threads.map(lambda _: Notifier(file, tmp_path).send(LATE), range(8)))
    assert sum(bool(one.reached) for one in deliveries) == 1
    assert len(webhook.received) == 1


def test_an_address_that_failed_is_tried_again_and_the_others_are_not(
    webhook: Any, mails: Any, addresses: Callable[..., Path], tmp_path: Path
) -> None:
    sink, mail_url = mails
    notifier = Notifier(addresses(webhook.url, mail_url), tmp_path)
    webhook.status = 503
    first = notifier.send(LATE)
    assert first.reached == ("line 4 (mailto)",)
    assert list(first.failed or {}) == ["line 3 (json)"]
    webhook.status = 200
    second = notifier.send(LATE)
    assert (second.reached, second.repeated) == (("line 3 (json)",), ("line 4 (mailto)",))
    assert (len(webhook.received), len(sink.mails)) == (1, 1)


def test_what_an_address_did_not_take_is_sent_later_in_order_and_once(
    webhook: Any, mails: Any, addresses: Callable[..., Path], tmp_path: Path
) -> None:
    sink, mail_url = mails
    file = addresses(webhook.url, mail_url)
    webhook.status = 503
    later = Message.drop_late("2026-12", due="2026-12-05")
    for message in (LATE, later):
        assert Notifier(file, tmp_path).send(message).failed
    assert len(sink.mails) == 2  # one address does not keep the other from its messages
    webhook.status = 200
    now = datetime.now(UTC)
    fresh = Notifier(file, tmp_path)  # as another process would
    waits = fresh.send_waiting(now)
    assert [bool(one.failed) for one in waits.values()] == [True, True]  # a minute has not passed
    assert webhook.titles == []
    sent = fresh.send_waiting(now + FIRST_WAIT * 2)
    assert list(sent) == [LATE.key, later.key]
    assert webhook.titles == [LATE.title, later.title]
    assert fresh.send_waiting(now + GIVEN_UP_AFTER) == {}
    assert fresh.send(later).repeated
    assert (len(webhook.received), len(sink.mails)) == (2, 2)


def test_waits_grow_and_after_days_a_message_is_given_up(
    webhook: Any, addresses: Callable[..., Path], tmp_path: Path
) -> None:
    notifier = Notifier(addresses(webhook.url), tmp_path)
    webhook.status = 503
    notifier.send(LATE)
    box = Outbox(tmp_path / "notifications")
    [waiting] = box.load()
    [(digest, (count, last))] = waiting.tries.items()
    assert count == 1
    longer = waiting.failed_at(digest, last)
    assert waiting.is_due(digest, last + FIRST_WAIT)
    assert not longer.is_due(digest, last + FIRST_WAIT)
    for _ in range(2000):
        longer = longer.failed_at(digest, last)
    assert longer.is_due(digest, last + LONGEST_WAIT)
    waits = notifier.send_waiting(last + GIVEN_UP_AFTER / 2)[LATE.key]
    assert (waits.waits, waits.given_up) == (True, False)
    given_up = notifier.send_waiting(last + GIVEN_UP_AFTER * 2)[LATE.key]
    assert given_up.failed
    assert (given_up.waits, given_up.given_up) == (False, True)
    assert "given up after 3 days" in str(given_up)
    assert box.load() == []


def test_a_message_waits_while_the_file_of_addresses_cannot_be_used(
    webhook: Any, addresses: Callable[..., Path], tmp_path: Path
) -> None:
    file = addresses(webhook.url)
    file.chmod(0o644)
    with pytest.raises(InputError):
        Notifier(file, tmp_path).send(LATE)
    file.chmod(0o600)
    with (tmp_path / "notifications" / "waiting.jsonl").open("a") as damaged:
        damaged.write('{"message": 1}\ncut sho')
    assert Notifier(file, tmp_path).send_waiting()[LATE.key].reached
    assert webhook.titles == [LATE.title]
    # Another version of embup may be able to read them.
    assert (tmp_path / "notifications" / "waiting.jsonl").read_text() == '{"message": 1}\ncut sho\n'


def test_others_read_no_messages_and_a_log_says_which_were_not_written_down(
    webhook: Any, addresses: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    notifier, logged = Notifier(addresses(webhook.url), tmp_path), list[str]()
    with monkeypatch.context() as patched:
        patched.setattr(outbox, "replace_durably", full)
        notifier.tell(LATE, logged.append)
    assert "could not be written down" in logged[0]
    assert (tmp_path / "notifications").stat().st_mode & 0o777 == 0o700
    (tmp_path / "addresses").chmod(0o644)
    notifier.tell(LATE, logged.append)
    assert "and waits" in logged[1]


def test_nothing_shows_an_address(
    webhook: Any, addresses: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    webhook.status = 500
    file = addresses(webhook.url, "nonsense://secret-word", "json://user:secret-word@127.0.0.1:1/")
    notifier = Notifier(file, tmp_path)
    logged: list[str] = []
    notifier.tell(LATE, logged.append)
    delivery = notifier.send(LATE)
    assert set(delivery.failed or {}) == {"line 3 (json)", "line 4 (nonsense)", "line 5 (json)"}
    shown = "".join(logged) + str(delivery) + repr(notifier.addresses()) + "".join(capfd.readouterr())
    stored = "".join(path.read_text() for path in (tmp_path / "notifications").iterdir())
    assert "line 3 (json)" in shown
    assert "secret-word" not in shown + stored


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
def test_a_file_that_others_may_read_or_change_is_refused(
    webhook: Any, addresses: Callable[..., Path], tmp_path: Path, mode: int
) -> None:
    file = addresses(webhook.url)
    file.chmod(mode)
    with pytest.raises(InputError):
        Notifier(file, tmp_path).send(LATE)
    logged: list[str] = []
    Notifier(file, tmp_path).tell(LATE, logged.append)  # fails nothing
    assert "was not sent" in logged[0]
    assert webhook.received == []
    file.chmod(0o640)
    assert Notifier(file, tmp_path).send(LATE).reached


def test_without_a_file_nothing_happens(tmp_path: Path) -> None:
    assert Notifier(None, tmp_path).send(LATE) == Delivery()
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError):
        Notifier(tmp_path / "none", tmp_path).send(LATE)


def test_the_record_is_cut_and_survives_damage(tmp_path: Path) -> None:
    record = SentRecord(tmp_path)
    with record.locked():
        lines = [{"at": "", "key": f"k{number}", "to": "a"} for number in range(2 * KEPT_LINES)]
        file = tmp_path / "notifications" / "sent.jsonl"
        file.write_text("\n".join([*map(json.dumps, lines), '{"key": "cut sho']) + "\n")
        record.add("new", "b")
        assert record.reached("new") == {"b"}
        assert record.reached("k0") == set()
        assert record.reached(f"k{2 * KEPT_LINES - 1}") == {"a"}
    assert len(file.read_text().splitlines()) == KEPT_LINES


def test_every_kind_of_message_has_its_own_key_and_tells_its_figures() -> None:
    checks = (
        GateCheck("R2 of cosines", False, 0.6, 0.5, "not worse by 0.01", (-0.11, -0.09), 200),
        GateCheck("drop 2026-11", True, 0.6, 0.6, "", None, 40, is_slice=True),
    )
    gate = GateResult(checks, 200, "v1")
    messages = [
        Message.run_failed("monthly", "r", step="drop", reason="why"),
        Message.drop_refused("2026-11", ["another map"], sha256="a"),
        Message.drop_refused("2026-11", ["another map"], sha256="b"),
        Message.drop_quarantined("2026-11", list(range(30)), of=1000, reason="z is of another row"),
        LATE,
        Message.promoted("v2", previous="v1", r2=0.7, gate=gate),
        Message.held("v2", previous="v1", reason="worse", gate=gate),
        Message.drift("2026-11", ["PSI 0.3"]),
        Message(Kind.service, "alert", "t", "b"),
    ]
    assert len({message.key for message in messages}) == len(messages)
    assert {message.kind for message in messages} == set(Kind) - {Kind.test}
    held = messages[6].body
    assert "R2 of cosines: 0.600 -> 0.500 -0.100 [-0.110, -0.090] HELD" in held
    assert "drop 2026-11" not in held
    assert "embup models promote v2" in held
    assert "0, 1, 2" in messages[3].body
    assert "29" not in messages[3].body
