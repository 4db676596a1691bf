"""The model card: an artifact described for people, in Markdown (Mitchell et al., 2019)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from embup_core.artifacts.anchors import described_anchors
from embup_core.artifacts.basis import MANIFEST_FIELD as BASIS_FIELD
from embup_core.artifacts.basis import basis_id
from embup_core.artifacts.gate import gate_of
from embup_core.artifacts.recovered_map import RecoveredMap
from embup_core.sources.row_ranges import describe_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CARD = """\
# Decoder {version}

**{name}**: {summary}. Turns {input_dims}-d projected embeddings into {output_dims}-d unit vectors whose
cosines match those of the originals.

{headline}

## Data

| | |
|---|---|
| source | {source} |
| sample rows | {rows} |
| left out | {left_out} |{sampled}
| fingerprint (SHA-256 of both files) | `{fingerprint}` |
| written | {created_utc} |
| basis | {basis} |

## How it was measured

{protocol}{true_cosines}

{rule}{chosen_because}

{table}

The champion is in bold. Baselines: `constant_mean` answers every pair with the mean cosine,
`projected_cosines` with the cosine of the projected embeddings. Pairs of a row with itself are never counted.
R2 = 1 - mean square error / variance of the true cosines, with its 95 % bootstrap interval over rows. Decode
ms is for one row, in blocks of 256 on one core.
{calibration}{groups}{probe}{anchors}{gate}
{plots}

## The map from originals to projected embeddings

{transform}

## When to use it

Where cosines between vectors matter, and not their single coordinates: for search, clustering, ranking and
classifiers that only {output_dims} numbers fit. Answers are unit vectors in a basis of their own{or_original}

## When not to use it

- For vectors that another map made, or originals of another embedding model: the decoder knows one map only.
- Where single answers must be exact. The map lost information; `confidence` (0 to 1) says how much of a
  vector is known rather than filled in.
- On texts unlike the training rows, expect less than the table shows: test rows have relatives among the
  training rows. `confidence` falls there.
- A good decoder makes inversion of private vectors easier. {training_rows}
- Projected embeddings are no anonymised originals: the training data determines the map that made them.

## Settings

