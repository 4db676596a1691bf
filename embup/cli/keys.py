"""`embup keys`: API keys for a service that other machines can reach."""

from typing import Annotated

import typer

from embup_core.extras import extra_required

app = typer.Typer(no_args_is_help=True, help="Make API keys.")


@app.callback()
def keys() -> None:
    """Make API keys for a service that not everybody may use."""


@app.command("new")
@extra_required("serve")
def new(
    *,
    name: Annotated[str, typer.Argument(help="Whose key it is, such as `ci`; the service's log has it.")],
    scopes: Annotated[
        str,
        typer.Option(
            "--scopes",
            help="What it allows, separated by commas: realtime (single vectors), batch (submit, cancel), "
            "read (every GET, metrics), admin (all of it, and models).",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print key and line as one JSON object.")] = False,
) -> None:
    """Make one key: it is shown on stderr, once, and the line to store is printed on stdout.

    `embup keys new ci --scopes realtime,read >> keys` adds it to a file for EMBUP_API_KEYS_FILE. Only a hash
    of the key is in the line.
    """
    from embup.cli.output import print_json
    from serving.access.keys import new_key

    key, stored = new_key(name, scopes.split(","))
    if json:
        print_json({"key": key, "line": stored.line()})
        return
    typer.echo(f"The key, which is shown this once: {key}", err=True)
    print(stored.line())
