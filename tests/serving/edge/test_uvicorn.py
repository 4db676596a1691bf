"""What `LimitedProtocol` uses of uvicorn's internals, which have no stable interface, is still there."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any

from uvicorn.protocols.http import httptools_impl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.edge.connections import LimitedProtocol


def attributes_of(name: str, code: Any, *, stored: bool | None = None) -> set[str]:
    """Names of the attributes that code uses of a variable; only those that it sets, or only the others."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node.value) == name
        and (stored is None or isinstance(node.ctx, ast.Store) is stored)
    }


def test_every_inherited_attribute_exists() -> None:
    own = attributes_of("self", LimitedProtocol, stored=True) | set(vars(LimitedProtocol))
    inherited = attributes_of("self", LimitedProtocol) - own
    offered = attributes_of("self", HttpToolsProtocol, stored=True) | set(dir(HttpToolsProtocol))
    assert {"cycle", "flow", "pipeline", "scope", "server_state", "transport"} <= inherited
    assert inherited <= offered


def test_every_attribute_of_a_request_cycle_exists() -> None:
    used = attributes_of("cycle", LimitedProtocol) | attributes_of("self.cycle", LimitedProtocol)
    offered = attributes_of("self", RequestResponseCycle, stored=True) | set(dir(RequestResponseCycle))
    assert {"disconnected", "keep_alive", "message_event", "response_complete", "transport"} <= used
    assert used <= offered


def test_every_overridden_method_takes_what_it_took() -> None:
    overridden = {name for name in vars(LimitedProtocol) if name in vars(HttpToolsProtocol)} - {"__init__"}
    overridden = {name for name in overridden if inspect.isfunction(vars(LimitedProtocol)[name])}
    assert {"on_headers_complete", "on_response_complete", "data_received", "pause_writing"} <= overridden
    for name in overridden:
        ours, theirs = (
            list(inspect.signature(getattr(kind, name)).parameters)
            for kind in (LimitedProtocol, HttpToolsProtocol)
        )
        assert ours == theirs, name


def test_a_cycle_reaches_its_transport_by_the_methods_that_are_put_in_its_place() -> None:
    """`close` is the one that matters: called before the callback that the answer is complete."""
    assert attributes_of("self.transport", RequestResponseCycle) == {"write", "close", "is_closing"}
    source = inspect.getsource(RequestResponseCycle.send)
    assert source.index("self.transport.close()") < source.index("self.on_response()")


def test_what_a_refusal_is_written_with_exists() -> None:
    assert httptools_impl.STATUS_LINE[413].startswith(b"HTTP/1.1 413 ")
    assert "default_headers" in inspect.getsource(ServerState)
