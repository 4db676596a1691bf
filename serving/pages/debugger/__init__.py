"""Pages of the data debugger."""
