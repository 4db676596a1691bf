"""Artifacts spoilt by a forger, who made every size, hash, version and checksum fit again.

What is left to refuse them is what the content says. Not forged are fields that only people read (metrics,
data, libraries, git commit, summary): with a checksum that fits they make another valid artifact, with the
same answers.
"""

from __future__ import annotations

import json
import struct
import warnings
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load, save

from embup_core.artifacts.manifest import MAX_DECODER_BYTES
from tests.embup_core.artifacts.mutations import DECODER, DEEP, MANIFEST, ODD_VALUES, Spoiler, alike

if TYPE_CHECKING:
    import random


def forged_header(spoiler: Spoiler, draw: random.Random) -> None:
    """Offsets, shapes and types of tensors that are absurd; the header no JSON; its length a lie."""
    header = json.loads(json.dumps(spoiler.header))
    name = draw.choice([name for name in header if name != "__metadata__"])
    big = draw.choice((2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**64 - 1, 2**64, 10**30))
    text: bytes | None = None
    body = spoiler.body
    match draw.randrange(12):
        case 0:
            header[name]["data_offsets"] = draw.choice(
                ([0, big], [big, big], [big, 0], [-1, 4], [4, 0], [0], [], [0, 1, 2], None, "x", [0.5, 4])
            )
        case 1:
            header[name]["shape"] = draw.choice(
                ([big], [big, big], [big, 0], [0, big], [-1], [0], [], [1] * 100_000, None, "x", [1.5])
            )
        case 2:
            kinds = [
                "F64",
                "F16",
                "BF16",
                "F8_E4M3",
                "I8",
                "U8",
                "BOOL",
                "C64",
                "F4",
                "I64",
                "X",
                "",
                None,
                5,
            ]
            header[name]["dtype"] = draw.choice([kind for kind in kinds if kind != header[name]["dtype"]])
        case 3:
            header[name] = draw.choice(ODD_VALUES)
        case 4:
            text = json.dumps(header).encode()[: draw.randint(0, 200)]
        case 5:
            text = draw.choice(
                (DEEP.encode(), b'{"a":' * 5000 + b"1" + b"}" * 5000, b"\xff" * 64, b"", b"null")
            )
        case 6:
            data = struct.pack("<Q", big & (2**64 - 1)) + spoiler.data[8:]
            spoiler.forge(spoiler.manifest, data)
            return
        case 7:
            body = body[: draw.randrange(len(body))]
        case 8:
            body += draw.randbytes(draw.randint(1, 100))
        case 9:
            other = draw.choice([key for key in header if key not in {"__metadata__", name}])
            header[name]["data_offsets"] = header[other]["data_offsets"]
        case 10:
            item = json.dumps(header[name])
            text = json.dumps(header).encode()[:-1] + f', "{name}x": {item}}}'.encode()
        case _:
            spoiler.forge(spoiler.manifest, draw.randbytes(draw.randint(0, 300)))
            return
    spoiler.forge(
        spoiler.manifest,
        spoiler.tensors(json.dumps(header).encode() if text is None else text, body),
    )


def forged_tensors(spoiler: Spoiler, draw: random.Random) -> None:
    """Well-formed arrays that are none of this decoder, or not those that answered the golden inputs."""
    arrays = {name: array.copy() for name, array in load(spoiler.data).items()}
    name = draw.choice(sorted(arrays))
    array = arrays[name]
    match draw.choice(("shape", "missing", "foreign", "not finite", "values", "type", "names", "empty")):
        case "shape":
            arrays[name] = draw.choice(
                (array[None], np.zeros((*array.shape, 2), array.dtype), array.ravel()[:-1],
                 np.zeros(0, array.dtype), np.zeros((0, *array.shape[1:]), array.dtype),
                 np.zeros((3, 5, 7), array.dtype), np.concatenate([array, array]))
            )  # fmt: skip
        case "missing":
            del arrays[name]
        case "foreign":
            arrays[draw.choice(("extra", "", "../x", "\u0000"))] = np.zeros(3, np.float32)
        case "not finite":
            array.ravel()[draw.randrange(array.size)] = draw.choice((np.nan, np.inf, -np.inf))
        case "values":
            # A longer reach is another decoder, which answers the golden rows alike: they lie within it.
            scale = draw.choice(
                (-1.0, 0.0, -1e30) if name == "reach" else (-1.0, 0.0, 1.5, 1e30, 1e-30, 3e38)
            )
            with np.errstate(all="ignore"):
                arrays[name] = (array * array.dtype.type(scale)).astype(array.dtype)
            arrays[name][~np.isfinite(arrays[name])] = 1e38
        case "type":
            kind = draw.choice(("uint8", "bool", "int64", "int8", "float16", "uint64"))
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                arrays[name] = (array * 0.37).astype(kind)
        case "names":
            other = draw.choice([key for key in arrays if key != name])
            arrays[name], arrays[other] = arrays[other], arrays[name]
        case "empty":
            arrays = {}
    spoiler.forge(spoiler.manifest, save(arrays))


