"""`python -m embup_cli` is `embup`: how one embup process starts another with its own interpreter."""

from embup_cli.main import app

app(prog_name="embup")
