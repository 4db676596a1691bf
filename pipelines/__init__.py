"""The Dagster shell: training as a graph of assets that a person can watch, check and run again.

The science is in `embup_core`; here are order, provenance, checks and publication. Neither `embup_core` nor
`serving` imports anything from here; what leaves is an artifact in the registry and one HTTP request to a
running service.
"""
