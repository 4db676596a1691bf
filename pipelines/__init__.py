"""The Dagster shell: training as a graph of assets that a person can watch, check and run again.

The science is in `embup_core`; here are order, provenance, checks and publication. Nothing here is imported by
`embup_core` or `serving`; what leaves is an artifact in the registry and one HTTP request to a running service.
"""
