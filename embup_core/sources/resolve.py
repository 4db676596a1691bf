"""The one setting that says where training data is, and which sibling module brings it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from embup_core.errors import SourceUnavailableError
from embup_core.sources.download import download, without_secrets
from embup_core.sources.files import COSINES_FILE, PROJECTED_FILE, SourceFiles
from embup_core.sources.folder import files_in_folder
from embup_core.sources.sample import SampleParameters, generate_sample
from embup_core.sources.validation import MIN_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_MAX_BYTES = 8 * 2**30


def resolve_source(
    spec: str,
    *,
    cache_dir: Path,
    sha256: tuple[str | None, str | None] = (None, None),
    max_bytes: int = DEFAULT_MAX_BYTES,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> SourceFiles:
    """Bring training data onto this machine.

    Parameters
    ----------
    spec
        ``sample`` (or ``sample:ROWS``), a folder that holds ``projected_train_embs.npy`` and
        ``og_train_cos_theta.npy``, or two URLs separated by a comma, the projected embeddings first:
        ``https://cdn.connectly.ai/interview_prompts/ml_embedding_upsample/projected_train_embs.npy,``
        ``https://cdn.connectly.ai/interview_prompts/ml_embedding_upsample/og_train_cos_theta.npy``.
    cache_dir
        Where generated and downloaded files are kept.
    sha256
        What the two files must hash to, for URLs; None does not check.
    max_bytes
        The largest file to download.
    progress
        Called with a label, units done and units in all where known.

    Raises
    ------
    SourceUnavailableError
        The setting names nothing, or what it names cannot be had.
    """
    spec = spec.strip()
    if match := re.fullmatch(r"sample(?::(.*))?", spec):
        asked = str(SampleParameters.rows) if match[1] is None else match[1]
        rows = int(asked) if re.fullmatch(r"[0-9]{1,6}", asked) else 0
        if rows < MIN_ROWS:
            raise SourceUnavailableError(
                f"source {spec!r}: expected a number of rows from {MIN_ROWS} to 999999 after the colon.",
                remedy="Write for instance sample:4000.",
            )
        return generate_sample(cache_dir, parameters=SampleParameters(rows=rows), progress=progress)
    if re.match(r"https?://", spec, re.IGNORECASE):
        return _from_urls(spec, cache_dir, sha256, max_bytes, progress)
    if not spec or re.match(r"[a-z][a-z0-9+.-]+://", spec, re.IGNORECASE):
        raise SourceUnavailableError(
            f"source {spec!r} is not one that can be read.",
            remedy="Give 'sample', a folder, or two http(s) URLs separated by a comma.",
        )
    return files_in_folder(Path(spec))


def _from_urls(
    spec: str,
    cache_dir: Path,
    sha256: tuple[str | None, str | None],
    max_bytes: int,
    progress: Callable[[str, int, int | None], None] | None,
) -> SourceFiles:
    urls = re.split(r"\s*,\s*(?=https?://)", spec, flags=re.IGNORECASE)
    if len(urls) != 2:
        raise SourceUnavailableError(
            f"source has {len(urls)} URL{'s' * (len(urls) > 1)}, expected two separated by a comma.",
            remedy=f"Give the URL of {PROJECTED_FILE}, a comma, and the URL of {COSINES_FILE}.",
        )
    shown = [without_secrets(url) for url in urls]
    # Secrets in a query change from day to day (signed addresses), what they point at does not.
    folder = cache_dir / f"download-{hashlib.sha256(' '.join(shown).encode()).hexdigest()[:12]}"
    for url, name, expected in zip(urls, (PROJECTED_FILE, COSINES_FILE), sha256, strict=True):
        download(url, folder / name, sha256=expected, max_bytes=max_bytes, progress=progress)
    return SourceFiles(folder / PROJECTED_FILE, folder / COSINES_FILE, ",".join(shown))
