"""Read-only SQL on the published history, in a confined process."""
