"""One setting names a sample, a folder or two URLs; anything else is refused with what to give instead."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from embup_core.errors import SourceUnavailableError
from embup_core.sources import COSINES_FILE, PROJECTED_FILE, resolve_source, validate_pair

if TYPE_CHECKING:
    from pathlib import Path

    from embup_core.sources import SourceFiles
    from tests.embup_core.sources.conftest import FileServer


def test_sample_is_generated_into_the_cache(tmp_path: Path) -> None:
    files = resolve_source("sample:300", cache_dir=tmp_path)
    assert files.name == "sample:300"
    assert validate_pair(files).rows == 300
    assert files.projected.is_relative_to(tmp_path)


def test_a_folder_is_used_where_it_lies(pair: SourceFiles, tmp_path: Path) -> None:
    files = resolve_source(str(pair.projected.parent), cache_dir=tmp_path / "unused")
    assert (files.projected, files.cosines) == (pair.projected, pair.cosines)
    assert not (tmp_path / "unused").exists()


def test_two_urls_are_downloaded_in_their_order(
    pair: SourceFiles, tmp_path: Path, server: FileServer
) -> None:
    server.files = {"/a.npy": pair.projected.read_bytes(), "/b,c.npy": pair.cosines.read_bytes()}
    files = resolve_source(f"{server.url}/a.npy, {server.url}/b,c.npy", cache_dir=tmp_path / "cache")
    assert validate_pair(files).rows == 200
    assert files.name == f"{server.url}/a.npy,{server.url}/b,c.npy"
    assert (files.projected.name, files.cosines.name) == (PROJECTED_FILE, COSINES_FILE)


def test_the_hashes_belong_to_the_urls_in_order(
    pair: SourceFiles, tmp_path: Path, server: FileServer
) -> None:
    server.files = {"/a.npy": pair.projected.read_bytes(), "/b.npy": pair.cosines.read_bytes()}
    with pytest.raises(SourceUnavailableError, match=r"b\.npy has SHA-256"):
        resolve_source(f"{server.url}/a.npy,{server.url}/b.npy", cache_dir=tmp_path, sha256=(None, "00"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sample:20", "expected a number of rows from 100"),
        ("sample:abc", "expected a number of rows from 100"),
        ("http://127.0.0.1/a.npy", "1 URL, expected two"),
        ("http://127.0.0.1/a,http://127.0.0.1/b,http://127.0.0.1/c", "3 URLs, expected two"),
        ("http://h:abc/x,http://h/y", "URL of the source is malformed"),
        ("http://h/x,http://[bad/y", "URL of the source is malformed"),
        ("ftp://host/folder", "is not one that can be read"),
        ("s3://user:word@bucket/folder", "Expected an address such as s3://bucket/prefix"),
        ("", "is not one that can be read"),
        ("/nowhere/at/all", "does not exist"),
        ("/etc/hostname", "is a file, not a folder"),
    ],
)
def test_a_setting_that_names_no_data_is_refused(spec: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=message) as caught:
        resolve_source(spec, cache_dir=tmp_path)
    assert caught.value.remedy


def test_a_folder_without_a_file_is_refused_naming_what_it_has(pair: SourceFiles, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(pair.projected, folder / PROJECTED_FILE)
    with pytest.raises(SourceUnavailableError, match=f"has no {COSINES_FILE}.*it has: {PROJECTED_FILE}"):
        resolve_source(str(folder), cache_dir=tmp_path)


def test_a_pipe_in_a_file_s_place_is_named_as_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "og_train_cos_theta.npy")
    with pytest.raises(SourceUnavailableError, match=r"og_train_cos_theta\.npy is not a regular file"):
        resolve_source(str(tmp_path), cache_dir=tmp_path)
