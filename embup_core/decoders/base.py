"""The interface of all decoders, with the manners of a scikit-learn estimator, and the checks they share.

A decoder learns from pairs (z, c) and predicts unit rows. It holds what it learned in NumPy arrays, so an
artifact is those arrays and a few settings. scikit-learn itself is not needed: ``clone`` and ``GridSearchCV``
work with any class that has ``get_params``, ``set_params`` and ``fit``.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeAlias, get_type_hints

import numpy as np
from annotated_types import Ge, Lt

from embup_core.dims import DEFAULT_OUTPUT_DIMS
from embup_core.errors import InvalidArgumentError, NotFittedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from embup_core.geometry.basis import Basis

Shape: TypeAlias = "tuple[int | str | None, ...]"
"""Lengths of an array's axes: None matches any length, a word matches one length wherever it stands."""

ROWS_AND_ORIGINALS = "the projected embeddings of training rows and a rotated copy of their originals"
"""What a decoder stores that looks up training rows; see `Decoder.stores`."""

Seed: TypeAlias = Annotated[int, Ge(0), Lt(2**32)]
"""The range that NumPy, scikit-learn and torch all accept."""

_FEWEST_OUTPUT_DIMS = 4  # two for a regression, two for its complement
_FEWEST_ROWS = 2
_UNIT_TOLERANCE = 1e-3


