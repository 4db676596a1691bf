"""Which files a client means by the paths of a batch request, and that they are files a batch may touch.

Confinement comes first: what is said of a path outside the roots is the same whatever is there.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING

from embup_core.errors import EmbupError, InputFileError, OutputError
from embup_core.files.held_folder import RefusedPathError
from embup_core.object_store import ObjectPath, is_address

if TYPE_CHECKING:
    from serving.jobs.confinement import Confinement

_FOLDER_ENDINGS = ("", ".", "..")


def resolve_input(given: str, confinement: Confinement) -> Path:
    """Find the file that a client means by `input_filepath`; a relative path starts at the first root.

    Raises
    ------
    InputFileError
        It is no path to a file, lies outside every root or in a folder of the service's own state, or leads
        over a link.
    """
    try:
        return _resolved(given, confinement)
    except (RefusedPathError, ValueError) as error:
        found = _refused("input_filepath", given, error)
        raise InputFileError(found, remedy=_remedy(error, confinement)) from error


def resolve_output(given: str, confinement: Confinement) -> Path:
    """Find the file that a client means by `output_filepath`; as `resolve_input`.

    Raises
    ------
    OutputError
        As there.
    """
    try:
        return _resolved(given, confinement)
    except (RefusedPathError, ValueError) as error:
        found = _refused("output_filepath", given, error)
        raise OutputError(found, remedy=_remedy(error, confinement)) from error


def make_parents(output: Path, confinement: Confinement) -> None:
    """Create the missing folders above an output file that `resolve_output` found.

    Raises
    ------
    OutputError
        One cannot be created, or a link or a file is on the way.
    """
    if isinstance(output, ObjectPath):
        return
    try:
        confinement.make_folder(output.parent)
    except RefusedPathError as error:
        raise OutputError(f"The folder {output.parent}: {error}.", remedy=confinement.remedy()) from error
    except OSError as error:
        raise OutputError(
            f"The folder {output.parent} cannot be created: {error.strerror}.",
            remedy="Check the path, and who may write to the folders above.",
        ) from error


def _resolved(given: str, confinement: Confinement) -> Path:
    if not given.strip():
        raise ValueError("expected a path, found nothing")
    if is_address(given):
        return confinement.buckets.locate(given)
    path = confinement.locate(confinement.roots[0].path / Path(given))  # an absolute path replaces the root
    if "\0" in given:
        raise ValueError("expected a path, found one with a NUL character")
    if given.rpartition("/")[2] in _FOLDER_ENDINGS or str(path) in {root.real for root in confinement.roots}:
        raise ValueError("expected the path of a regular file, found that of a folder")
    if _is_link(path, confinement):
        raise confinement.refusal()
    return path


def _refused(field: str, given: str, error: Exception) -> str:
    """Return the words for a path that is refused."""
    if isinstance(error, EmbupError):  # what makes an address malformed may be a secret
        return f"{field}: {error.message}"
    return f"{field} {given!r}: {error}."


def _remedy(error: Exception, confinement: Confinement) -> str:
    """Return what to do about it."""
    return getattr(error, "remedy", "") or confinement.remedy()


def _is_link(path: Path, confinement: Confinement) -> bool:
    """Whether a link stands there; links on the way are refused."""
    try:
        with confinement.open_folder(path.parent) as folder:
            return stat.S_ISLNK(folder.entry(path.name).status().st_mode)
    except RefusedPathError:
        raise
    except (OSError, ValueError):  # what is missing or too long is said by those who want to open it
        return False
