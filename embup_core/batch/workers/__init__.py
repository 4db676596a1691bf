"""Decoding of input blocks, in this process and in worker processes."""
