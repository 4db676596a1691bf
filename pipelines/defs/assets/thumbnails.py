"""Plots as Dagster's UI shows them: small, and inside the metadata, so that they need no file server."""

import base64
from collections.abc import Mapping

import dagster as dg

THUMBNAIL_DPI = 55


def thumbnails(images: Mapping[str, bytes]) -> dg.MarkdownMetadataValue:
    """PNG images, by name, as one piece of metadata."""
    return dg.MetadataValue.md(
        "\n".join(
            f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
            for name, png in images.items()
        )
    )
