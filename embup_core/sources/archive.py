"""Arrays in ``.npz`` archives, unpacked once into the cache so that they can be memory-mapped."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from pathlib import Path

from embup_core.errors import InvalidDataError, SourceUnavailableError

ARCHIVE_SUFFIX = ".npz"


def unpacked(path: Path, cache_dir: Path) -> Path:
    """Unpack the one array of an ``.npz`` file, unless an unchanged copy is in the cache.

    Parameters
    ----------
    path
        A file; one whose name does not end in ``.npz`` is returned as it is.
    cache_dir
        Folder of unpacked files; created when missing.

    Returns
    -------
    Path of a ``.npy`` file.

    Raises
    ------
    InvalidDataError
        The file is no archive, is damaged, or holds another number of arrays than one.
    SourceUnavailableError
        The file cannot be read, or the cache cannot be written.
    """
    if path.suffix != ARCHIVE_SUFFIX:
        return path
    status = path.stat()
    identity = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    target = cache_dir / f"unpacked-{hashlib.sha256(identity.encode()).hexdigest()[:12]}" / f"{path.stem}.npy"
    if target.is_file():
        return target
    beside = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(path) as archive:
            member = _only_array(path, archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, beside.open("wb") as file:
                shutil.copyfileobj(packed, file, 2**20)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        beside.unlink(missing_ok=True)
        raise InvalidDataError(
            f"{path} is not a readable .npz archive: {error}.",
            remedy="Write it again with numpy.savez(path, array), or save the array with numpy.save.",
        ) from error
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise SourceUnavailableError(
            f"{path} cannot be unpacked to {target.parent}: {error.strerror}.",
            remedy="Free space in the data folder and check permissions, or save the array with numpy.save.",
        ) from error
    beside.replace(target)
    return target


def _only_array(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    members = archive.infolist()
    if len(members) != 1:
        names = ", ".join(Path(member.filename).stem for member in members[:10])
        raise InvalidDataError(
            f"{path} holds {len(members)} arrays{f' ({names})' if names else ''}, expected one.",
            remedy="Save the one array to use: numpy.savez(path, array), or numpy.save as .npy.",
        )
    return members[0]
