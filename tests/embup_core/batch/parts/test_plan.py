"""What is a part, in which order, and what its output is called."""

from __future__ import annotations

import pytest

from embup_core.batch.parts.plan import (
    Manifest,
    PartRecord,
    Plan,
    find_parts,
    from_json,
    output_name,
    require_apart,
    to_json,
)
from embup_core.errors import InputError, InputFileError, OutputError

PLAN = Plan(
    run_id="2" * 32,
    embup_version="1.0",
    input="/in",
    parts=("a.npy", "b.txt.gz"),
    output_format="parquet",
    model_version="20260101-000000-00000000",
    content_hash="0" * 64,
    basis="decoded",
    basis_id=None,
    output_dims=1536,
    on_bad_row="nan",
    max_bad_rows=0.01,
)


def record(part: str, rows: int) -> PartRecord:
    return PartRecord(
        part=part,
        output=output_name(part, "parquet"),
        rows=rows,
        failed_rows=1,
        size_bytes=10 * rows,
        sha256="1" * 64,
        input_stamp="5:6",
    )


@pytest.mark.parametrize(
    ("part", "output"),
    [
        ("part-0.parquet", "part-0.npy"),
        ("a.b.txt", "a.b.npy"),
        ("a.txt.gz", "a.npy"),
        ("a.JSONL.ZST", "a.npy"),
        ("A.NPY", "A.npy"),
    ],
)
def test_an_output_is_named_as_its_part(part: str, output: str) -> None:
    assert output_name(part, "npy") == output


def test_parts_are_ordered_by_name_and_hidden_names_are_none() -> None:
    assert find_parts(["b.npy", "_SUCCESS", ".crc", "a.csv", "_old/"], "here") == ("a.csv", "b.npy")


@pytest.mark.parametrize("names", [[], ["_SUCCESS"], ["a.npy", "README.md"], ["a.npy", "more/"], ["a.gz"]])
def test_what_is_no_part_is_refused(names: list[str]) -> None:
    with pytest.raises(InputFileError):
        find_parts(names, "here")


def test_two_parts_with_one_output_are_refused() -> None:
    with pytest.raises(InputError) as refused:
        require_apart(["a.npy", "a.txt"], "parquet")
    assert "a.npy" in str(refused.value)
    assert "a.txt" in str(refused.value)


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parts": ("a.npy", "c.npy")}, "c.npy"),
        ({"model_version": "20260202-000000-00000000"}, "20260202"),
        ({"output_format": "npy"}, "npy"),
        ({"max_bad_rows": 2}, "max_bad_rows"),
        ({"content_hash": "1" * 64}, "content_hash"),
    ],
)
def test_another_request_is_refused(changed: dict[str, object], said: str, done: bool) -> None:
    import msgspec

    with pytest.raises(OutputError) as refused:
        msgspec.structs.replace(PLAN, **changed).require_same(PLAN, place="out", done=done)
    assert said in str(refused.value)
    PLAN.require_same(PLAN, place="out", done=done)


def test_a_manifest_has_its_parts_in_order_and_reads_back() -> None:
    records = {"b.txt.gz": record("b.txt.gz", 7), "a.npy": record("a.npy", 5)}
    manifest = Manifest.of(PLAN, records, "2026-01-01T00:00:00+00:00")
    assert [one.part for one in manifest.parts] == ["a.npy", "b.txt.gz"]
    assert (manifest.rows, manifest.failed_rows, manifest.size_bytes) == (12, 2, 120)
    assert from_json(to_json(manifest), Manifest, "here") == manifest


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff"])
def test_json_of_another_program_is_named(content: bytes) -> None:
    with pytest.raises(OutputError) as refused:
        from_json(content, Manifest, "out/_MANIFEST.json")
    assert "out/_MANIFEST.json" in str(refused.value)
