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

{table}

Baselines: `constant_mean` answers every pair with the mean cosine, `projected_cosines` with the cosine of the
short vectors. Pairs of a row with itself are never counted. R2 = 1 - mean square error / variance of the true
cosines.

{plots}

## When not to use it

- For vectors that another map made, or originals of another embedding model: the decoder knows one map only.
- Where single answers must be exact. The map lost information; `confidence` (0 to 1) says how much of a
  vector is known rather than filled in.
- A good decoder makes inversion of private vectors easier. An artifact of the kriging decoder holds a rotated
  copy of the training vectors: protect it like them.

## Settings

```json
{settings}
```
"""


def render_model_card(
    manifest: Mapping[str, Any], evaluation: Mapping[str, Any], plots: Sequence[str]
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
    """
    return _CARD.format(
        **{key: manifest[key] for key in ("version", "input_dims", "output_dims", "created_utc")},
        **{key: manifest["decoder"][key] for key in ("name", "summary")},
        **{key: manifest["data"][key] for key in ("source", "rows", "fingerprint")},
        settings=json.dumps(manifest["decoder"]["settings"], indent=2),
        protocol=evaluation.get("protocol", ""),
        table=evaluation.get("table", ""),
        plots="\n".join(f"![{name}](plots/{name})" for name in plots),
    )
