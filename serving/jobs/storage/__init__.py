"""The job database and its single writer thread."""
