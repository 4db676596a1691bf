"""An artifact to be spoilt, and damage to it, by chance or by hand: hashes and checksum stay as they were.

Nothing is exempt: every byte of every file that was published counts, white space of JSON, plots and the
model card too. `forgeries` has what is spoilt with hashes that fit.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
from typing import TYPE_CHECKING, Any

from embup_core.artifacts.artifact import content_hash
from embup_core.artifacts.manifest import MAX_MANIFEST_BYTES
from embup_core.artifacts.registry import Registry

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path


DECODER = "decoder.safetensors"
MANIFEST = "manifest.json"
DEEP = "[" * 100_000 + "]" * 100_000
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 4, 10**30, -(10**30), 1e308, float("nan"), float("inf"), "", "x",
    "\ud800", "\x00", "../../etc/passwd", "/dev/zero", "0" * 64, [], [[]], {}, {"x": 1}, [1, [2, [3]]],
    "9" * 4000, ["linear_residual"], {"name": "linear_residual"},
]  # fmt: skip


class Spoiler:
    """One artifact in a registry of its own, spoilt anew for each try, and another one to swap with."""

    def __init__(self, root: Path, original: Path, other: Path) -> None:
        self.registry = Registry(root)
        self.version = original.name
        self.original, self.other = original, other
        self.folder = root / original.name
        self.files = sorted(str(path.relative_to(original)) for path in original.rglob("*") if path.is_file())
        self._manifest = (original / MANIFEST).read_bytes()
        self.data = (original / DECODER).read_bytes()
        header_bytes = struct.unpack("<Q", self.data[:8])[0]
        self.header: dict[str, Any] = json.loads(self.data[8 : 8 + header_bytes])
        self.body = self.data[8 + header_bytes :]
        root.mkdir()
        shutil.copytree(original, self.folder)

    @property
    def manifest(self) -> dict[str, Any]:
        """A manifest to spoil."""
        found: dict[str, Any] = json.loads(self._manifest)
        return found

    def restore(self) -> None:
        """Bring it back to what was published: as it loads."""
        for name in self.files:
            path, whole = self.folder / name, self.original / name
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif path.is_symlink() or not path.exists() or not path.is_file():
                path.unlink(missing_ok=True)
            size_bytes = path.stat().st_size if path.exists() else -1
            if size_bytes != whole.stat().st_size or path.read_bytes() != whole.read_bytes():
                shutil.copyfile(whole, path)

    def write_manifest(self, manifest: dict[str, Any], *, fitting: bool) -> None:
        """Write it, with a checksum that fits or with the one it had."""
        content = sealed(manifest) if fitting else json.dumps(manifest).encode()
        (self.folder / MANIFEST).write_bytes(content)

    def forge(self, manifest: dict[str, Any], data: bytes | None = None) -> None:
        """Write a manifest and arrays, with every hash, size, version and checksum made to fit."""
        data = self.data if data is None else data
        files, decoder = manifest.get("files"), manifest.get("decoder")
        if isinstance(files, dict) and DECODER in files:
            files[DECODER] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        if isinstance(decoder, dict) and {"name", "settings"} <= decoder.keys():
            digest = content_hash(decoder["name"], decoder["settings"], data)
            manifest["content_hash"] = digest
            # The folder keeps its name, and so would have to have that hash in it.
            name = f"{self.version[:-8]}{digest[:8]}"
            manifest["version"] = name
        (self.folder / DECODER).write_bytes(data)
        self.write_manifest(manifest, fitting=True)

    def tensors(self, header: bytes, body: bytes) -> bytes:
        """A safetensors file of a header as it stands."""
        return struct.pack("<Q", len(header)) + header + body


def sealed(manifest: dict[str, Any]) -> bytes:
    """A manifest whose checksum fits; as `manifest_bytes` but on one line, which is ten times faster."""
    checksum = manifest.pop("checksum", "")
    content = json.dumps(manifest).encode()[:-1] + b', "checksum": "'
    manifest["checksum"] = checksum
    return content + hashlib.sha256(content[: -len(b'"checksum": "')]).hexdigest().encode() + b'"\n}'


# Damage: what a disk, a copy or a hand does.


def flipped_bit(spoiler: Spoiler, draw: random.Random) -> None:
    path = spoiler.folder / draw.choice(spoiler.files)
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def overwritten_bytes(spoiler: Spoiler, draw: random.Random) -> None:
    path = spoiler.folder / draw.choice(spoiler.files)
    content = bytearray(path.read_bytes())
    start = draw.randrange(len(content))
    length = min(len(content) - start, draw.choice((1, 8, 512, 4096)))
    fill = draw.choice((b"\0" * length, b"\xff" * length, draw.randbytes(length), b" " * length))
    content[start : start + length] = fill
    if bytes(content) == path.read_bytes():
        content[start] ^= 0xFF
    path.write_bytes(content)


def cut_short(spoiler: Spoiler, draw: random.Random) -> None:
    path = spoiler.folder / draw.choice(spoiler.files)
    content = path.read_bytes()
    path.write_bytes(content[: draw.choice((0, len(content) - 1, draw.randrange(len(content))))])


def made_longer(spoiler: Spoiler, draw: random.Random) -> None:
    path = spoiler.folder / draw.choice(spoiler.files)
    with path.open("ab") as file:
        file.write(draw.choice((b"\n", b" ", b"\0", draw.randbytes(draw.randint(1, 5000)))))


def lost_or_replaced_file(spoiler: Spoiler, draw: random.Random) -> None:
    path = spoiler.folder / draw.choice(spoiler.files)
    path.unlink()
    match draw.choice(("gone", "folder", "pipe", "device", "loop", "sparse")):
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "device":
            path.symlink_to(draw.choice(("/dev/zero", "/dev/tty", "/dev/urandom")))
        case "loop":
            path.symlink_to(path.name)
        case "sparse":
            with path.open("wb") as file:
                file.truncate(draw.choice((1 << 30, 1 << 40)))


def file_of_another_version(spoiler: Spoiler, draw: random.Random) -> None:
    """One file, or all but one, or all: the whole of another version under this one's name."""
    names = [name for name in spoiler.files if (spoiler.other / name).read_bytes() != _bytes(spoiler, name)]
    chosen = draw.choice(
        ([draw.choice(names)], [DECODER, MANIFEST], draw.sample(names, len(names) - 1), names)
    )
    for name in chosen:
        shutil.copyfile(spoiler.other / name, spoiler.folder / name)


