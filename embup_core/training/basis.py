"""Which basis a training uses: that of the version in service, that of another version, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from embup_core.errors import ArtifactError, BasisLostError, InputError
from embup_core.geometry.basis import recover_in_kept_basis, recover_in_new_basis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embup_core.artifacts.registry import Registry
    from embup_core.geometry.basis import Basis
    from embup_core.geometry.noise import MatrixNoise
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
            return Recovered(*found, f"{found.basis.id}, kept from {choice.version}", None)
    elif choice.version:
        warning = (
            f"A new basis is made, because {why_new}: vectors that {choice.version} decoded cannot be "
            "compared with those of the new version."
        )
    found = recover_in_new_basis(matrix, projected, output_dims=output_dims, landmarks=landmarks, seed=seed)
    return Recovered(*found, f"{found.basis.id}, new: {why_new}", warning)
