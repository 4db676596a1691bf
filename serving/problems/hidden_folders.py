"""What a client does not see: where on the machine the service keeps its own folders. The log has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from serving.settings import ServingSettings


class HiddenFolders:
    """Puts `<registry>` and `<data>` in the place of those folders' absolute paths.

    A folder that was set as a relative path stays as it was set: that tells nothing of the machine.

    Parameters
    ----------
    settings
        Name the folders.
    """

    def __init__(self, settings: ServingSettings) -> None:
        self._shown = [
            pair
            # The registry is below the data folder as a rule, so it goes first.
            for folder, name in ((settings.registry_folder, "<registry>"), (settings.data, "<data>"))
            for pair in _spellings(folder, name)
        ]
        if isinstance(settings.registry, str):
            self._shown.append((settings.registry, "<registry>"))

    def __call__(self, text: str) -> str:
        """Give a text that a client may see."""
        for path, shown in self._shown:
            text = text.replace(path, shown)
        return text


def _spellings(folder: Path, name: str) -> list[tuple[str, str]]:
    shown = name if folder.is_absolute() else str(folder)
    return [(path, shown) for path in sorted({str(folder.absolute()), str(folder.resolve())}, reverse=True)]
