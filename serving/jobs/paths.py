"""Which files a batch may touch: those under the configured roots, after every link has been followed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embup_core.errors import InputFileError, OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def resolve_input(given: str, roots: Sequence[Path], reserved: Sequence[Path] = ()) -> Path:
    """Find the file that a client means by `input_filepath`; a relative path starts at the first root.

    Raises
    ------
    InputFileError
        It is no path, lies outside every root, or lies in a folder of the service's own state.
    """
    try:
        path = _confined(_absolute(given, roots[0]).resolve(), given, roots)
        return _not_reserved(path, reserved)
    except (_RefusedError, OSError, RuntimeError, ValueError) as error:
        raise InputFileError(f"input_filepath {given!r}: {error}.", remedy=_remedy(roots)) from error


def resolve_output(given: str, roots: Sequence[Path], reserved: Sequence[Path] = ()) -> Path:
    """Find the file that a client means by `output_filepath`.

    Only the folder is resolved: the output is put in place by a rename, which replaces a link and does not
    follow it.

    Raises
    ------
    OutputError
        It is no path to a file, lies outside every root, or lies in a folder of the service's own state.
    """
    try:
        path = _absolute(given, roots[0])
        if given.endswith("/") or path.name in {"", ".", ".."}:
            raise _RefusedError("expected the path of a file, found that of a folder")
        path = _confined(path.parent.resolve() / path.name, given, roots)
        return _not_reserved(path, reserved)
    except (_RefusedError, OSError, RuntimeError, ValueError) as error:
        raise OutputError(f"output_filepath {given!r}: {error}.", remedy=_remedy(roots)) from error


def require_unmoved(
    input_path: Path, output_path: Path, roots: Sequence[Path], reserved: Sequence[Path]
) -> None:
    """Check that the resolved paths of a batch still lead where they led when it was submitted.

    Raises
    ------
    InputFileError, OutputError
        A link has taken the place of the input or of a folder on the way, or the roots are others now.
    """
    # The output first: to an output that is where it was, part files may be removed.
    found = resolve_output(str(output_path), roots, reserved)
    if found != output_path:
        raise OutputError(f"output_filepath {str(output_path)!r}: {_moved(found)}.", remedy=_SUBMIT_AGAIN)
    found = resolve_input(str(input_path), roots, reserved)
    if found != input_path:
        raise InputFileError(f"input_filepath {str(input_path)!r}: {_moved(found)}.", remedy=_SUBMIT_AGAIN)


_SUBMIT_AGAIN = "Submit the batch again, with the path it should have."


def _moved(found: Path) -> str:
    return f"the path was changed by a link after the batch was submitted; it means {found} now"


class _RefusedError(Exception):
    """Carries the reason to the caller above, which knows whether an input or an output was meant."""


def _absolute(given: str, first_root: Path) -> Path:
    if not given.strip():
        raise _RefusedError("expected a path, found nothing")
    if "\0" in given:
        raise _RefusedError("expected a path, found one with a NUL character")
    return first_root / given  # an absolute path replaces the root


def _confined(path: Path, given: str, roots: Sequence[Path]) -> Path:
    if any(path.is_relative_to(root.resolve()) for root in roots):
        return path
    means = "" if str(path) == given else f" means {path}, which"
    folders = ", ".join(str(root) for root in roots)
    raise _RefusedError(f"the path{means} lies outside the folders of batch files ({folders})")


def _not_reserved(path: Path, reserved: Sequence[Path]) -> Path:
    for folder in reserved:
        if path.is_relative_to(folder.resolve()):
            raise _RefusedError(f"the path lies in {folder}, which holds the service's own state")
    return path


def _remedy(roots: Sequence[Path]) -> str:
    return f"Use another path under {roots[0]}, or start the service with other folders in EMBUP_BATCH_ROOTS."
