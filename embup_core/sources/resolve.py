"""The one setting that names a source of training data, and the module that handles each kind."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embup_core.errors import SourceUnavailableError
from embup_core.extras import extra_required
from embup_core.object_store.address import folder_of, is_address, parsed_address
from embup_core.sources.archive import ARCHIVE_SUFFIX, unpacked
from embup_core.sources.files import COSINES_FILE, PROJECTED_FILE, SourceFiles
from embup_core.sources.folder import files_in_folder
from embup_core.sources.stored import files_in_store
from embup_core.sources.synthetic import SampleParameters, generate_sample
from embup_core.sources.validation import MIN_ROWS

if TYPE_CHECKING:
    from embup_core.progress import Progress

DEFAULT_MAX_BYTES = 8 * 2**30


def resolve_source(
    spec: str,
    *,
    cache_dir: Path,
    sha256: tuple[str | None, str | None] = (None, None),
    max_bytes: int = DEFAULT_MAX_BYTES,
    progress: Progress | None = None,
) -> SourceFiles:
    """Find, generate or download training data.

    Parameters
    ----------
    spec
        ``sample`` (or ``sample:ROWS``), a folder that holds ``projected_train_embs`` and
        ``og_train_cos_theta`` (each ``.npy`` or ``.npz``), the address of such a folder in an object store
        (``s3://bucket/prefix``), or two URLs separated by a comma, the projected embeddings first:
        ``https://cdn.connectly.ai/interview_prompts/ml_embedding_upsample/projected_train_embs.npy,``
        ``https://cdn.connectly.ai/interview_prompts/ml_embedding_upsample/og_train_cos_theta.npy``.
    cache_dir
        Folder of generated, downloaded and unpacked files. Those used are touched, so that they do not
        count as old.
    sha256
        Expected hashes of the two files, for URLs and object stores; None skips the check.
    max_bytes
        The largest file to download.
    progress
        Called with a label, units done and units in all where known.

    Raises
    ------
    SourceUnavailableError
        The setting is invalid, or a file is missing, unreachable or too large.
    InvalidDataError
        An ``.npz`` file is damaged or holds another number of arrays than one.
    """
    spec = spec.strip()
    files = _resolved(spec, cache_dir, sha256, max_bytes, progress)
    for folder in {cached_copy(spec, cache_dir), files.projected.parent, files.cosines.parent}:
        if folder is not None and folder.parent == cache_dir:
            with suppress(OSError):  # another user's, which can be read all the same
                os.utime(folder)
    return files


def cached_copy(spec: str, cache_dir: Path) -> Path | None:
    """Where the copy of a source behind URLs or in an object store has its place; None for other sources."""
    spec = spec.strip()
    if re.match(r"https?://", spec, re.IGNORECASE):
        with extra_required():
            from embup_core.sources.download import without_secrets

        return _download_folder([without_secrets(url) for url in _urls(spec)], cache_dir)
    return folder_of(parsed_address(spec), cache_dir) if is_address(spec) else None


def _resolved(
    spec: str,
    cache_dir: Path,
    sha256: tuple[str | None, str | None],
    max_bytes: int,
    progress: Progress | None,
) -> SourceFiles:
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
    if is_address(spec):
        files = files_in_store(spec, cache_dir, sha256=sha256, max_bytes=max_bytes, progress=progress)
        return _unpacked(files, cache_dir)
    if not spec or re.match(r"[a-z][a-z0-9+.-]+://", spec, re.IGNORECASE):
        raise SourceUnavailableError(
            f"source {spec!r} is not one that can be read.",
            remedy="Give 'sample', a folder, an address such as s3://bucket/prefix, or two http(s) URLs "
            "separated by a comma.",
        )
    return _unpacked(files_in_folder(Path(spec)), cache_dir)


def _unpacked(files: SourceFiles, cache_dir: Path) -> SourceFiles:
    """The files with ``.npz`` replaced by ``.npy`` in the cache."""
    return replace(
        files, projected=unpacked(files.projected, cache_dir), cosines=unpacked(files.cosines, cache_dir)
    )


def _urls(spec: str) -> list[str]:
    return re.split(r"\s*,\s*(?=https?://)", spec, flags=re.IGNORECASE)


def _download_folder(shown: list[str], cache_dir: Path) -> Path:
    """Secrets in a query change from day to day (signed addresses), what they point at does not."""
    return cache_dir / f"download-{hashlib.sha256(' '.join(shown).encode()).hexdigest()[:12]}"


def _from_urls(
    spec: str,
    cache_dir: Path,
    sha256: tuple[str | None, str | None],
    max_bytes: int,
    progress: Progress | None,
) -> SourceFiles:
    with extra_required():
        from embup_core.sources.download import download, without_secrets

    urls = _urls(spec)
    if len(urls) != 2:
        raise SourceUnavailableError(
            f"source has {len(urls)} URL{'s' * (len(urls) > 1)}, expected two separated by a comma.",
            remedy=f"Give the URL of {PROJECTED_FILE}, a comma, and the URL of {COSINES_FILE}.",
        )
    shown = [without_secrets(url) for url in urls]
    folder = _download_folder(shown, cache_dir)
    targets = [
        (folder / name).with_suffix(ARCHIVE_SUFFIX if address.endswith(ARCHIVE_SUFFIX) else ".npy")
        for name, address in zip((PROJECTED_FILE, COSINES_FILE), shown, strict=True)
    ]
    for url, target, expected in zip(urls, targets, sha256, strict=True):
        download(url, target, sha256=expected, max_bytes=max_bytes, progress=progress)
    return _unpacked(SourceFiles(targets[0], targets[1], ",".join(shown)), cache_dir)
