"""How long vectors are: the one place of both numbers."""

INPUT_DIMS = 32
"""Of a projected embedding."""

OUTPUT_DIMS = 1536
"""Of an original, and so of what is decoded."""
