"""What programs write, in each format: answered as the same rows in strict text are, or refused with the fix.

One table: a name, how the file is written, and `SAME` or words that the error must have. A permuted row has a
wrong answer, so tables are written with shuffled columns too.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import random
import zipfile
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from embup_core.batch import BatchRun, BatchSpec, run_to_completion
from embup_core.batch.inputs.formats import FORMATS
from embup_core.errors import BadRowError, InputError, InputFileError
from tests.embup_core.batch.formats import check_request, random_rows, text_of, zstd

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.embup_core.batch.conftest import RandomMapUpsampler

Z = random_rows(40, seed=3)
Z /= np.linalg.norm(Z, axis=1, keepdims=True)
ROWS = text_of(Z).decode().splitlines()
LISTS = Z.tolist()
SORTED = sorted(range(32), key=str)
SHUFFLED = random.Random(1).sample(range(32), 32)
SAME = ()
HALF_TOLERANCE = 2e-3  # float16 has 11 bits

Case = tuple[bytes, tuple[str, ...]]


def lines(rows: list[str], end: str = "\n") -> bytes:
    return (end.join(rows) + end).encode()


def table(names: list[str], order: list[int], separator: str = ",") -> bytes:
    """Rows whose columns are shuffled in this order, below their names."""
    records = [separator.join(row.split(",")[place] for place in order) for row in ROWS]
    return lines([separator.join(names), *records])


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def npz(save: Any = np.savez, /, *arrays: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def feather() -> bytes:
    file = io.BytesIO()
    pyarrow.feather.write_feather(pa.table({"z": LISTS}), file)
    return file.getvalue()


def numbered(prefix: str, order: Any = range(32), start: int = 0) -> dict[str, Any]:
    return {f"{prefix}{place + start}": Z[:, place] for place in order}


def header_of(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(128)


class Unpickled:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


SAVETXT = [" ".join(f"{value:.18e}" for value in row) for row in Z]
QUOTED_LISTS = [f'{index},"[{row.replace(",", ", ")}]"' for index, row in enumerate(ROWS)]
NUMPY_CELLS = [f'{index},"{np.array2string(row, max_line_width=60)}"' for index, row in enumerate(Z)]
UNNUMBERED = ["alpha", "beta", *(f"x{index}" for index in range(30))]
TEXTS: dict[str, Case] = {
    # The strict format.
    "plain.txt": (lines(ROWS), SAME),
    "spaces.txt": (lines([row.replace(",", ", ") for row in ROWS]), SAME),
    "crlf.txt": (lines(ROWS, "\r\n"), SAME),
    "mark.txt": (b"\xef\xbb\xbf" + lines(ROWS), SAME),
    "unknown.dat": (lines(ROWS), SAME),
    "brackets.txt": (lines([f"[{row}]" for row in ROWS]), ("brackets", ".jsonl")),
    "postgres.txt": (lines([f"{{{row}}}" for row in ROWS]), ("braces",)),
    "objects.txt": (lines([json.dumps({"embedding": row}) for row in LISTS]), ("JSON", ".jsonl")),
    "header.txt": (table([f"e{index}" for index in range(32)], list(range(32))), ("header", ".csv")),
    "pandas.txt": (lines(["," + ",".join(map(str, range(32)))]), ("header", ".csv")),
    "semicolons.txt": (lines([row.replace(",", ";") for row in ROWS]), ("semicolons", ".csv")),
    "decimals.txt": (lines([row.replace(",", ";").replace(".", ",") for row in ROWS]), ("decimal comma",)),
    "blanks.txt": (lines(SAVETXT), ("blanks", ".tsv")),
    "tabs.txt": (lines([row.replace(",", "\t") for row in ROWS]), ("tabs", ".tsv")),
    "quotes.txt": (lines(['"' + row.replace(",", '","') + '"' for row in ROWS]), ("quoted", ".csv")),
    "comment.txt": (lines(["# rows", *ROWS]), ("comment",)),
    "trailing.txt": (lines([row + "," for row in ROWS]), ("trailing comma",)),
    # Tables.
    "bare.csv": (lines(ROWS), SAME),
    "crlf.csv": (lines(ROWS, "\r\n"), SAME),
    "mark.csv": (b"\xef\xbb\xbf" + table([f"e{index}" for index in range(32)], list(range(32))), SAME),
    "header.csv": (table([f"e{index}" for index in range(32)], list(range(32))), SAME),
    "from_one.csv": (table([f"V{index + 1}" for index in range(32)], list(range(32))), SAME),
    "pandas_default.csv": (table([str(index) for index in range(32)], list(range(32))), SAME),
    "pandas_index.csv": (
        lines(["," + ",".join(map(str, range(32))), *(f"{i},{row}" for i, row in enumerate(ROWS))]),
        SAME,
    ),
    "unnamed.csv": (
        lines(
            [
                "Unnamed: 0," + ",".join(f"d_{i}" for i in range(32)),
                *(f"{i},{row}" for i, row in enumerate(ROWS)),
            ]
        ),
        SAME,
    ),
    "id_and_text.csv": (
        lines(
            [
                "id," + ",".join(f"d{i}" for i in range(32)) + ",text",
                *(f'a{i},{row},"one, {i}\nand ""two"""' for i, row in enumerate(ROWS)),
            ]
        ),
        SAME,
    ),
    "index_without_header.csv": (lines([f"{i},{row}" for i, row in enumerate(ROWS)]), SAME),
    "text_without_header.csv": (lines([f"doc {i},{row}" for i, row in enumerate(ROWS)]), SAME),
    "r.csv": (
        lines([",".join(f'"V{i}"' for i in range(32)), *(f'"{i}",{row}' for i, row in enumerate(ROWS))]),
        SAME,
    ),
    "sorted.csv": (table([f"dim_{place}" for place in SORTED], SORTED), SAME),
    "shuffled.csv": (table([f"dim_{place:02d}" for place in SHUFFLED], SHUFFLED), SAME),
    "shuffled_comment.csv": (b"# " + table([f"dim_{place}" for place in SHUFFLED], SHUFFLED), SAME),
    "semicolons.csv": (table([f"e{index}" for index in range(32)], list(range(32)), ";"), SAME),
    "blanks.csv": (lines(SAVETXT), SAME),
    "all_quoted.csv": (lines(['"' + row.replace(",", '","') + '"' for row in ROWS]), SAME),
    "trailing.csv": (lines([row + "," for row in ROWS]), SAME),
    "trailing_header.csv": (
        table([f"e{index}" for index in range(32)], list(range(32))).replace(b"\n", b",\n"),
        SAME,
    ),
    "comment.csv": (lines(["# made by hand", "#", *ROWS]), SAME),
    "lists.csv": (lines(["id,embedding", *QUOTED_LISTS]), SAME),
    "lists_alone.csv": (lines(["vector", *(f'"[{row}]"' for row in ROWS)]), SAME),
    "lists_semicolon.csv": (lines(["id;emb", *(f"{i};[{row}]" for i, row in enumerate(ROWS))]), SAME),
    "numpy_cells.csv": (lines(["id,embedding", *NUMPY_CELLS]), SAME),
    "two_lists.csv": (
        lines(["full,short", *(f'"[0.5, 1]","[{row}]"' for row in ROWS)]),
        SAME,
    ),
    "blank_last.csv": (lines([*ROWS, "", " "]), SAME),
    "packed.csv.gz": (gzip.compress(table([f"dim_{place}" for place in SHUFFLED], SHUFFLED)), SAME),
    "packed.tsv.zst": (zstd(lines(SAVETXT)), SAME),
    "savetxt.tsv": (lines(["# a header", *SAVETXT]), SAME),
    "tabs.tsv": (table([f"e{place}" for place in SHUFFLED], SHUFFLED, "\t"), SAME),
    "commas.tsv": (lines(ROWS), SAME),
    "r.tsv": (
        lines(
            [
                " ".join(f'"V{i}"' for i in range(32)),
                *(f'"{i}" {row.replace(",", " ")}' for i, row in enumerate(ROWS)),
            ]
        ),
        SAME,
    ),
    "decimals.csv": (lines([row.replace(",", ";").replace(".", ",") for row in ROWS]), ("decimal comma",)),
    "decimals.tsv": (lines([row.replace(",", "\t").replace(".", ",") for row in ROWS]), ("decimal comma",)),
    "quoted_decimals.csv": (
        lines(['"' + row.replace(",", '";"').replace(".", ",") + '"' for row in ROWS]),
        ("decimal comma",),
    ),
    "words.csv": (
        table([f"n{chr(97 + i)}" for i in range(26)] + list("uvwxyz"), list(range(32))),
        ("dim_0",),
    ),
    "mixed_names.csv": (table(UNNUMBERED, list(range(32))), ("dim_0",)),
    "two_families.csv": (
        lines(
            [
                ",".join([f"a{i}" for i in range(32)] + [f"b{i}" for i in range(32)]),
                *(f"{r},{r}" for r in ROWS),
            ]
        ),
        ("a…", "b…"),
    ),
    "twice.csv": (table(["e0", *(f"e{index}" for index in range(31))], list(range(32))), ("32",)),
    "of_31.csv": (lines([row.rpartition(",")[0] for row in ROWS]), ("31",)),
    "of_33.csv": (lines([row + ",0.5" for row in ROWS]), ("33",)),
    "several_lists.csv": (lines(["a,b", *(f'"[{row}]","[{row}]"' for row in ROWS)]), ("'a'", "'b'")),
    "header_only.csv": (lines([",".join(f"e{index}" for index in range(32))]), ("holds no row",)),
    "open_quote.csv": (
        lines(["id," + ",".join(f"e{i}" for i in range(32)), f'"a,{ROWS[0]}', *ROWS]),
        ("quote",),
    ),
    "shortened.csv": (lines(["embedding", *(f'"[{row[:20]} ... 0.5]"' for row in ROWS)]), ("shortened",)),
    # JSON lines.
    "arrays.jsonl": (lines([json.dumps(row) for row in LISTS]), SAME),
    "arrays.ndjson": (lines([json.dumps(row) for row in LISTS], "\r\n"), SAME),
    "objects.jsonl": (lines([json.dumps({"id": 1, "embedding": row, "text": "[1]"}) for row in LISTS]), SAME),
    "vector.json": (lines([json.dumps({"payload": {"tags": [1]}, "vector": row}) for row in LISTS]), SAME),
    "values.jsonl": (
        lines([json.dumps({"values": row, "sparse": {"values": [0.5] * 32}}) for row in LISTS]),
        SAME,
    ),
    "two_keys.jsonl": (lines([json.dumps({"full": [0.5] * 64, "short": row}) for row in LISTS]), SAME),
    "responses.jsonl": (
        lines([json.dumps({"object": "list", "data": [{"index": 0, "embedding": row}]}) for row in LISTS]),
        SAME,
    ),
    "batch_api.jsonl": (
        lines([json.dumps({"response": {"body": {"data": [{"embedding": row}]}}}) for row in LISTS]),
        SAME,
    ),
    "packed.jsonl.gz": (gzip.compress(lines([json.dumps({"emb": row}) for row in LISTS])), SAME),
    "document.json": (json.dumps(LISTS).encode(), ("one JSON document", "jq")),
    "pretty.jsonl": (
        json.dumps([{"embedding": row} for row in LISTS], indent=1).encode(),
        ("one JSON document",),
    ),
    "ambiguous.jsonl": (lines([json.dumps({"a": row, "b": row}) for row in LISTS]), ("'a'", "'b'")),
    "base64.jsonl": (lines([json.dumps({"embedding": "AAAA"}) for _ in LISTS]), ("array of 32 numbers",)),
    "several.jsonl": (
        lines([json.dumps({"data": [{"embedding": row}, {"embedding": row}]}) for row in LISTS]),
        ("found 2",),
    ),
    "text.jsonl": (lines(ROWS), ("JSON",)),
}

