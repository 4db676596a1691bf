"""Decoders: estimators that turn projected embeddings into unit rows. One file each, one line here."""

from __future__ import annotations

from importlib import import_module

from embup_core.decoders.base import Decoder

__all__ = ["DECODERS", "Decoder", "decoder_in"]


def decoder_in(file: str) -> type[Decoder]:
    """The decoder that a file of this folder, named without ``.py``, is named after.

    Raises
    ------
    ImportError
        There is no such file, or no decoder of its name in it.
    """
    module = import_module(f"{__name__}.{file}")
    for found in vars(module).values():
        if isinstance(found, type) and issubclass(found, Decoder) and vars(found).get("name") == file:
            return found
    raise ImportError(f"{module.__file__} has no Decoder with the name {file!r}.")


DECODERS: dict[str, type[Decoder]] = {
    name: decoder_in(name)
    for name in (  # the ladder, from the simplest up
        "linear",
        "linear_residual",
        "quadratic_residual",
        "nearest_neighbours",
        "kernel_ridge",
        "mlp_coordinates",
        "mlp",
        "kriging",
        "metric_kriging",
        "neural_kriging",
        "student",
    )
}
