"""Baselines: simple decoders that better ones must beat, and the usual perceptrons."""