class Decoder(ABC):
    """An estimator from projected embeddings to unit rows.

    ``__init__`` takes settings by keyword, each with a default, and only stores them under their own names.
    ``fit`` and ``predict`` check their arguments and call ``_fit`` and ``_predict``, which a decoder
    implements. Learned attributes end in ``_``. docs/how-to/adding-a-decoder.md shows how to add one.

    Attributes
    ----------
    name
        The name of its module.
    summary
        What it does, in a few words.
    fitted_with
        Libraries that ``fit`` needs, in the names of Dagster's kinds: numpy, scikitlearn, pytorch.
    opt_in
        Whether it is fitted only on request: its fit includes that of another decoder.
    stores
        What its arrays hold of single training rows, as the object of "holds"; empty for nothing.
    on_progress
        Called by a ``fit`` of many steps with the steps done and the total. Not a setting.
    input_dims_, output_dims_
        Dimensions of z and of predicted rows; set by ``fit`` and ``restore``.
    history_
        Values that such a ``fit`` recorded, one a step, by name and by what it fitted. Not in artifacts.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    fitted_with: ClassVar[tuple[str, ...]] = ("numpy",)
    opt_in: ClassVar[bool] = False
    stores: ClassVar[str] = ""

    on_progress: Callable[[int, int], None] | None = None

    input_dims_: int
    output_dims_: int
    history_: Mapping[str, dict[str, list[float]]] = MappingProxyType({})

    _basis: Basis | None = None  # of the fit in progress

    def fit(
        self,
        projected: ArrayLike,
        coordinates: ArrayLike,
        *,
        output_dims: int = DEFAULT_OUTPUT_DIMS,
        basis: Basis | None = None,
    ) -> Self:
        """Learn from rows. The same rows and settings give the same arrays, bit for bit.

        Parameters
        ----------
        projected
            z: shape (n, input_dims), unit rows. Converted to float32.
        coordinates
            c: shape (n, r) with r <= output_dims, unit rows: the originals, or a rotation of them. Converted
            to float32.
        output_dims
            Dimensions of predicted rows. The coordinates cannot tell: those recovered from a cosine matrix
            have fewer dimensions than the originals where there are fewer rows.
        basis
            What fixes the axes and the complement of predicted rows; the coordinates must be in its principal
            axes. None takes any coordinates, and makes axes and complement anew.

        Raises
        ------
        InvalidArgumentError
            A setting out of bounds, an array of another shape, a value that is not finite, a row that is not
            a unit vector, arrays of different lengths, or coordinates wider than ``output_dims``.
        TrainingError
            Too few rows for this decoder.
        """
        self.check_settings(self.get_params())
        self.set_params(**self.settings())  # faiss and torch refuse the NumPy scalars of a parameter grid
        z = _unit_rows_of("projected", projected)
        c = _unit_rows_of("coordinates", coordinates)
        if len(z) != len(c):
            raise InvalidArgumentError(
                f"Expected one row of coordinates for each projected row, found {len(c)} for {len(z)}.",
                remedy="Pass both arrays with their rows in the same order.",
            )
        if len(z) < _FEWEST_ROWS:
            raise InvalidArgumentError(
                f"Expected at least {_FEWEST_ROWS} rows to fit on, found {len(z)}.",
                remedy="Provide more rows.",
            )
        fewest = max(c.shape[1], _FEWEST_OUTPUT_DIMS)
        if not isinstance(output_dims, int | np.integer) or output_dims < fewest:
            raise InvalidArgumentError(
                f"Expected output_dims of at least {fewest} for coordinates of {c.shape[1]} columns, "
                f"found {output_dims!r}.",
                remedy=f"Call fit with output_dims={fewest}, or more.",
            )
        self._discard_learned()
        if basis is not None and (basis.landmarks.shape[1], basis.output_dims) != (z.shape[1], output_dims):
            raise InvalidArgumentError(
                f"Expected a basis from {z.shape[1]} to {output_dims} dimensions, found one from "
                f"{basis.landmarks.shape[1]} to {basis.output_dims}.",
                remedy="Pass the basis that the coordinates were recovered in.",
            )
        self.input_dims_, self.output_dims_ = z.shape[1], int(output_dims)
        self._basis = basis
        try:
            self._fit(z, c)
        except BaseException:
            self._discard_learned()  # a fit that failed leaves an unfitted decoder
            raise
        finally:
            del self._basis
        return self

    def predict_with_confidence(
        self, projected: ArrayLike
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode rows.

        Parameters
        ----------
        projected
            z: shape (n, input_dims), unit rows. Converted to float32.

        Returns
        -------
        rows
            float32, shape (n, output_dims), unit rows, C-contiguous.
        confidence
            float32, shape (n,): 1 - E|c - mu(z)|^2, where mu(z) is the regression before it is completed to
            a unit vector, from 0 (nothing known) to 1 (certain); NaN where the decoder cannot tell. Decoders
            without calibrated errors give |mu|^2, which is the same if mu is E[c | z].

        Raises
        ------
        NotFittedError
            Before ``fit``.
        InvalidArgumentError
            Another shape, a value that is not finite, or a row that is not a unit vector.
        """
        if "output_dims_" not in vars(self):
            raise NotFittedError(
                f"Expected a fitted {type(self).__name__}, found one that is not fitted.",
                remedy="Call fit first.",
            )
        return self.predict_checked(_unit_rows_of("projected", projected, self.input_dims_))

    def predict_checked(
        self, projected: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """`predict_with_confidence` of a fitted decoder, for rows that are known to be right.

        Parameters
        ----------
        projected
            z: float32, shape (n, input_dims), finite unit rows, C-contiguous. Nothing is checked.
        """
        return self._predict(projected)

    def predict(self, projected: ArrayLike) -> NDArray[np.float32]:
        """Decode rows: (n, input_dims) -> float32 (n, output_dims). See `predict_with_confidence`."""
        return self.predict_with_confidence(projected)[0]

    @abstractmethod
    def _fit(self, projected: NDArray[np.float32], coordinates: NDArray[np.float32]) -> None:
        """Learn from checked rows: float32 (n, input_dims_) and (n, r <= output_dims_), C-contiguous."""

    @abstractmethod
    def _predict(self, projected: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Decode checked rows: float32 (n, input_dims_). Returns as `predict_with_confidence`."""

    def cosine_standard_error(
        self,
        rows: NDArray[np.float32],  # noqa: ARG002  used by decoders with calibrated errors
        confidence: NDArray[np.float32],  # noqa: ARG002
        other_rows: NDArray[np.float32],  # noqa: ARG002
        other_confidence: NDArray[np.float32],  # noqa: ARG002
    ) -> NDArray[np.float32] | None:
        """Standard errors of the cosines between decoded rows; None where the decoder cannot tell.

        Parameters
        ----------
        rows, other_rows
            Decoded: float32, shapes (n, output_dims) and (m, output_dims).
        confidence, other_confidence
            Returned with them: float32, shapes (n,) and (m,).

        Returns
        -------
        standard_error
            float32, shape (n, m): root of the expected squared error of each cosine.
        """
        return None

    def report_progress(self, done: int, total: int, *, fit: str = "", **recorded: float) -> None:
        """Call `on_progress` and append to `history_`; a ``fit`` of many steps calls this after each.

        Parameters
        ----------
        done, total
            Steps, from 1.
        fit
            What is being fitted, where that is not the same in all steps; plots draw a line for each.
        **recorded
            A value a name.
        """
        history = {} if done == 1 else {**self.history_}
        for name, value in recorded.items():
            history.setdefault(name, {}).setdefault(fit, []).append(value)
        self.history_ = history
        if self.on_progress is not None:
            self.on_progress(done, total)

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002  scikit-learn's
        """Settings by name, as they were given. No setting is an estimator, so ``deep`` changes nothing."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Change settings; ``fit`` checks them.

        Raises
        ------
        InvalidArgumentError
            This decoder has no such setting.
        """
        known = inspect.signature(type(self)).parameters
        if unknown := sorted(params.keys() - known.keys()):
            raise InvalidArgumentError(
                f"Expected settings of {type(self).__name__}, found {', '.join(unknown)}.",
                remedy=f"It has {', '.join(known) or 'none'}.",
            )
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of an estimator; only scikit-learn calls this."""
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=True, multi_output=True))

    def __repr__(self) -> str:
        """The class and the settings that differ from their defaults."""
        defaults = inspect.signature(type(self)).parameters
        changed = {
            name: value for name, value in self.get_params().items() if value != defaults[name].default
        }
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def settings(self) -> dict[str, Any]:
        """Settings as JSON values; ``type(self)(**settings)`` makes an unfitted twin."""
        return {name: _plain(value) for name, value in self.get_params().items()}

    def array_shapes(self) -> dict[str, Shape]:
        """Shape of each learned array, by name; the array is the attribute of that name and ``_``."""
        return {}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Learned arrays: ``dims`` (int64, input and output dimensions) and those of `array_shapes`."""
        dims = np.array([self.input_dims_, self.output_dims_], np.int64)
        return {"dims": dims} | {name: getattr(self, f"{name}_") for name in self.array_shapes()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> Self:
        """Load learned arrays, as `arrays` returned them.

        Raises
        ------
        ValueError
            Arrays are missing, or their shapes or numbers do not fit.
        """
        dims = require_shape(arrays, "dims", 2)
        self.input_dims_, self.output_dims_ = (int(number) for number in dims)
        if self.input_dims_ < 1 or self.output_dims_ < _FEWEST_OUTPUT_DIMS:
            raise ValueError(f"tensor dims: expected input and output dimensions, found {dims.tolist()}")
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
        """Type of each setting, with its bounds in Annotated."""
        hints = get_type_hints(cls.__init__, include_extras=True)
        return {name: hints[name] for name in inspect.signature(cls).parameters if name in hints}

    @classmethod
    def from_arrays(cls, settings: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Self:
        """Rebuild a fitted decoder from `settings` and `arrays`.

        Raises
        ------
        ValueError
            A setting out of bounds or of another type; arrays missing or of another shape.
        TypeError
            A setting that this decoder does not have.
        """
        cls.check_settings(settings)
        return cls(**settings).restore(arrays)

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any]) -> None:
        """Check names, types and bounds of some settings; raises as `from_arrays`."""
        names, types = inspect.signature(cls).parameters, cls.setting_types()
        for name, value in settings.items():
            if name not in names:
                raise TypeError(f"setting {name}: unknown, expected one of {', '.join(names)}")
            if name in types:
                _require_setting(name, _plain(value), types[name])

    def _discard_learned(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)


def _plain(value: Any) -> Any:
    """A NumPy scalar, as a parameter grid has them, as Python's own number."""
    return value.item() if isinstance(value, np.generic) else value


