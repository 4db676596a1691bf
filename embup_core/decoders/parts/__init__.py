"""Parts that several decoders share: trend, neighbours, complement, error model."""
