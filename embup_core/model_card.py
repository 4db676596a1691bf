"""The model card: an artifact told to people, in Markdown (Mitchell et al., 2019)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_CARD = """\
# Decoder {version}

**{name}**: {summary}. Turns {input_dims}-d projected embeddings into {output_dims}-d unit vectors whose
cosines match those of the originals.

## Data

| | |
|---|---|
| source | {source} |
| sample rows | {rows} |
| fingerprint (SHA-256 of both files) | `{fingerprint}` |
| written | {created_utc} |

## How it was measured

{protocol}

{rule}

{table}

Baselines: `constant_mean` answers every pair with the mean cosine, `projected_cosines` with the cosine of the
short vectors. Pairs of a row with itself are never counted. R2 = 1 - mean square error / variance of the true
cosines, with its 95 % bootstrap interval over rows. decode ms is for a row, in blocks of 256 on one core.
{calibration}{probe}
{plots}

## When to use it

Where cosines between vectors matter, and not their single coordinates: for search, clustering, ranking and
classifiers that only 1536 numbers fit. Answers are unit vectors in a basis of their own.

## When not to use it

- For vectors that another map made, or originals of another embedding model: the decoder knows one map only.
- Where single answers must be exact. The map lost information; `confidence` (0 to 1) says how much of a
  vector is known rather than filled in.
- On texts unlike the training rows expect less than the table says: test rows have relatives among them.
  `confidence` falls there.
- A good decoder makes inversion of private vectors easier. {training_rows}

## Settings

```json
{settings}
```
"""

HOLDS_ROWS = "This artifact holds\n  {keeps}: protect it like them."
HOLDS_NONE = "This artifact holds no training rows, only\n  what was learned from all of them."


def render_model_card(
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    plots: Sequence[str],
    *,
    keeps: str,
) -> str:
    """The card's text.

    Parameters
    ----------
    manifest
        As in ``manifest.json``.
    evaluation
        As in ``evaluation.json``; its "protocol" and "table" (Markdown) are shown where present.
    plots
        File names below ``plots/``.
    keeps
        What the artifact holds of single training rows (`Decoder.keeps`).
    """
    return _CARD.format(
        **{key: manifest[key] for key in ("version", "input_dims", "output_dims", "created_utc")},
        **{key: manifest["decoder"][key] for key in ("name", "summary")},
        **{key: manifest["data"][key] for key in ("rows", "fingerprint")},
        source=str(manifest["data"]["source"]).replace("|", "\\|"),
        settings=json.dumps(manifest["decoder"]["settings"], indent=2),
        protocol=evaluation.get("protocol", ""),
        rule=evaluation.get("rule", ""),
        calibration=_calibration(evaluation),
        probe=_probe(evaluation),
        training_rows=HOLDS_ROWS.format(keeps=keeps) if keeps else HOLDS_NONE,
        table=evaluation.get("table", ""),
        plots="\n".join(f"![{name}](plots/{name})" for name in plots),
    )


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
        "\nErrors of cosines, foretold and found, in ten groups of pairs, the surest first:\n\n"
        "| predicted RMSE | observed RMSE | ratio |\n|---:|---:|---:|\n" + "\n".join(lines) + "\n"
    )


def _probe(evaluation: Mapping[str, Any]) -> str:
    """How well a classifier on decoded rows tells labels, where there are labels."""
    probe = evaluation.get("probe")
    if not probe:
        return ""
    lines = [f"| {name} | {share:.3f} |" for name, share in probe["accuracy"].items()]
    return (
        "\nA linear classifier that learned on validation rows, asked for the labels of test rows (decoded "
        f"by each candidate; the most frequent label alone: {probe['majority_share']:.3f}):\n\n"
        "| rows | accuracy |\n|---|---:|\n" + "\n".join(lines) + "\n"
    )
