"""`python -m embup.cli` is `embup`: one embup process starts another with its own interpreter."""

from embup.cli.main import app

app(prog_name="embup")
