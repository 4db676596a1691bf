"""Options that several commands share, worded once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from embup_core.dims import DEFAULT_OUTPUT_DIMS

REGISTRY = "data/registry"
DATA = Path("data")
URL = "http://127.0.0.1:8000"

Registry = Annotated[
    str,
    typer.Option(
        "--registry",
        envvar="EMBUP_REGISTRY",
        help="Folder of published decoders, or an address such as s3://bucket/prefix.",
    ),
]
Data = Annotated[
    Path,
    typer.Option("--data", envvar="EMBUP_DATA", help="Folder for downloads, runs, jobs, history."),
]
Url = Annotated[str, typer.Option("--url", envvar="EMBUP_SERVICE_URL", help="Address of a running service.")]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="EMBUP_API_KEY",
        show_default=False,
        metavar="KEY",
        help="Key that the service asks for. Others see a command line: better set the variable.",
    ),
]
OUTPUT_DIMS = DEFAULT_OUTPUT_DIMS
OutputDims = Annotated[
    int,
    typer.Option(
        "--output-dims",
        envvar="EMBUP_OUTPUT_DIMS",
        min=2,
        help="Dimensions of the originals, which the files do not state.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
BatchId = Annotated[str, typer.Argument(metavar="ID", help="What `embup submit` printed.")]
OnBadRow = Annotated[
    Literal["fail", "nan"],
    typer.Option("--on-bad-row", help="Stop at a bad row, or write a row of nan for it and go on."),
]
MaxBadRows = Annotated[
    float | None,
    typer.Option(
        "--max-bad-rows",
        metavar="N",
        help="With nan: fail when more rows are bad. 100 is a count, 0.01 a share of all rows.",
    ),
]
BasisName = Literal["decoded", "original"]
Basis = Annotated[
    BasisName,
    typer.Option(
        "--basis",
        help="Axes of the rows: the decoder's, or the originals', for which the version needs anchors.",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT where it exists.")]
