"""`embup models show|compare|prune`: what is known of single versions, and the removal of old ones."""

from __future__ import annotations

import json as json_text
from typing import TYPE_CHECKING, Any

from embup.cli.output import print_fields, print_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embup_core.artifacts.registry import ArtifactInfo
    from embup_core.evaluation import Scores
    from embup_core.geometry.basis import Basis
    from embup_core.training.comparison import VersionComparison


def described(
    info: ArtifactInfo,
    others: Sequence[ArtifactInfo] = (),
    read_basis: Callable[[str], Basis | None] = lambda _: None,
) -> dict[str, Any]:
    """Everything that is recorded of a version, as JSON values; what is missing is None.

    Parameters
    ----------
    info
        The version.
    others
        Published versions, among which those are named whose vectors are comparable with its own.
    read_basis
        Reads the basis of a version, for those whose basis is another: it may have grown.
    """
    from embup_core.artifacts.anchors import described_anchors
    from embup_core.artifacts.basis import basis_id
    from embup_core.artifacts.gate import gate_of
    from embup_core.artifacts.manifest import EVALUATION_FILE

    manifest = info.manifest
    data, decoder = manifest.get("data", {}), manifest["decoder"]
    try:
        evaluation = json_text.loads((info.folder / EVALUATION_FILE).read_bytes())
    except (OSError, ValueError):
        evaluation = {}
    return {
        "version": info.version,
        "in_service": info.is_current,
        "created_utc": manifest["created_utc"],
        "decoder": decoder.get("name"),
        "summary": decoder.get("summary"),
        "settings": decoder.get("settings"),
        "chosen_because": evaluation.get("chosen_because"),
        "source": data.get("source"),
        "fingerprint": data.get("fingerprint"),
        "rows": data.get("rows"),
        "left_out": data.get("left_out", []),
        "transform": manifest.get("transform"),
        "split": manifest.get("split"),
        "metrics": manifest.get("metrics", {}),
        "gate": gate_of(evaluation),
        "anchors": described_anchors(manifest),
        "basis": basis_id(manifest),
        "comparable_with": [
            other.version
            for other in others
            if other.version != info.version and _comparable(info, other, read_basis)
        ],
        "git_commit": manifest.get("git_commit"),
        "libraries": manifest.get("libraries"),
        "folder": str(info.folder),
    }


def _comparable(one: ArtifactInfo, other: ArtifactInfo, read_basis: Callable[[str], Basis | None]) -> bool:
    """Whether two versions have one basis, or the basis of one has grown from that of the other."""
    from embup_core.artifacts.basis import basis_id
    from embup_core.errors import ArtifactError

    ids = basis_id(one.manifest), basis_id(other.manifest)
    if None in ids or ids[0] == ids[1]:
        return ids[0] is not None and ids[0] == ids[1]
    try:
        bases = read_basis(one.version), read_basis(other.version)
    except ArtifactError:  # damaged: embup models verify says so
        return False
    if bases[0] is None or bases[1] is None:
        return False
    return bases[0].extends(bases[1]) or bases[1].extends(bases[0])


def print_described(shown: dict[str, Any]) -> None:
    """Print a version for people."""
    metrics, split = shown["metrics"], shown["split"] or {}
    pairs, intervals = metrics.get("test_test") or {}, metrics.get("intervals") or {}
    parts = ", ".join(f"{split[name]} {name}" for name in ("train", "validation", "test") if name in split)
    print_fields(
        [
            ("version", shown["version"]),
            ("in service", "yes" if shown["in_service"] else "no"),
            ("created", shown["created_utc"]),
            ("gate", _gate(shown["gate"])),
            ("decoder", f"{shown['decoder']}: {shown['summary']}"),
            ("chosen because", shown["chosen_because"]),
            ("R2", _with_interval(pairs.get("r2"), intervals.get("r2"), 3)),
            ("RMSE", _with_interval(pairs.get("rmse"), intervals.get("rmse"), 4)),
            ("bias", pairs.get("bias")),
            ("Spearman", pairs.get("spearman")),
            ("recall@10", _with_interval(metrics.get("recall_at_10"), intervals.get("recall_at_10"), 3)),
            ("anchors", anchors_text(shown["anchors"])),
            ("basis", shown["basis"]),
            ("comparable with", ", ".join(shown["comparable_with"]) or "no other version"),
            ("source", shown["source"]),
            ("fingerprint", shown["fingerprint"]),
            ("rows", shown["rows"]),
            ("left out", f"{len(shown['left_out']):,} rows" if shown["left_out"] else None),
            ("map to z", _transform(shown)),
            ("split", f"by {split['by']}: {parts}" if "by" in split else parts or None),
            ("git commit", shown["git_commit"]),
            ("folder", shown["folder"]),
            *((f"  {name}", value) for name, value in (shown["settings"] or {}).items()),
        ]
    )
    if shown["gate"] is not None:
        print()
        print_gate(shown["gate"])


def _gate(gate: dict[str, Any] | None) -> str:
    """The gate's verdict in a line."""
    if gate is None:
        return "was not compared on held-out rows"
    verdict = "passed" if gate["passed"] else "held"
    return f"{verdict}, compared with {gate['previous']} on {gate['rows']:,} held-out rows"


def print_gate(gate: dict[str, Any]) -> None:
    """Print old beside new, a line a check (`GateResult.to_json`)."""
    from embup_core.training.promotion.result import GateResult

    print_table(*GateResult.from_json(gate).table())


def _transform(shown: dict[str, Any]) -> str | None:
    from embup_core.artifacts.recovered_map import RecoveredMap

    try:
        found = RecoveredMap.from_manifest(shown)
    except ValueError:  # nothing but this line rests on it; `embup models verify` names it
        return None
    return None if found is None else found.describe()


def anchors_text(anchors: dict[str, Any] | None) -> str:
    """How many anchors there are, and how well they hold, in one line."""
    if anchors is None:
        return "none"
    recall = anchors["recall_at_10"]
    found = "" if recall is None else f", recall@10 {recall:.3f} of {anchors['documents']} rows"
    return f"{anchors['anchors']}, held-out R2 {anchors['r2']:.3f}{found}"


def print_comparison(found: VersionComparison) -> None:
    """Print versions side by side, and the difference of the first two in R2."""
    columns = ("version", "decoder", "R2 [95 %]", "RMSE", "bias", "Spearman", "trained on")
    print_table(
        columns,
        [
            (
                one.version,
                one.decoder,
                *_figures(one.scores),
                f"{one.source} (these rows)" if one.trained_on_these else one.source,
            )
            for one in found.versions
        ],
    )


def _figures(scores: Scores | None) -> tuple[str | None, ...]:
    if scores is None:
        return (None, None, None, None)
    pairs = scores.test_test
    return (
        _with_interval(pairs.r2, scores.intervals.r2 if scores.intervals else None, 3),
        f"{pairs.rmse:.4f}",
        f"{pairs.bias:+.4f}",
        None if pairs.spearman is None else f"{pairs.spearman:.3f}",
    )


def _with_interval(value: float | None, interval: tuple[float, float] | None, digits: int) -> str | None:
    if value is None:
        return None
    shown = f"{value:.{digits}f}"
    return f"{shown} [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]" if interval else shown
