"""Dimensions of the built-in sample; those of other data are read from it, and kept in the manifest."""

from typing import Final

DEFAULT_INPUT_DIMS: Final = 32
"""Dimensions of a projected embedding of the sample."""

DEFAULT_OUTPUT_DIMS: Final = 1536
"""Dimensions of an original of the sample, and of any data whose originals' dimensions nobody states."""