```json
{settings}
```
"""

_TRANSFORM_KEPT = """\
`transform.safetensors` holds it: z = (c A + b) / |c A + b|, where A is `matrix`, b is `offset`,
and c is an original in the principal axes of the version's basis, the largest first. Decoders that
regress on coordinates answer in these axes, in their leading dimensions. A and b have one arbitrary scale."""

HOLDS_ROWS = "This artifact holds\n  {stores}: protect it like them."
HOLDS_LANDMARKS = (
    "`basis.safetensors`\n  holds the projected embeddings of {landmarks:,} training rows and a rotated "
    "copy of their originals:\n  protect it like them."
)
HOLDS_NONE = "This artifact holds no training rows, only\n  what was learned from all of them."

CAPTIONS: Mapping[str, str] = {
    "comparison": "R2 of cosines between test rows by decoder, with 95 % intervals.",
    "cosines_": "True against decoded cosine of random pairs of test rows; on the red line they are equal.",
    "bias_by_cosine": "Mean error by true cosine. Above 0 decoded cosines are too high; where the line "
    "falls, low cosines come out too high and high ones too low.",
    "error_by_cosine": "Root mean square error by true cosine.",
    "error_by_group": "Root mean square error of cosines with fitted rows by group of test rows, the worst "
    "of each kind; the line is that of all test rows.",
    "recall": "Share of the k true nearest training rows among the k nearest decoded ones.",
    "error_and_latency": "Error against the time to decode a row: towards the lower left is better.",
    "calibration_of_cosines": "Predicted against observed error of cosines, by decile of the predicted one.",
    "calibration_of_confidence": "Error of a row's cosines with fitted rows, by its confidence.",
    "learning_curve": "R2 between validation rows by the number of rows fitted on.",
    "residual_angles": "Angles between rows of z and their prediction by the recovered map.",
    "training_": "What the fits recorded at each step.",
}
"""What a plot shows, by the beginning of its file name, in the order of the card."""

GROUPS_SHOWN = 5
"""Of each kind."""


def plot_caption(name: str) -> str:
    """What a plot shows; empty for a file name that is not known."""
    return next((caption for start, caption in CAPTIONS.items() if name.startswith(start)), "")


def render_model_card(
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    plots: Sequence[str],
    *,
    stores: str,
) -> str:
    """The card's text.

    Parameters
    ----------
    manifest
        As in ``manifest.json``.
    evaluation
        As in ``evaluation.json``; its "protocol", "rule" and "table" (Markdown) are shown where present, and
        those of its "gate".
    plots
        File names below ``plots/``.
    stores
        What the artifact holds of single training rows (`Decoder.stores`).
    """
    return _CARD.format(
        **{key: manifest[key] for key in ("version", "input_dims", "output_dims", "created_utc")},
        **{key: manifest["decoder"][key] for key in ("name", "summary")},
        **{key: manifest["data"][key] for key in ("rows", "fingerprint")},
        source=str(manifest["data"]["source"]).replace("|", "\\|"),
        settings=json.dumps(manifest["decoder"]["settings"], indent=2),
        protocol=evaluation.get("protocol", ""),
        true_cosines=_after_blank(manifest["data"].get("true_cosines")),
        rule=evaluation.get("rule", ""),
        headline=_headline(manifest),
        chosen_because=_chosen_because(evaluation),
        calibration=_calibration(evaluation),
        groups=_groups(evaluation),
        probe=_probe(evaluation),
        anchors=_anchors(manifest),
        or_original=", or in the originals' (`basis` `original`)." if described_anchors(manifest) else ".",
        gate=_gate(evaluation),
        training_rows=_training_rows(manifest, stores),
        basis=_basis(manifest),
        table=evaluation.get("table", ""),
        left_out=_left_out(manifest["data"].get("left_out")),
        sampled=_sampled(manifest.get("split", {})),
        transform=_transform(manifest),
        plots="\n\n".join(_figure(name) for name in sorted(plots, key=_place)),
    )


def _training_rows(manifest: Mapping[str, Any], stores: str) -> str:
    """What the artifact holds of single training rows."""
    if stores:
        return HOLDS_ROWS.format(stores=stores)
    if basis_id(manifest) is not None:
        return HOLDS_LANDMARKS.format(landmarks=manifest[BASIS_FIELD]["landmarks"])
    return HOLDS_NONE


def _basis(manifest: Mapping[str, Any]) -> str:
    """Which versions its vectors are comparable with."""
    found = basis_id(manifest)
    if found is None:
        return "none: vectors of other versions are not comparable"
    return f"`{found}`: vectors of versions with the same one are comparable"


def _headline(manifest: Mapping[str, Any]) -> str:
    """The result in one line, where it was measured."""
    metrics = manifest.get("metrics", {})
    r2, intervals = metrics.get("test_test", {}).get("r2"), metrics.get("intervals")
    if r2 is None:
        return ""
    interval = f" [{intervals['r2'][0]:.3f}, {intervals['r2'][1]:.3f}]" if intervals else ""
    recall = metrics.get("recall_at_10")
    found = "" if recall is None else f", recall@10 {recall:.2f}"
    return f"**R2 {r2:.3f}{interval} of cosines between test rows**{found}."


def _left_out(rows: Sequence[int] | None) -> str:
    """Rows that the training left out."""
    if not rows:
        return "none"
    shown = describe_rows(np.asarray(rows))
    return f"{shown}, because z does not belong to the matrix there, or as asked for"


def _after_blank(text: str | None) -> str:
    """A paragraph of its own; or nothing."""
    return f"\n\n{text}" if text else ""


def _sampled(split: Mapping[str, Any]) -> str:
    """A line about rows that did not take part because there are more than a training takes; or nothing."""
    count = split.get("not_sampled")
    if not count:
        return ""
    taken = sum(split[part] for part in ("train", "validation", "test"))
    return f"\n| random sample of rows | {taken:,} took part, {count:,} did not (seed {split['seed']}) |"


def _transform(manifest: Mapping[str, Any]) -> str:
    """The recovered map and its uncertainty."""
    found = RecoveredMap.from_manifest(manifest)
    if found is None:
        return "It was not recorded."
    if not found.affine:
        return f"{found.describe()} Wrong rows could not be told from right ones."
    return f"{found.describe()}\n\n{_TRANSFORM_KEPT}"


def _chosen_because(evaluation: Mapping[str, Any]) -> str:
    why = evaluation.get("chosen_because")
    return f"\n\n`{evaluation['champion']}` was chosen because: {why}." if why else ""


def _figure(name: str) -> str:
    caption = plot_caption(name)
    return f"![{name}](plots/{name})" + (f"\n\n*{caption}*" if caption else "")


def _place(name: str) -> tuple[int, str]:
    starts = list(CAPTIONS)
    return next((i for i, start in enumerate(starts) if name.startswith(start)), len(starts)), name


def _calibration(evaluation: Mapping[str, Any]) -> str:
    """Predicted and observed errors of the champion's cosines, where it predicts them."""
    deciles = evaluation.get("test", {}).get(evaluation.get("champion"), {}).get("calibration")
    if not deciles:
        return ""
    lines = [
        f"| {one['predicted_rmse']:.4f} | {one['observed_rmse']:.4f} | {one['ratio'] or float('nan'):.2f} |"
        for one in deciles
    ]
    return (
        "\nPredicted and observed errors of cosines, in ten groups of pairs, the smallest predicted first:"
        "\n\n"
        "| predicted RMSE | observed RMSE | ratio |\n|---:|---:|---:|\n" + "\n".join(lines) + "\n"
    )


