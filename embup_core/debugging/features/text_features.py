"""Vectors of texts without a language model: TF-IDF of words and word pairs, reduced by a truncated SVD.

Latent semantic analysis (Deerwester et al., 1990). Counts are dampened by 1 + log(count) (Manning, Raghavan &
Schuetze, 2008, section 6.4.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from embup_core.extras import extra_required

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_DIMS: Final = 200
MOST_CHARACTERS: Final = 20_000
"""Of a text that are read: more add time and nothing to tell it by."""
MOST_TERMS: Final = 100_000
"""Words and pairs, the most frequent first."""

_WORD = r"(?u)\b\w+\b"  # single letters, too: scikit-learn's default drops "i"
_SMALLEST_LENGTH = 1e-6


@extra_required()
def text_features(texts: Sequence[str], *, dims: int = MOST_DIMS, seed: int = 0) -> NDArray[np.float32]:
    """One vector for each text.

    Parameters
    ----------
    texts
        Any strings. Only the first 20,000 characters count.
    dims
        At most this many dimensions.
    seed
        Of the randomised SVD.

    Returns
    -------
    float32, shape (n, k), k from 1 to `dims`: unit rows; rows of zeros for texts without a word, or without
    one that is frequent enough to count.

    Raises
    ------
    MissingExtraError
        scikit-learn is not installed.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    nothing = np.zeros((len(texts), 1), np.float32)
    vectorizer = TfidfVectorizer(
        ngram_range=(1, 2),
        sublinear_tf=True,
        token_pattern=_WORD,
        max_features=MOST_TERMS,
        dtype=np.float32,
    )
    try:
        terms = vectorizer.fit_transform([text[:MOST_CHARACTERS] for text in texts])  # (n, terms), sparse
    except ValueError:  # no text has a word
        return nothing
    wanted = min(dims, *terms.shape)
    if wanted >= terms.shape[1]:
        reduced = terms.toarray()
    else:
        reduced = TruncatedSVD(wanted, random_state=seed % 2**32).fit_transform(terms)
    lengths = np.linalg.norm(reduced, axis=1, keepdims=True)
    unit = np.divide(reduced, lengths, out=np.zeros_like(reduced), where=lengths > _SMALLEST_LENGTH)
    return np.ascontiguousarray(unit, dtype=np.float32)
