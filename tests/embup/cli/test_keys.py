"""`embup keys new`: a key on stderr, the line to store on stdout."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_key_is_shown_apart_from_the_line_to_store(embup: Callable[..., Any]) -> None:
    made = embup("keys", "new", "ci", "--scopes", "realtime,read")
    assert made.returncode == 0, made.stderr
    key = made.stderr.split()[-1]
    assert key.startswith("embup_")
    assert made.stdout == f"ci realtime,read {hashlib.sha256(key.encode()).hexdigest()}\n"


def test_programs_get_both_as_json_and_no_two_keys_are_alike(embup: Callable[..., Any]) -> None:
    made = [json.loads(embup("keys", "new", "ci", "--scopes", "admin", "--json").stdout) for _ in range(2)]
    assert made[0]["key"] != made[1]["key"]
    for found in made:
        assert found["line"].endswith(hashlib.sha256(found["key"].encode()).hexdigest())


def test_an_unknown_scope_is_refused(embup: Callable[..., Any]) -> None:
    made = embup("keys", "new", "ci", "--scopes", "write")
    assert (made.returncode, made.stdout) == (2, "")
    assert "realtime, batch, read, debug, admin" in made.stderr
