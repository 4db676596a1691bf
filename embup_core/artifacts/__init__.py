"""Artifacts: immutable, versioned folders that hold a decoder, and their registry."""
