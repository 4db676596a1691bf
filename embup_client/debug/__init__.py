"""The data debugger over HTTP: what `Client.debug` and `AsyncClient.debug` are."""

from embup_client.debug.debugger import AsyncDebugger, Debugger

__all__ = ["AsyncDebugger", "Debugger"]