ARRAYS: dict[str, Case] = {
    "fortran.npy": (npy(np.asfortranarray(Z)), SAME),
    "big_endian.npy": (npy(Z.astype(">f8")), SAME),
    "half.npy": (npy(Z.astype(np.float16)), SAME),
    "big_endian_half_fortran.npy": (npy(np.asfortranarray(Z.astype(">f2"))), SAME),
    "longdouble.npy": (npy(Z.astype(np.longdouble)), SAME),
    "version2.npy": (npy(Z, version=(2, 0)), SAME),
    "version3.npy": (npy(Z, version=(3, 0)), SAME),
    "objects.npy": (npy(np.full((5, 32), Unpickled()), allow_pickle=True), ("object", "numpy.stack")),
    "one_row.npy": (npy(Z[0]), ("reshape(1, 32)",)),
    "transposed.npy": (npy(np.ascontiguousarray(Z.T)), ("transpose", ".T")),
    "transposed_fortran.npy": (npy(Z.T), ("transpose", ".T")),
    "three_axes.npy": (npy(Z[:, None]), ("reshape(-1, 32)",)),
    "of_31.npy": (npy(Z[:, :31]), ("(40, 31)",)),
    "complex.npy": (npy(Z.astype(np.complex64)), ("complex64",)),
    "text.npy": (npy(Z.astype(str)), ("float32",)),
    "bfloat16.npy": (npy(np.zeros((5, 32), "V2")), ("bfloat16",)),
    "booleans.npy": (npy(Z > 0), ("bool",)),
    "records.npy": (npy(np.zeros((5, 32), [("a", "f4")])), ("float32",)),
    "no_rows.npy": (npy(Z[:0]), ("holds no row",)),
    "negative.npy": (header_of("(-3, 32)"), ("NumPy",)),
    "huge.npy": (header_of(f"({1 << 62}, 32)"), ("is cut off",)),
    "broken.npy": (header_of("((((("), ("NumPy",)),
    "version9.npy": (b"\x93NUMPY\x09\x00" + bytes(200), ("NumPy",)),
    "cut.npy": (npy(Z)[:-1], ("is cut off",)),
    "longer.npy": (npy(Z) + b"1", ("more than one",)),
    "packed.npy.gz": (gzip.compress(npy(Z)), ("gunzip",)),
    "one.npz": (npz(np.savez, Z), SAME),
    "packed.npz": (npz(np.savez_compressed, Z), SAME),
    "packed_fortran.npz": (npz(np.savez_compressed, np.asfortranarray(Z)), SAME),
    "named.npz": (npz(np.savez, ids=np.arange(40), z_short=Z, full=np.ones((40, 64), np.float32)), SAME),
    "usual.npz": (npz(np.savez_compressed, other=Z * 2, embeddings=Z), SAME),
    "several.npz": (npz(np.savez, train=Z, test=Z), ("'train'", "'test'")),
    "of_31.npz": (npz(np.savez, a=Z[:, :31], b=Z[0]), ("(40, 31)",)),
    "one_row.npz": (npz(np.savez, Z[0]), ("reshape(1, 32)",)),
    "objects.npz": (npz(np.savez, np.full((5, 32), Unpickled())), ("object",)),
    "cut.npz": (npz(np.savez, Z)[:-40], ("NumPy archive",)),
}

