"""Predictions of a classifier that is not ours: from an HTTP API, or from a file."""
