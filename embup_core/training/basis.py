"""Which basis a training uses: that of the version in service, that of another version, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np

from embup_core.artifacts.manifest import BASIS_FILE
from embup_core.errors import ArtifactError, BasisLostError, InputError, InvalidDataError
from embup_core.geometry.basis import Basis, recover_in_kept_basis, recover_in_new_basis
from embup_core.geometry.noise import MatrixNoise
from embup_core.sources.cosine_matrix import CoordinateProducts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry
    from embup_core.geometry.basis import RecoveryInBasis
    from embup_core.sources.cosine_matrix import CosineMatrix

NEW: Final = "new"
"""Asks for a new basis."""


@dataclass(frozen=True, eq=False)
class BasisChoice:
    """What to try before anything is recovered.

    Attributes
    ----------
    kept
        The basis to keep; None makes a new one.
    version
        The version that has it, or would have had it; empty where there is none.
    required
        Whether a basis that cannot be kept is an error. Else a new one is made, with a warning.
    why_new
        Why there is no basis to keep, in a clause.
    """

    kept: Basis | None = None
    version: str = ""
    required: bool = False
    why_new: str = "no version is in service"

    @classmethod
    def from_registry(cls, registry: Registry, asked: str | None = None) -> Self:
        """Choose.

        Parameters
        ----------
        registry
            Where the version is.
        asked
            A version, or ``new``; None or empty takes the basis of the version in service, where it has one.

        Raises
        ------
        InputError
            The version that was asked for has no basis.
        ArtifactError
            It is not there, or damaged.
        """
        if asked == NEW:
            return cls(why_new="as asked")
        if asked:
            basis = registry.read_basis(asked)
            if basis is None:
                raise InputError(
                    f"Expected a version with a basis, found {asked}, which has none.",
                    remedy="Train with a new basis: --basis new.",
                )
            return cls(basis, asked, required=True)
        try:
            version = registry.current_version()
        except ArtifactError:
            return cls()
        try:
            basis = registry.read_basis(version)
        except ArtifactError:
            return cls(version=version, why_new=f"{version}, which is in service, cannot be read")
        if basis is None:
            return cls(version=version, why_new=f"{version}, which is in service, has none")
        return cls(basis, version)


class Recovered(NamedTuple):
    """Coordinates in the basis that was chosen.

    Attributes
    ----------
    coordinates, noise, basis
        As in `RecoveryInBasis`.
    landmarks
        Rows of the source that fixed the coordinates: int64, shape (k,).
    note
        Which basis it is, and why, in a clause.
    warning
        What to tell the user; None where there is nothing to tell.
    """

    coordinates: NDArray[np.float32]
    noise: MatrixNoise
    basis: Basis
    landmarks: NDArray[np.int64]
    note: str
    warning: str | None


def recover_in(
    choice: BasisChoice,
    matrix: CosineMatrix,
    projected: NDArray[np.float32],
    *,
    output_dims: int,
    landmarks: int | None = None,
    seed: int = 0,
) -> Recovered:
    """Recover coordinates in the basis that was chosen, or else in a new one.

    A source that has coordinates has their basis, too: both are taken as they are.

    Parameters
    ----------
    choice
        From `BasisChoice.from_registry`.
    matrix, projected, output_dims, landmarks, seed
        As for `recover_in_new_basis`.

    Raises
    ------
    BasisLostError
        A required basis cannot be kept.
    InvalidDataError
        As `recover`.
    """
    if isinstance(matrix, CoordinateProducts):
        return _given(choice, matrix, output_dims=output_dims)
    warning, why_new = None, choice.why_new
    if choice.kept is not None:
        try:
            found = recover_in_kept_basis(choice.kept, matrix, projected, output_dims=output_dims)
        except BasisLostError as error:
            if choice.required:
                raise
            why_new = f"that of {choice.version} cannot be kept"
            warning = (
                f"{error.message} A new one is made: vectors that {choice.version} decoded cannot be "
                "compared with those of the new version."
            )
        else:
            return _recovered(found, f"{found.basis.id}, kept from {choice.version}", None)
    elif choice.version:
        warning = (
            f"A new basis is made, because {why_new}: vectors that {choice.version} decoded cannot be "
            "compared with those of the new version."
        )
    found = recover_in_new_basis(matrix, projected, output_dims=output_dims, landmarks=landmarks, seed=seed)
    return _recovered(found, f"{found.basis.id}, new: {why_new}", warning)


def _recovered(found: RecoveryInBasis, note: str, warning: str | None) -> Recovered:
    return Recovered(found.coordinates, found.noise, found.basis, found.landmarks, note, warning)


def _given(choice: BasisChoice, matrix: CoordinateProducts, *, output_dims: int) -> Recovered:
    """The coordinates of a source and their basis, which is compared with the one to keep."""
    path = matrix.path.with_name(BASIS_FILE)
    try:
        basis = Basis.from_bytes(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidDataError(
            f"{path}: expected the basis of {matrix.path.name}, found none ({error}).",
            remedy="Write the training set of the drops again.",
        ) from error
    found = (matrix.memory_map.shape[1], output_dims)
    if (basis.dims, basis.output_dims) != found:
        raise InvalidDataError(
            f"{path} is a basis of {basis.dims} dimensions of originals that have {basis.output_dims}, "
            f"expected {found[0]} and {found[1]}.",
            remedy="Set the dimensions of the originals, or write the training set of the drops again.",
        )
    note, warning = f"{basis.id}, that of the source", None
    if choice.kept is not None and basis.extends(choice.kept):
        note = f"{basis.id}, kept from {choice.version}"
        if basis.id != choice.kept.id:
            note = f"{basis.id}, that of {choice.version} and {basis.dims - choice.kept.dims} more dimensions"
    elif choice.version:
        warning = (
            f"The source has the basis {basis.id}, and {choice.version} has another: vectors that "
            f"{choice.version} decoded cannot be compared with those of the new version."
        )
        if choice.required:
            raise BasisLostError(warning, remedy="Train without --basis.")
    rows = np.asarray(matrix.memory_map[: min(matrix.n_rows, 1000)], dtype=np.float32)
    deviation = float((rows @ rows.T)[~np.eye(len(rows), dtype=bool)].std())
    exact = MatrixNoise(0, 0, 0, 0, 0, deviation)  # products of coordinates have no noise of their own
    return Recovered(matrix.memory_map, exact, basis, np.empty(0, np.int64), note, warning)
