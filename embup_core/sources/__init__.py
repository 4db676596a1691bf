"""Where training data comes from: one setting in, two checked files out.

``sample`` is generated (module ``sample``), a folder is used where it lies (``folder``), two URLs are
downloaded (``download``). Whatever the source, ``validation`` says whether it can be trained on.
"""

from embup_core.sources.files import (
    COSINES_FILE,
    GROUPS_FILE,
    INPUT_DIMS,
    LABELS_FILE,
    PROJECTED_FILE,
    SourceFiles,
)
from embup_core.sources.resolve import resolve_source
from embup_core.sources.row_labels import load_row_labels
from embup_core.sources.sample import SampleParameters, generate_sample
from embup_core.sources.validation import DataProfile, load_projected, validate_pair

__all__ = [
    "COSINES_FILE",
    "GROUPS_FILE",
    "INPUT_DIMS",
    "LABELS_FILE",
    "PROJECTED_FILE",
    "DataProfile",
    "SampleParameters",
    "SourceFiles",
    "generate_sample",
    "load_projected",
    "load_row_labels",
    "resolve_source",
    "validate_pair",
]
