"""Decoders: estimators that turn projected embeddings into unit rows.

`DECODERS` holds them by name. Another package adds its own through the entry point group ``embup.decoders``:

    [project.entry-points."embup.decoders"]
    cell_means = "my_package.cell_means:CellMeans"
"""

from __future__ import annotations

from importlib.metadata import entry_points

from embup_core.decoders.base import Decoder
from embup_core.decoders.baselines.kernel_ridge import KernelRidge
from embup_core.decoders.baselines.linear import Linear
from embup_core.decoders.baselines.linear_residual import LinearResidual
from embup_core.decoders.baselines.mlp import Mlp
from embup_core.decoders.baselines.mlp_coordinates import MlpCoordinates
from embup_core.decoders.baselines.nearest_neighbours import NearestNeighbours
from embup_core.decoders.baselines.quadratic_residual import QuadraticResidual
from embup_core.decoders.kriging.kriging import Kriging
from embup_core.decoders.kriging.metric_kriging import MetricKriging
from embup_core.decoders.mixture_kriging.mixture_kriging import MixtureKriging
from embup_core.decoders.neural_kriging.neural_kriging import NeuralKriging
from embup_core.decoders.student import Student
from embup_core.errors import InputError

__all__ = [
    "DECODERS",
    "Decoder",
    "KernelRidge",
    "Kriging",
    "Linear",
    "LinearResidual",
    "MetricKriging",
    "MixtureKriging",
    "Mlp",
    "MlpCoordinates",
    "NearestNeighbours",
    "NeuralKriging",
    "QuadraticResidual",
    "Student",
    "register",
]

ENTRY_POINT_GROUP = "embup.decoders"

# From the simplest up.
DECODERS: dict[str, type[Decoder]] = {
    decoder.name: decoder
    for decoder in (
        Linear,
        LinearResidual,
        QuadraticResidual,
        NearestNeighbours,
        KernelRidge,
        MlpCoordinates,
        Mlp,
        Kriging,
        MetricKriging,
        NeuralKriging,
        MixtureKriging,
        Student,
    )
}


def register(decoder: type[Decoder]) -> type[Decoder]:
    """Add a decoder to `DECODERS` in this process; usable as a class decorator.

    Raises
    ------
    InputError
        It is no `Decoder`, it has no name, or the name belongs to another decoder.
    """
    name = getattr(decoder, "name", None)
    if not (isinstance(decoder, type) and issubclass(decoder, Decoder) and isinstance(name, str)):
        raise InputError(
            f"Expected a subclass of Decoder with a name, found {decoder!r}.",
            remedy="Derive it from embup_core.decoders.Decoder, and give it a class attribute `name`.",
        )
    if DECODERS.setdefault(name, decoder) is not decoder:
        raise InputError(
            f"The decoder name {name!r} belongs to {DECODERS[name].__qualname__} already.",
            remedy="Choose another name.",
        )
    return decoder


for _entry in entry_points(group=ENTRY_POINT_GROUP):
    register(_entry.load())