def _groups(evaluation: Mapping[str, Any]) -> str:
    """Which groups of test rows the champion decodes worst."""
    found = evaluation.get("groups")
    if not found or len(found) == 1:
        return ""
    lines = []
    for kind in dict.fromkeys(one["kind"] for one in found):
        for one in [one for one in found if one["kind"] == kind][:GROUPS_SHOWN]:
            name = str(one["name"]).replace("|", "\\|").replace("\n", " ")
            recall = "-" if one["recall_at_10"] is None else f"{one['recall_at_10']:.2f}"
            cells = (kind, name, f"{one['rows']:,}", f"{one['rmse']:.4f}", f"{one['bias']:+.4f}", recall)
            lines.append(f"| {' | '.join(cells)} |")
    return (
        "\nTest rows by group, by their cosines with fitted rows: the "
        f"{GROUPS_SHOWN} groups of each kind with the largest errors, of those with enough rows. A cluster "
        "is named after the row nearest to its centre:\n\n"
        "| kind | group | rows | RMSE | bias | recall@10 |\n|---|---|---:|---:|---:|---:|\n"
        + "\n".join(lines)
        + "\n"
    )


def _probe(evaluation: Mapping[str, Any]) -> str:
    """Accuracy of a classifier on decoded rows, where there are labels."""
    probe = evaluation.get("probe")
    if not probe:
        return ""
    lines = [f"| {name} | {share:.3f} |" for name, share in probe["accuracy"].items()]
    return (
        "\nA linear classifier fitted on validation rows, on the labels of test rows (decoded by each "
        f"candidate; the most frequent label alone reaches {probe['majority_share']:.3f}):\n\n"
        "| rows | accuracy |\n|---|---:|\n" + "\n".join(lines) + "\n"
    )


def _gate(evaluation: Mapping[str, Any]) -> str:
    """The comparison with the version that was in service, where there was one on held-out rows."""
    gate = gate_of(evaluation)
    if gate is None:
        return ""
    verdict = "It passed the promotion gate." if gate["passed"] else "**The promotion gate held it.**"
    return (
        f"\n## Beside {gate['previous'] or 'the version in service before'}\n\n{verdict} Both decoded the "
        f"same {gate['rows']:,} held-out rows, on which neither was trained. Differences are new - old with "
        f"their 95 % paired bootstrap interval over rows.\n\n{gate['table']}\n"
    )


def _anchors(manifest: Mapping[str, Any]) -> str:
    """Whether rows can be had in the originals' basis, and how well they agree with fresh originals."""
    found = described_anchors(manifest)
    if found is None:
        return (
            "\nThis version has no anchors: its rows compare with each other, and not with original vectors. "
            "`embup anchors` adds some.\n"
        )
    recall = "" if found["recall_at_10"] is None else f", recall@10 {found['recall_at_10']:.2f}"
    return (
        f"\n{found['anchors']} anchors fix the rotation into the originals' basis. Cosines between fresh "
        f"originals, held out in turn, and decoded rows in that basis ({found['documents']} or more for "
        f"each): **R2 {found['r2']:.3f}**{recall}.\n"
    )
