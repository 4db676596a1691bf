"""The one interface of all decoders, and the steps they share.

A decoder learns from pairs (z, c) and answers unit rows. It keeps what it learned in plain NumPy arrays, so
that an artifact is those arrays and a few settings.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias, get_type_hints

import numpy as np
from annotated_types import Ge, Lt

from embup_core.dims import OUTPUT_DIMS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

Shape: TypeAlias = "tuple[int | str | None, ...]"
"""Lengths of an array's axes. None stands for any length, a word for any that is the same at each place."""


ROWS_AND_ORIGINALS = "the projected embeddings of training rows and a rotated copy of their originals"
"""What a decoder keeps that looks rows up; see `Decoder.keeps`."""


Seed: TypeAlias = Annotated[int, Ge(0), Lt(2**32)]
"""What NumPy, scikit-learn and torch all take."""


class Decoder(ABC):
    """An estimator from projected embeddings to unit rows.

    ``__init__`` takes settings by keyword, each with a default, and only stores them under their own names.
    ``fit`` learns; learned attributes end in ``_``. How a decoder is added is told in
    docs/adding-a-decoder.md.

    Attributes
    ----------
    name
        The name of its file.
    summary
        What it does, in a few words.
    fitted_with
        Libraries that ``fit`` rests on, as Dagster names kinds: numpy, scikitlearn, pytorch.
    by_name_only
        Whether it is fitted only where it is asked for: one whose fit holds that of another decoder.
    keeps
        What its arrays hold of single training rows, in words, as an object of "holds"; empty where nothing.
    on_step
        Called by a ``fit`` of many steps with the steps done and the steps in all. Not a setting.
    history_
        What such a ``fit`` watched, by name: a number a step. Not kept in artifacts.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    fitted_with: ClassVar[tuple[str, ...]] = ("numpy",)
    by_name_only: ClassVar[bool] = False
    keeps: ClassVar[str] = ""

    on_step: Callable[[int, int], None] | None = None
    history_: Mapping[str, list[float]] = MappingProxyType({})

    @abstractmethod
    def fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> Self:
        """Learn from rows. The same rows and settings give the same arrays, bit for bit.

        Parameters
        ----------
        projected
            z: float32, shape (n, 32), unit rows.
        coordinates
            c: float32, shape (n, r) with r <= 1536, unit rows.
        """

    @abstractmethod
    def predict_with_confidence(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode rows.

        Parameters
        ----------
        projected
            z: float32, shape (n, 32), unit rows.

        Returns
        -------
        rows
            float32, shape (n, 1536), unit rows, C-contiguous.
        confidence
            float32, shape (n,): 1 - E|c - mu(z)|^2, where mu(z) is the regression before it was completed to
            a unit vector, between 0 (nothing known) and 1 (certain); NaN where the decoder does not know. A
            decoder that has not measured it answers |mu|^2, which is the same where mu is E[c | z].
        """

    def predict(self, projected: NDArray[np.float32]) -> NDArray[np.float32]:
        """Decode rows: float32 (n, 32) -> float32 (n, 1536), unit rows."""
        return self.predict_with_confidence(projected)[0]

    def cosine_standard_error(
        self,
        rows: NDArray[np.float32],  # noqa: ARG002  read by decoders that know
        confidence: NDArray[np.float32],  # noqa: ARG002
        other_rows: NDArray[np.float32],  # noqa: ARG002
        other_confidence: NDArray[np.float32],  # noqa: ARG002
    ) -> NDArray[np.float32] | None:
        """Standard errors of the cosines between decoded rows; None where the decoder does not know.

        Parameters
        ----------
        rows, other_rows
            Decoded: float32, shapes (n, 1536) and (m, 1536).
        confidence, other_confidence
            That came with them: float32, shapes (n,) and (m,).

        Returns
        -------
        standard_error
            float32, shape (n, m): root of the expected squared error of each cosine.
        """
        return None

    def note_step(self, done: int, total: int, **watched: float) -> None:
        """Tell `on_step` and add to `history_`; for a ``fit`` of many steps to call after each, from 1 on."""
        before: Mapping[str, list[float]] = {} if done == 1 else self.history_
        self.history_ = {name: [*before.get(name, []), value] for name, value in watched.items()}
        if self.on_step is not None:
            self.on_step(done, total)

    def array_shapes(self) -> dict[str, Shape]:
        """Shape of each learned array, by name; the array is the attribute of that name and ``_``.

        What decoders give whose `arrays` and `restore` are those of this class.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has neither array_shapes nor arrays and restore of its own."
        )

    def settings(self) -> dict[str, Any]:
        """Hyper-parameters as JSON values; ``type(self)(**settings)`` makes an unfitted twin."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What was learned."""
        return {name: getattr(self, f"{name}_") for name in self.array_shapes()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Take up what `arrays` gave. Missing arrays and shapes that do not fit raise ValueError."""
        lengths: dict[str, int] = {}
        for name, shape in self.array_shapes().items():
            expected = [lengths.get(length) if isinstance(length, str) else length for length in shape]
            array = require_shape(arrays, name, *expected)
            words = zip(shape, array.shape, strict=True)
            lengths |= {word: length for word, length in words if isinstance(word, str)}
            setattr(self, f"{name}_", array)
        return self

    @classmethod
    def setting_types(cls) -> dict[str, Any]:
        """Type of each setting, with the bounds in Annotated."""
        hints = get_type_hints(cls.__init__, include_extras=True)
        return {name: hints[name] for name in inspect.signature(cls).parameters if name in hints}

    @classmethod
    def from_arrays(cls, settings: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Rebuild a fitted decoder from `settings` and `arrays`.

        Raises
        ------
        ValueError
            A setting out of its bounds or of another type; arrays missing or misshapen.
        TypeError
            A setting that this decoder does not have.
        """
        for name, expected in cls.setting_types().items():
            if name in settings:
                _require_setting(name, settings[name], expected)
        return cls(**settings).restore(arrays)


def _require_setting(name: str, value: object, expected: Any) -> None:
    from pydantic import TypeAdapter, ValidationError

    try:
        TypeAdapter(expected).validate_python(value, strict=True)
    except ValidationError as error:
        raise ValueError(f"setting {name}: {error.errors()[0]['msg']}, found {value!r}") from error
    if isinstance(value, float) and not np.isfinite(value):
        raise ValueError(f"setting {name}: expected a finite number, found {value!r}")


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length, in place: float32, shape (n, d)."""
    # vecdot is BLAS's dot: several running sums, so 1,536 squares in float32 keep the length within 1e-7.
    rows /= np.sqrt(np.maximum(np.vecdot(rows, rows), np.finfo(np.float32).tiny))[:, None]
    return rows


def padded(rows: NDArray[np.float32], dims: int = OUTPUT_DIMS) -> NDArray[np.float32]:
    """Rows with zero columns behind, shape (n, dims): the coordinates of fewer dimensions than 1536."""
    if rows.shape[1] == dims:
        return rows
    wide = np.zeros((len(rows), dims), rows.dtype)
    wide[:, : rows.shape[1]] = rows
    return wide


def require_shape(arrays: dict[str, NDArray[Any]], name: str, *shape: int | None) -> NDArray[Any]:
    """The array of this name, checked: None stands for any length.

    Raises
    ------
    ValueError
        There is no such array, or it has another shape.
    """
    if name not in arrays:
        raise ValueError(f"tensor {name}: expected shape {shape}, found none")
    found = arrays[name].shape
    if len(found) != len(shape) or any(
        want is not None and want != have for want, have in zip(shape, found, strict=True)
    ):
        raise ValueError(f"tensor {name}: expected shape {shape}, found {found}")
    return arrays[name]


def require_positive(arrays: dict[str, NDArray[Any]], name: str) -> float:
    """The one number of this array, which is above 0; ValueError as `require_shape` raises it, or if not."""
    number = float(require_shape(arrays, name, 1)[0])
    if not number > 0:
        raise ValueError(f"tensor {name}: expected a number above 0, found {number}")
    return number
