"""The batch engine: a file of short rows in, a file of long rows out, of any length, crash or no crash.

`request` refuses at once what can be known at once, `run` does the work in small steps, `checkpoint` is what
a later process needs to go on, `part_file` and `publication` keep the promise that the output path never
holds a part, `driver` runs one to its end. `inputs` and `encoding` tell the formats by the paths' endings.
No threads, no event loop, no database: those are the caller's.
"""

from embup_core.batch.answering import RowUpsampler
from embup_core.batch.checkpoint import Checkpoint, InputFingerprint
from embup_core.batch.discarding import discard_part_files
from embup_core.batch.driver import run_to_completion
from embup_core.batch.publication import finish_publication
from embup_core.batch.request import InputFacts, check_request
from embup_core.batch.run import BatchRun
from embup_core.batch.run_files import PendingSync
from embup_core.batch.spec import DEFAULT_CHUNK_ROWS, BatchSpec
from embup_core.batch.tally import Tally

__all__ = [
    "DEFAULT_CHUNK_ROWS",
    "BatchRun",
    "BatchSpec",
    "Checkpoint",
    "InputFacts",
    "InputFingerprint",
    "PendingSync",
    "RowUpsampler",
    "Tally",
    "check_request",
    "discard_part_files",
    "finish_publication",
    "run_to_completion",
]
