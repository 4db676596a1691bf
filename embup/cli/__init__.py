"""The `embup` command: a thin shell over training, serving and the batch engine."""
