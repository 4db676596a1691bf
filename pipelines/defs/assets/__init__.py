"""The graph's assets, in this order: inputs, geometry, candidates, evaluation, publication."""
