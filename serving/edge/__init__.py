"""The outermost layers: connection limits, request checks, access log."""
