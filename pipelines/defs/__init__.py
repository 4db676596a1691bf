"""Definitions, one concept a module; `pipelines.definitions` assembles them."""
