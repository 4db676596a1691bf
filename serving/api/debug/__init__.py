"""The data debugger over HTTP."""
