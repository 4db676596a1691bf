"""The `embup` command: which commands there are. Each stands in a module of its own.

Nothing heavy is imported here or at the top of a command's module, so that `embup --help` answers at once.
"""

import os
from typing import Annotated

import typer

from embup.cli import (
    anchors,
    batches,
    check,
    clean,
    debug,
    demo,
    drops,
    evaluate,
    export,
    keys,
    models,
    monthly,
    notify,
    project,
    serve,
    sql,
    train,
    upsample,
)
from embup.cli.failures import PlainErrors

app = typer.Typer(
    name="embup",
    cls=PlainErrors,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(*, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"embup {version('embup')}")
        raise typer.Exit


@app.callback()
def embup(
    *,
    version: Annotated[  # noqa: ARG001  its callback has done the work
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Turn projected embeddings back into unit vectors of the originals' dimensions.

    Train a decoder from projected embeddings and the cosines of their originals, serve it, and run whole
    files through it.
    """
    # Read when the first library with OpenMP is loaded: threads that wait for each other sleep instead of
    # spinning. Beside other work on the machine a fit took 7 s instead of 30.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


app.command("check")(check.check)
app.command("train")(train.train)
app.add_typer(models.app, name="models")
app.add_typer(drops.app, name="drops")
app.command("monthly")(monthly.monthly)
app.command("evaluate")(evaluate.evaluate)
app.command("anchors")(anchors.anchors)
app.command("upsample")(upsample.upsample)
app.command("export")(export.export)
app.command("project")(project.project)
app.command("serve")(serve.serve)
app.command("submit")(batches.submit)
app.command("status")(batches.status)
app.command("watch")(batches.watch)
app.command("cancel")(batches.cancel)
app.command("list")(batches.list_batches)
app.command("sql")(sql.sql)
app.add_typer(debug.app, name="debug")
app.add_typer(keys.app, name="keys")
app.add_typer(notify.app, name="notify")
app.command("clean")(clean.clean)
app.command("demo")(demo.demo)

if __name__ == "__main__":
    app(prog_name="embup")
