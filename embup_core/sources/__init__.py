"""Training data: one setting in, two checked files out.

``sample`` is generated (module `synthetic`), a folder is used in place (`folder`), two URLs are downloaded
(`download`), and ``.npz`` files are unpacked into the cache (`archive`). `validation` checks the files of any
source.
"""

from embup_core.sources.anchors import Anchors, load_anchors, require_agreement
from embup_core.sources.files import (
    ANCHOR_ROWS_FILE,
    ANCHORS_FILE,
    COORDINATES_FILE,
    COSINES_FILE,
    GROUPS_FILE,
    HELD_OUT_FILE,
    LABELS_FILE,
    LANDMARK_COSINES_FILE,
    LANDMARK_ROWS_FILE,
    PROJECTED_FILE,
    SourceFiles,
)
from embup_core.sources.profile import DataProfile
from embup_core.sources.resolve import resolve_source
from embup_core.sources.row_labels import load_held_out, load_row_labels
from embup_core.sources.synthetic import SampleParameters, generate_sample
from embup_core.sources.validation import load_projected, validate_pair

__all__ = [
    "ANCHORS_FILE",
    "ANCHOR_ROWS_FILE",
    "COORDINATES_FILE",
    "COSINES_FILE",
    "GROUPS_FILE",
    "HELD_OUT_FILE",
    "LABELS_FILE",
    "LANDMARK_COSINES_FILE",
    "LANDMARK_ROWS_FILE",
    "PROJECTED_FILE",
    "Anchors",
    "DataProfile",
    "SampleParameters",
    "SourceFiles",
    "generate_sample",
    "load_anchors",
    "load_held_out",
    "load_projected",
    "load_row_labels",
    "require_agreement",
    "resolve_source",
    "validate_pair",
]