def files_exchanged(spoiler: Spoiler, draw: random.Random) -> None:
    one, two = draw.sample(spoiler.files, 2)
    one_bytes, two_bytes = _bytes(spoiler, one), _bytes(spoiler, two)
    (spoiler.folder / one).write_bytes(two_bytes)
    (spoiler.folder / two).write_bytes(one_bytes)


def keys_of_the_manifest(spoiler: Spoiler, draw: random.Random) -> None:
    """Missing, exchanged, renamed, moved or twice there."""
    manifest = spoiler.manifest
    parent = draw.choice([manifest, manifest["decoder"], manifest["golden"], manifest["files"]])
    one, two = draw.sample(sorted(parent), 2)
    match draw.choice(("missing", "exchanged", "renamed", "order", "twice")):
        case "missing":
            del parent[one]
        case "exchanged":
            parent[one], parent[two] = parent[two], parent[one]
        case "renamed":
            parent[one + draw.choice(("x", " ", "\x00"))] = parent.pop(one)
        case "order":
            parent[one] = parent.pop(one)
            parent[two] = parent.pop(two)
        case "twice":
            text = json.dumps(manifest, indent=1)
            key = json.dumps(draw.choice(sorted(manifest)))
            value = json.dumps(draw.choice(ODD_VALUES))
            at = draw.choice((1, text.rindex("\n")))
            comma_first = at != 1
            pair = f", {key}: {value}" if comma_first else f"{key}: {value},"
            (spoiler.folder / MANIFEST).write_text(text[:at] + pair + text[at:])
            return
    spoiler.write_manifest(manifest, fitting=False)


def values_of_the_manifest(spoiler: Spoiler, draw: random.Random) -> None:
    """Any value, at any depth, made another; the checksum stays."""
    manifest = spoiler.manifest
    path = draw.choice([path for path in _paths(manifest) if path])
    parent = _at(manifest, path[:-1])
    before = parent[path[-1]]
    choices = [value for value in ODD_VALUES if not alike(value, before)]
    parent[path[-1]] = draw.choice(choices)
    spoiler.write_manifest(manifest, fitting=False)


def text_of_the_manifest(spoiler: Spoiler, draw: random.Random) -> None:
    """White space, another style, another encoding, too deep, too long, no JSON at all."""
    text = (spoiler.original / MANIFEST).read_text()
    choices: list[Callable[[], bytes]] = [
        lambda: json.dumps(spoiler.manifest).encode(),
        lambda: json.dumps(spoiler.manifest, indent=2).encode(),
        lambda: text.replace("\n", "\r\n").encode(),
        lambda: text.encode("utf-16"),
        lambda: b"\xef\xbb\xbf" + text.encode(),
        lambda: b" " + DEEP.encode(),
        lambda: text.replace('"golden": {', f'"golden": {{"deep": {DEEP},', 1).encode(),
        lambda: b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        lambda: b"[" + b"0," * (MAX_MANIFEST_BYTES // 2) + b"0]",
        lambda: b"[" + b"[]," * 1_000_000 + b"0]",
        lambda: text.replace(" 32", " 3" + "2" * 5000, 1).encode(),
        lambda: draw.randbytes(2000),
        lambda: draw.choice((b"null", b"[]", b"{}", b'"x"', b"1", b"NaN", b"")),
        lambda: text[:-90].encode() + b"\n}",
    ]
    (spoiler.folder / MANIFEST).write_bytes(draw.choice(choices)())


DAMAGE = (
    flipped_bit, overwritten_bytes, cut_short, made_longer, lost_or_replaced_file, file_of_another_version,
    files_exchanged, keys_of_the_manifest, values_of_the_manifest, text_of_the_manifest,
)  # fmt: skip


def _bytes(spoiler: Spoiler, name: str) -> bytes:
    return (spoiler.original / name).read_bytes()


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for i in range(min(3, len(value))):
            yield from _paths(value[i], (*path, i))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def alike(value: Any, other: Any) -> bool:
    return type(value) is type(other) and value == other
