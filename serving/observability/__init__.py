"""Metrics, logs, traces and drift of the input."""
