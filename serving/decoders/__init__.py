"""The decoder in service."""
