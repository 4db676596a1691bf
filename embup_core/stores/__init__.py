"""Decoded rows into the stores where vectors are searched: one protocol, one thin module a store."""