def _require_setting(name: str, value: object, expected: Any) -> None:
    from pydantic import TypeAdapter, ValidationError

    problem = ""
    try:
        TypeAdapter(expected).validate_python(value, strict=True)
    except ValidationError as error:
        problem = str(error.errors()[0]["msg"])
    if isinstance(value, float) and not np.isfinite(value):
        problem = "expected a finite number"
    if problem:
        raise InvalidArgumentError(
            f"setting {name}: {problem}, found {value!r}.", remedy=f"Change {name} to a value within bounds."
        )


def _unit_rows_of(name: str, values: ArrayLike, dims: int | None = None) -> NDArray[np.float32]:
    """An argument as float32 rows, C-contiguous, checked: shape (n, dims)."""
    wanted = f"({'n'}, {'d' if dims is None else dims})"
    try:
        given = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise InvalidArgumentError(
            f"Expected {name} of shape {wanted}, found rows that make no array ({error}).",
            remedy="Give each row the same number of values.",
        ) from error
    if given.ndim != 2 or given.shape[1] != (dims or given.shape[1] or 1):
        raise InvalidArgumentError(
            f"Expected {name} of shape {wanted}, found {given.shape}.",
            remedy="Pass one row for each vector; a single vector v as v.reshape(1, -1).",
        )
    if given.dtype.kind not in "fiu":
        raise InvalidArgumentError(
            f"Expected {name} of numbers, found {given.dtype}.", remedy="Convert the array to float32."
        )
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is refused
        rows = np.ascontiguousarray(given, np.float32)
        squared = np.vecdot(rows, rows)
    off = ~(np.abs(np.sqrt(squared) - 1) <= _UNIT_TOLERANCE)
    if not off.any():
        return rows
    row = int(off.argmax())
    finite = np.isfinite(rows[row])
    if not finite.all():
        column = int(finite.argmin())
        raise InvalidArgumentError(
            f"Expected finite numbers in {name}, found {given[row, column]} in row {row}, column {column}.",
            remedy="Leave the row out, or correct it.",
        )
    length = float(np.linalg.norm(rows[row].astype(np.float64)))
    raise InvalidArgumentError(
        f"Expected unit rows in {name}, found length {length:.6g} in row {row} ({int(off.sum())} of "
        f"{len(rows)} rows are off).",
        remedy="Divide each row by its length.",
    )


def unit_rows(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length, in place: float32, shape (n, d)."""
    # vecdot is BLAS's dot: several running sums, so 1,536 squares in float32 keep the length within 1e-7.
    rows /= np.sqrt(np.maximum(np.vecdot(rows, rows), np.finfo(np.float32).tiny))[:, None]
    return rows


def padded(rows: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Rows with columns of zeros appended: float32, shape (n, dims)."""
    if rows.shape[1] == dims:
        return rows
    wide = np.zeros((len(rows), dims), rows.dtype)
    wide[:, : rows.shape[1]] = rows
    return wide


def require_shape(arrays: dict[str, NDArray[Any]], name: str, *shape: int | None) -> NDArray[Any]:
    """The array of this name, checked: None matches any length.

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
    """The single number of this array; ValueError for another shape, or if it is not above 0."""
    number = float(require_shape(arrays, name, 1)[0])
    if not number > 0:
        raise ValueError(f"tensor {name}: expected a number above 0, found {number}")
    return number
