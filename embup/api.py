"""Load and evaluate decoders; `embup.train` is `embup_core.training.train.train` itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from embup_core.evaluation.scores import Scores
    from embup_core.progress import Progress
    from embup_core.upsampler import Upsampler

DEFAULT_REGISTRY = Path("data/registry")


def load(registry: Path | str = DEFAULT_REGISTRY, *, version: str | None = None) -> Upsampler:
    """Load a published decoder; its files are verified first.

    Parameters
    ----------
    registry
        Folder of published decoders, or an address such as ``s3://bucket/prefix``, of which a verified copy
        is kept in the user's cache folder (EMBUP_REGISTRY_CACHE).
    version
        Name of one, by default the one in service.

    Raises
    ------
    NoArtifactError
        Nothing is published there, or not this version.
    InvalidArtifactError
        The version is damaged, of another format, or does not reproduce its golden outputs.
    """
    from embup_core.artifacts.remote import open_registry

    return open_registry(registry).load(version)


def evaluate(
    model: Upsampler,
    projected: ArrayLike,
    *,
    cosines: ArrayLike | None = None,
    originals: ArrayLike | None = None,
    reference_projected: ArrayLike | None = None,
    reference_cosines: ArrayLike | None = None,
    reference_originals: ArrayLike | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Scores:
    """Score a decoder on rows that it was not trained on.

    Parameters
    ----------
    model
        From `load` or `train`.
    projected
        z: shape (n, d), n at least 20. Only directions count.
    cosines, originals
        The truth, one of the two: cosines between the originals, shape (n, n), or the originals,
        shape (n, D).
    reference_projected
        z of rows to search among, such as those of an index: shape (m, d). With it there is recall@k.
    reference_cosines, reference_originals
        Beside `reference_projected`: true cosines of rows with reference rows, shape (n, m), or the
        reference rows' originals, shape (m, D).
    seed
        Of samples and resampling.
    progress
        Called with what is being done, units done, and units in all.

    Returns
    -------
    Scores
        ``scores.test_test.r2`` and more over pairs of rows, ``scores.test_train`` and ``scores.recall_at_10``
        over pairs of a row and a reference row.

    Raises
    ------
    InputError
        Arrays that do not fit together, values that are not finite, rows of zeros.
    """
    from embup_core.evaluation.user_data import evaluate_user_data
    from embup_core.evaluation.user_rows import user_data

    rows = user_data(
        projected,
        cosines=cosines,
        originals=originals,
        reference_projected=reference_projected,
        reference_cosines=reference_cosines,
        reference_originals=reference_originals,
        input_dims=model.input_dims,
        output_dims=model.output_dims,
    )
    scores, _ = evaluate_user_data(model, rows, seed=seed, progress=progress)
    return scores
