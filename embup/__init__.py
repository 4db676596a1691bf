"""embup: decode projected embeddings into unit vectors whose cosines match the originals'.

    >>> import embup
    >>> model = embup.load("data/registry")
    >>> vectors, confidence = model.upsample(z)          # (n, 32) array-like -> (n, 1536), (n,)
    >>> model.upsample_file("short.parquet", "long.npy")
    >>> result = embup.train("my-folder")
    >>> scores = embup.evaluate(model, z, cosines=g)

Names are imported when they are first used, so ``import embup`` is light: no NumPy, no PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embup import decoders
    from embup.api import evaluate, load
    from embup_core.errors import EmbupError
    from embup_core.evaluation.scores import Scores
    from embup_core.training.result import TrainingResult
    from embup_core.training.train import train
    from embup_core.upsampler import Upsampler

    __version__: str

__all__ = [
    "EmbupError",
    "Scores",
    "TrainingResult",
    "Upsampler",
    "__version__",
    "decoders",
    "evaluate",
    "load",
    "train",
]

_HOMES = {
    "EmbupError": "embup_core.errors",
    "Scores": "embup_core.evaluation.scores",
    "TrainingResult": "embup_core.training.result",
    "Upsampler": "embup_core.upsampler",
    "evaluate": "embup.api",
    "load": "embup.api",
    "train": "embup_core.training.train",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("embup")
    elif name == "decoders":
        value = import_module("embup.decoders")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # found at once from now on
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