def forged_settings(spoiler: Spoiler, draw: random.Random) -> None:
    """Another decoder's name, settings that it does not have or cannot have."""
    manifest = spoiler.manifest
    decoder = manifest["decoder"]
    match draw.choice(("name", "value", "foreign", "settings")):
        case "name":
            decoder["name"] = draw.choice(
                ("linear", "kernel_ridge", "student", "mlp", "neural_kriging", *ODD_VALUES)
            )
        case "value":
            # Not length scales and the like: what only fitting reads may be another, with the same answers.
            odd = [value for value in ODD_VALUES if type(value) is not int or not 0 <= value <= 4]
            name = draw.choice(("mean_dims", "seed"))
            decoder["settings"][name] = draw.choice(odd + [3, 1535, 4, 1e3] * (name == "mean_dims"))
        case "foreign":
            decoder["settings"][draw.choice(("x", "", "self", "__class__", "on_progress"))] = draw.choice(
                ODD_VALUES
            )
        case "settings":
            decoder["settings"] = draw.choice([value for value in ODD_VALUES if value != {}])
    spoiler.forge(manifest)


def forged_golden(spoiler: Spoiler, draw: random.Random) -> None:
    """Golden answers that the decoder does not give, or that are none."""
    manifest = spoiler.manifest
    golden = manifest["golden"]
    part = draw.choice(("inputs", "outputs", "confidences"))
    rows = golden[part]
    match draw.choice(("value", "part", "number", "rows", "long", "whole")):
        case "value":
            row = rows if part == "confidences" else draw.choice(rows)
            i = draw.randrange(len(row))
            odd = [value for value in ODD_VALUES if not isinstance(value, float)] + [
                float("nan"),
                float("inf"),
                3e38,
            ]
            row[i] = draw.choice(odd)
        case "part":
            golden[part] = draw.choice(ODD_VALUES)
        case "number":
            row = draw.choice(golden["outputs"])
            row[draw.randrange(len(row))] += draw.choice((-1, 1)) * draw.uniform(1e-3, 1)
        case "rows":
            golden[part] = draw.choice((rows[:-1], rows + rows[:1], rows[::-1], [], [rows]))
        case "long":
            for key in golden:
                golden[key] = golden[key] * 40
        case "whole":
            manifest["golden"] = draw.choice(ODD_VALUES)
    spoiler.forge(manifest)


def forged_files(spoiler: Spoiler, draw: random.Random) -> None:
    """A list of files that leads elsewhere, or lies about them; a decoder larger than any."""
    manifest = spoiler.manifest
    files = manifest["files"]
    name = draw.choice(sorted(files))
    spoiler.forge(manifest)
    match draw.choice(("name", "entry", "bytes", "sha256", "missing", "files", "sparse", "other plot")):
        case "name":
            files[
                draw.choice(
                    ("../CURRENT", "/etc/passwd", "/dev/zero", "plots/../../x", "plots/..", "plots/.", "",
                     "plots/",
                     "plots/a/b", "\x00", "plots/\x00", "plots/\ud800", "plots/" + "x" * 200, "x" * 5000, ".")
                )
            ] = files[name]  # fmt: skip
        case "entry":
            files[name] = draw.choice(ODD_VALUES)
        case "bytes":
            files[name]["bytes"] = draw.choice([*ODD_VALUES, MAX_DECODER_BYTES, MAX_DECODER_BYTES + 1, 2**63])
        case "sha256":
            files[name]["sha256"] = draw.choice([*ODD_VALUES, files[name]["sha256"].upper()])
        case "missing":
            del files[draw.choice((DECODER, "evaluation.json", "MODEL_CARD.md"))]
        case "files":
            manifest["files"] = draw.choice(ODD_VALUES)
        case "sparse":
            files[DECODER]["bytes"] = 1 << 40
            with (spoiler.folder / DECODER).open("r+b") as file:
                file.truncate(1 << 40)
        case "other plot":
            files["plots/not-there.png"] = files[name]
    spoiler.write_manifest(manifest, fitting=True)


def forged_fields(spoiler: Spoiler, draw: random.Random) -> None:
    """The fields that say what it is, of another type or with another value."""
    manifest = spoiler.manifest
    spoiler.forge(manifest)
    key = draw.choice(
        ("format_version", "version", "content_hash", "created_utc", "decoder", "data", "metrics", "split")
    )
    kind = type(manifest[key])
    odd = [value for value in ODD_VALUES if type(value) is not kind]
    if key in {"format_version", "version", "content_hash"}:
        odd += [value for value in ODD_VALUES if type(value) is kind and not alike(value, manifest[key])]
    if key == "version":
        odd += ["20260101-000000-" + manifest["version"][-8:], manifest["version"][:-1] + "g"]
    manifest[key] = draw.choice(odd)
    if draw.random() < 0.2:
        manifest = {
            name: value
            for name, value in manifest.items()
            if name != key or key in {"data", "metrics", "split"}
        }
    spoiler.write_manifest(manifest, fitting=True)


FORGERIES = (
    forged_header, forged_tensors, forged_settings, forged_golden, forged_files, forged_fields,
)  # fmt: skip


def claimed_version(spoiler: Spoiler) -> str:
    """The version that a forged manifest claims, where a folder can have that name."""
    try:
        claimed = json.loads((spoiler.folder / MANIFEST).read_bytes())["version"]
    except (ValueError, TypeError, LookupError, RecursionError, OSError):
        return spoiler.version
    usable = isinstance(claimed, str) and len(claimed) == len(spoiler.version) and claimed.isascii()
    return claimed if usable and claimed.replace("-", "").isalnum() else spoiler.version
