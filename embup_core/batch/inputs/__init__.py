"""Readers of batch inputs, one module a format."""
