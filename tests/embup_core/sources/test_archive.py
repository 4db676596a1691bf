"""Sources in .npz archives are unpacked once into the cache."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embup_core.errors import InvalidDataError, SourceUnavailableError
from embup_core.sources import SourceFiles, load_projected, resolve_source, validate_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def packed(files: SourceFiles, folder: Path, save: Callable[..., None] = np.savez) -> Path:
    """A folder with the two files as archives."""
    folder.mkdir()
    for path in (files.projected, files.cosines):
        save(folder / f"{path.stem}.npz", np.load(path))
    return folder


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_hold_what_the_arrays_do(
    pair: SourceFiles, tmp_path: Path, save: Callable[..., None]
) -> None:
    files = resolve_source(str(packed(pair, tmp_path / "npz", save)), cache_dir=tmp_path / "cache")
    np.testing.assert_array_equal(load_projected(files.projected), load_projected(pair.projected))
    assert validate_pair(files).mean_cosine == validate_pair(pair).mean_cosine
    assert isinstance(np.load(files.cosines, mmap_mode="r"), np.memmap)


def test_an_unchanged_archive_is_unpacked_once(pair: SourceFiles, tmp_path: Path) -> None:
    folder = packed(pair, tmp_path / "npz")
    first = resolve_source(str(folder), cache_dir=tmp_path / "cache")
    written_ns = first.cosines.stat().st_mtime_ns
    again = resolve_source(str(folder), cache_dir=tmp_path / "cache")
    assert (again.cosines, again.cosines.stat().st_mtime_ns) == (first.cosines, written_ns)
    os.utime(folder / "og_train_cos_theta.npz", ns=(1, 1))
    assert resolve_source(str(folder), cache_dir=tmp_path / "cache").cosines != first.cosines


def test_several_arrays_are_refused(pair: SourceFiles, tmp_path: Path) -> None:
    folder = packed(pair, tmp_path / "npz")
    np.savez(folder / "projected_train_embs.npz", a=np.eye(2), b=np.eye(2))
    with pytest.raises(InvalidDataError):
        resolve_source(str(folder), cache_dir=tmp_path / "cache")


def test_a_damaged_archive_is_refused_and_leaves_nothing(pair: SourceFiles, tmp_path: Path) -> None:
    folder = packed(pair, tmp_path / "npz")
    path = folder / "og_train_cos_theta.npz"
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(InvalidDataError):
        resolve_source(str(folder), cache_dir=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache").rglob("*cos_theta*") if path.is_file()]


def test_a_file_under_both_names_is_refused(pair: SourceFiles, tmp_path: Path) -> None:
    folder = packed(pair, tmp_path / "npz")
    np.save(folder / "projected_train_embs.npy", np.eye(3))
    with pytest.raises(SourceUnavailableError):
        resolve_source(str(folder), cache_dir=tmp_path / "cache")
