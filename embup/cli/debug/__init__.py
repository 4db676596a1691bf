"""`embup debug`: import annotated data, ask for predictions, find what is wrong, decide, export.

Each command stands in a module of its kind and ends with what to do next.
"""

import typer

from embup.cli.debug import data, looking, predictions

app = typer.Typer(help="Find and fix wrong labels and rows.", no_args_is_help=True)

app.command("import")(data.import_file)
app.command("list")(data.list_all)
app.command("predict")(predictions.predict)
app.command("run")(looking.run)
app.command("findings")(looking.findings)
app.command("show")(looking.show)
app.command("review")(looking.review)
app.command("suggest")(looking.suggest)
app.command("compare")(looking.compare)
app.command("export")(data.export)