LIST = pa.list_(pa.float32())
TABLES: dict[str, Case] = {
    "lists.parquet": (parquet({"id": np.arange(40), "z": pa.array(LISTS, LIST)}), SAME),
    "half_lists.parquet": (
        parquet({"z": pa.array(list(Z.astype(np.float16)), pa.list_(pa.float16(), 32))}),
        SAME,
    ),
    "decimals.parquet": (
        parquet({f"z{i}": pa.array([Decimal(f"{v:.9f}") for v in Z[:, i]]) for i in range(32)}),
        SAME,
    ),
    "index_beside.parquet": (parquet(numbered("") | {"__index_level_0__": np.arange(40)}), SAME),
    "id_beside.parquet": (parquet({"id": np.arange(40), **numbered("x")}), SAME),
    "sorted.parquet": (parquet(numbered("", SORTED)), SAME),
    "shuffled.parquet": (parquet(numbered("dim_", SHUFFLED), row_group_size=7), SAME),
    "shuffled_from_one.parquet": (parquet(numbered("V", SHUFFLED, 1)), SAME),
    "dots.parquet": (parquet(numbered("z.", SHUFFLED)), SAME),
    "beside_others.parquet": (
        parquet(numbered("short_", SHUFFLED) | {f"full_{i}": np.zeros(40) for i in range(64)}),
        SAME,
    ),
    "two_lengths.parquet": (
        parquet({"full": pa.array([[0.0] * 64] * 40, LIST), "short": pa.array(LISTS, LIST)}),
        SAME,
    ),
    "usual.parquet": (
        parquet({"other": pa.array(LISTS[::-1], LIST), "embedding": pa.array(LISTS, LIST)}),
        SAME,
    ),
    "tags.parquet": (parquet(numbered("x") | {"tags": pa.array([[1]] * 40, LIST)}), SAME),
    "several_lists.parquet": (
        parquet({"a": pa.array(LISTS, LIST), "b": pa.array(LISTS, LIST)}),
        ("'a'", "'b'"),
    ),
    "lists_and_numbers.parquet": (parquet(numbered("x") | {"a": pa.array(LISTS, LIST)}), ("'a'",)),
    "json_text.parquet": (
        parquet({"embedding": [json.dumps(row) for row in LISTS]}),
        ("'embedding'", "text"),
    ),
    "bytes.parquet": (parquet({"embedding": [row.tobytes() for row in Z]}), ("'embedding'", "frombuffer")),
    "words.parquet": (parquet({f"z{'x' * i}": Z[:, i] for i in SHUFFLED}), ("dim_0",)),
    "mixed_names.parquet": (
        parquet({name: Z[:, i] for i, name in enumerate(UNNUMBERED)}),
        ("dim_0",),
    ),
    "same_numbers.parquet": (
        parquet({("z" + "0" * (i % 2) + str(i // 2)): Z[:, i] for i in range(32)}),
        ("dim_0",),
    ),
    "two_families.parquet": (parquet(numbered("a") | numbered("b", SHUFFLED)), ("a…", "b…")),
    "of_31.parquet": (parquet(numbered("z", range(31))), ("31",)),
    "of_33.parquet": (parquet(numbered("z") | {"z32": Z[:, 0]}), ("33",)),
    "fixed_31.parquet": (
        parquet({"a": pa.array([row[:31] for row in LISTS], pa.list_(pa.float32(), 31))}),
        ("31",),
    ),
    "words_in_lists.parquet": (parquet({"a": pa.array([["x"]])}), ("no column",)),
    "text.parquet": (parquet({"a": ["text"]}), ("no column",)),
    "no_rows.parquet": (parquet({"a": pa.array([], LIST)}), ("holds no row",)),
}

DISGUISES: dict[str, Case] = {
    "gzip.txt": (gzip.compress(lines(ROWS)), ("gzip", "gzip.txt.gz")),
    "gzip.csv": (gzip.compress(lines(ROWS)), ("gzip", "gzip.csv.gz")),
    "gzip.npy": (gzip.compress(npy(Z)), ("gzip",)),
    "zstd.txt": (zstd(lines(ROWS)), ("Zstandard", "zstd.txt.zst")),
    "zstd.txt.gz": (zstd(lines(ROWS)), ("Zstandard",)),
    "bzip2.txt": (bz2.compress(lines(ROWS)), ("bzip2",)),
    "xz.csv": (lzma.compress(lines(ROWS)), ("xz",)),
    "npy.txt": (npy(Z), ("NumPy", "npy.npy")),
    "npy.jsonl": (npy(Z), ("NumPy", "npy.npy")),
    "npy_inside.txt.gz": (gzip.compress(npy(Z)), ("NumPy",)),
    "npz.npy": (npz(np.savez, Z), (".npz",)),
    "npy.npz": (npy(Z), ("npy.npy",)),
    "parquet.txt": (parquet(numbered("z")), ("Parquet", "parquet.parquet")),
    "pickle.txt": (pickle.dumps(Z), ("pickle",)),
    "pickle.npy": (pickle.dumps(Z), ("pickle", "numpy.save")),
    "feather.parquet": (feather(), ("Arrow",)),
    "utf16.txt": ("\n".join(ROWS).encode("utf-16"), ("UTF-16", "iconv")),
    "utf16.csv": ("\n".join(ROWS).encode("utf-16-be"), ("UTF-16", "iconv")),
    "utf16_without_mark.txt": ("\n".join(ROWS).encode("utf-16-le"), ("UTF-16", "iconv")),
    "utf32.txt": ("\n".join(ROWS).encode("utf-32"), ("UTF-32", "iconv")),
    "page.txt": (b"<!DOCTYPE html>\n<html><body>Not found</body></html>", ("HTML",)),
    "page.npy": (b"\n<html><body>Not found</body></html>", ("HTML",)),
    "text.npy": (lines(ROWS), ("NumPy",)),
    "text.parquet": (lines(ROWS), ("Parquet",)),
    "text.npz": (lines(ROWS), ("NumPy",)),
    "text.txt.gz": (lines(ROWS), ("gzip",)),
}


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return file.getvalue()


ARCHIVES: dict[str, Case] = {
    "torch.txt": (zipped("archive/data.pkl", "archive/version"), ("PyTorch",)),
    "torch.npy": (zipped("embs/data.pkl"), ("PyTorch",)),
    "excel.csv": (zipped("[Content_Types].xml", "xl/workbook.xml"), ("Excel",)),
    "zip.txt": (zipped("rows.txt"), ("zip",)),
    "zip.npz": (zipped("rows.txt"), ("no array",)),
}
CASES = TEXTS | ARRAYS | TABLES | DISGUISES | ARCHIVES


def answer_to(path: Path, upsampler: RandomMapUpsampler) -> Any:
    spec = BatchSpec(path, path.with_name("out.npy"))
    check_request(spec)
    run_to_completion(BatchRun(spec, upsampler, chunk_rows=16))
    return np.load(spec.output_path)


@pytest.mark.parametrize("name", [name for name, (_, expected) in CASES.items() if expected == SAME])
def test_a_file_is_answered_as_the_same_rows_in_strict_text(
    tmp_path: Path, random_map: RandomMapUpsampler, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(CASES[name][0])
    tolerance = HALF_TOLERANCE if "half" in name else 1e-6
    np.testing.assert_allclose(answer_to(path, random_map), random_map.upsample(Z)[0], atol=tolerance)


@pytest.mark.parametrize("name", [name for name, (_, expected) in CASES.items() if expected != SAME])
def test_a_file_is_refused_with_what_it_is_and_the_fix(
    tmp_path: Path, random_map: RandomMapUpsampler, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content, words = CASES[name]
    (tmp_path / name).write_bytes(content)
    for attempt in (check_request, lambda spec: run_to_completion(BatchRun(spec, random_map))):
        with pytest.raises(InputError) as caught:
            attempt(BatchSpec(tmp_path / name, tmp_path / "out.txt"))
        assert isinstance(caught.value, InputFileError | BadRowError)
        assert [word for word in words if word not in str(caught.value)] == []
        assert str(tmp_path / name) in caught.value.message
        assert caught.value.remedy
    assert {found.name for found in tmp_path.iterdir()} == {name}


def test_integers_are_numbers(tmp_path: Path, random_map: RandomMapUpsampler) -> None:
    whole = np.random.default_rng(1).integers(-9, 9, (40, 32))
    expected = random_map.upsample(whole.astype(np.float32))[0]
    (tmp_path / "in.npy").write_bytes(npy(whole.astype(">i2")))
    (tmp_path / "in.parquet").write_bytes(parquet({f"z{i}": whole[:, i] for i in SHUFFLED}))
    for name in ("in.npy", "in.parquet"):
        np.testing.assert_allclose(answer_to(tmp_path / name, random_map), expected, atol=1e-6)
        (tmp_path / "out.npy").unlink()


@pytest.mark.parametrize("name", ["sorted.csv", "shuffled.parquet", "id_beside.parquet", "usual.npz"])
def test_reordered_and_ignored_columns_are_reported(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CASES[name][0])
    (tmp_path / "plain.csv").write_bytes(CASES["header.csv"][0])
    assert check_request(BatchSpec(tmp_path / name, tmp_path / "out.npy")).notices
    assert check_request(BatchSpec(tmp_path / "plain.csv", tmp_path / "out.npy")).notices == ()


@dataclass(frozen=True)
class Fault:
    """A row with a fault, as a format holds it."""

    name: str
    write: Callable[[Any], bytes]


FAULTS = [
    Fault(
        "in.csv",
        lambda rows: lines(
            ["id," + ",".join(f"e{i}" for i in range(32)), *(f"a,{','.join(map(str, r))}" for r in rows)]
        ),
    ),
    Fault("in.tsv", lambda rows: lines([" ".join(map(str, row)) for row in rows])),
    Fault("lists.csv", lambda rows: lines(["embedding", *(f'"{list(row)}"' for row in rows)])),
    Fault("in.jsonl", lambda rows: lines([json.dumps({"embedding": row}) for row in rows])),
    Fault("in.npz", lambda rows: npz(np.savez_compressed, np.array(rows))),
    Fault("fortran.npy", lambda rows: npy(np.asfortranarray(rows))),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_row_with_a_fault_is_refused_in_its_place(
    tmp_path: Path, random_map: RandomMapUpsampler, fault: Fault
) -> None:
    rows = [list(row) for row in LISTS]
    rows[20][4] = float("nan")
    rows[30] = [0.0] * 32
    (tmp_path / fault.name).write_bytes(fault.write(rows))
    spec = BatchSpec(tmp_path / fault.name, tmp_path / "out.npy", "nan")
    run_to_completion(BatchRun(spec, random_map, chunk_rows=16))
    report = [json.loads(line) for line in spec.errors_path.read_bytes().splitlines()]
    assert [(one["line"], one["reason"][:8]) for one in report] == [(21, "value 5:"), (31, "all valu")]
    expected = random_map.upsample(Z)[0]
    expected[[20, 30]] = np.nan
    np.testing.assert_allclose(np.load(spec.output_path), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"[1, 2", "expected JSON"),
        (b"null", "expected an object"),
        (b'{"other": 1}', "expected an object"),
        (b'{"embedding": null}', "expected an array"),
        (b'{"embedding": [1, 2]}', "expected 32 numbers, found 2"),
        (json.dumps({"embedding": [*LISTS[0][:31], None]}).encode(), "value 32: null"),
        (json.dumps({"embedding": [*LISTS[0][:31], True]}).encode(), "value 32: true"),
        (json.dumps({"embedding": [*LISTS[0][:31], "1"]}).encode(), 'value 32: "1"'),
        (b"", "blank line"),
        (b"[" * 50_000, "expected JSON"),
        (b'{"embedding": "' + b"a" * 70_000, "longer than"),
    ],
    ids=str,
)
def test_a_json_line_that_is_no_row_is_refused(
    tmp_path: Path, random_map: RandomMapUpsampler, line: bytes, reason: str
) -> None:
    good = lines([json.dumps({"embedding": row}) for row in LISTS])
    (tmp_path / "in.jsonl").write_bytes(good + line + b"\n" + good)
    spec = BatchSpec(tmp_path / "in.jsonl", tmp_path / "out.npy", "nan")
    run_to_completion(BatchRun(spec, random_map, chunk_rows=16))
    (found,) = [json.loads(one) for one in spec.errors_path.read_bytes().splitlines()]
    assert found["line"] == 41
    assert found["reason"].startswith(reason)
    assert found["raw"] == line.decode()[:1024]


def test_every_format_of_the_table_has_cases_of_both_kinds() -> None:
    for one in FORMATS:
        expected = [
            words == SAME
            for name, (_, words) in CASES.items()
            if name.endswith(tuple(filter(None, one.endings)))
        ]
        assert {True, False} <= set(expected), one.name
