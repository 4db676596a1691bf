"""The files that a batch makes: names in one folder, which is held while they are worked on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from embup_core.batch.encoding import is_converted
from embup_core.batch.folder import Folder, FolderEntry, OpenFolder, open_freely
from embup_core.batch.part_file import output_error
from embup_core.errors import OutputError

if TYPE_CHECKING:
    from embup_core.batch.spec import BatchSpec


class OutputFiles:
    """A batch's output and what grows beside it.

    Parameters
    ----------
    spec
        The batch.
    folder
        Where its output is to appear; it becomes this object's.

    Attributes
    ----------
    output, part, converting, errors, errors_part
        As the paths of these names in `BatchSpec`.
    """

    def __init__(self, spec: BatchSpec, folder: Folder) -> None:
        self.folder = folder
        self.output = folder.entry(spec.output_path.name)
        self.part = folder.entry(spec.part_path.name)
        self.converting = folder.entry(spec.converting_path.name)
        self.errors = folder.entry(spec.errors_path.name)
        self.errors_part = folder.entry(spec.errors_part_path.name)
        self._spec = spec

    @classmethod
    def open(cls, spec: BatchSpec, open_folder: OpenFolder = open_freely) -> Self:
        """Open the folder of a batch's output.

        Raises
        ------
        OutputError
            It is missing, or the system refuses.
        """
        path = spec.output_path.parent
        try:
            return cls(spec, open_folder(path))
        except (FileNotFoundError, NotADirectoryError) as error:
            what = "does not exist" if isinstance(error, FileNotFoundError) else "is not a folder"
            raise OutputError(
                f"the output folder {path} {what}.", remedy="Create it or choose another output."
            ) from error
        except OSError as error:
            raise output_error(spec.output_path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the folder; again is harmless."""
        self.folder.close()

    @property
    def parts(self) -> tuple[FolderEntry, ...]:
        """What the batch may write before its output is whole."""
        parts = [self.part]
        if is_converted(self._spec.output_path):
            parts.append(self.converting)
        if self._spec.on_bad_row == "nan":
            parts.append(self.errors_part)
        return tuple(parts)

    def require_in_place(self, open_folder: OpenFolder) -> None:
        """Check that the output's path still leads to the folder that is held.

        Raises
        ------
        OutputError
            The folder was moved or replaced.
        """
        with self.open(self._spec, open_folder) as found:
            if found.folder.is_same(self.folder):
                return
        raise OutputError(
            f"the output folder {self.folder.path} was moved or replaced by somebody else.",
            remedy="Keep others from that folder and start the batch anew.",
        )
