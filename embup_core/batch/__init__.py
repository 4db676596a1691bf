"""The batch engine: a file of short rows in, a file of long rows out, of any length, across crashes.

`request` checks what can be checked before the start, `run` does the work in small steps, `checkpoint` holds
what a later process needs to resume, `part_file` and `publication` ensure that the output path never holds a
part, `driver` runs a batch to its end. `inputs.formats` and `outputs.encoding` choose the formats by endings.
Threads, event loops and databases are the caller's.
"""

from embup_core.batch.checkpoint import Checkpoint, InputFingerprint
from embup_core.batch.driver import run_to_completion
from embup_core.batch.outputs.object_output import noted_outputs
from embup_core.batch.outputs.output_files import PendingSync
from embup_core.batch.outputs.recovery import finish_publication, remove_part_files
from embup_core.batch.request import InputFacts, check_request
from embup_core.batch.run import BatchRun
from embup_core.batch.spec import DEFAULT_CHUNK_ROWS, BatchSpec
from embup_core.batch.statistics import BatchStatistics
from embup_core.batch.workers.decoding import RowUpsampler

__all__ = [
    "DEFAULT_CHUNK_ROWS",
    "BatchRun",
    "BatchSpec",
    "BatchStatistics",
    "Checkpoint",
    "InputFacts",
    "InputFingerprint",
    "PendingSync",
    "RowUpsampler",
    "check_request",
    "finish_publication",
    "noted_outputs",
    "remove_part_files",
    "run_to_completion",
]
