"""Plots as Dagster's UI shows them: small, and inside the metadata, so that they need no file server."""

import base64
from collections.abc import Mapping

import dagster as dg

from embup_core.artifacts.model_card import plot_caption

THUMBNAIL_DPI = 80


def captioned(images: Mapping[str, bytes]) -> dg.MarkdownMetadataValue:
    """PNG images, by file name, with what each shows, as one piece of metadata."""
    return dg.MetadataValue.md(
        "\n\n".join(
            f"**{name.removesuffix('.png').replace('_', ' ')}** {plot_caption(name)}\n\n"
            f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
            for name, png in images.items()
        )
    )
