"""Decoders: estimators that turn projected embeddings into unit rows. One file each, one line here."""

from __future__ import annotations

from embup_core.decoders.base import Decoder
from embup_core.decoders.kriging import KrigingDecoder
from embup_core.decoders.linear import LinearDecoder
from embup_core.decoders.linear_residual import LinearResidualDecoder
from embup_core.decoders.mlp import MlpDecoder

__all__ = ["DECODERS", "Decoder"]

DECODERS: dict[str, type[Decoder]] = {
    decoder.name: decoder for decoder in (LinearDecoder, LinearResidualDecoder, KrigingDecoder, MlpDecoder)
}
