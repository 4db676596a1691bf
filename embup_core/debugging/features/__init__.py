"""Vectors of rows: of their texts, and which rows are near by them."""
