"""A year of monthly drops, as one command."""
