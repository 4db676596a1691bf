"""`embup models`: what a registry holds, which version is in service, and putting another one there."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embup_cli import options
from embup_cli.failures import FAILED
from embup_cli.output import print_fields, print_json, print_table, say

if TYPE_CHECKING:
    from embup_core.registry import ArtifactInfo, Registry

app = typer.Typer(help="List the published decoders, or put another one into service.")

Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `embup models` lists it.")]
SomeVersion = Annotated[
    str | None, typer.Argument(metavar="VERSION", help="As `embup models` lists it; all without one.")
]
# None where the option stands before the subcommand, or in the environment: `_opened` looks there.
SubRegistry = Annotated[
    Path | None, typer.Option("--registry", help="Folder of published decoders (EMBUP_REGISTRY).")
]


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, *, registry: options.Registry = options.REGISTRY, json: options.Json = False
) -> None:
    """List the published decoders, newest first; or promote, roll back, verify one."""
    context.obj = registry
    if context.invoked_subcommand is not None:
        return
    from embup_core.errors import NoArtifactError
    from embup_core.registry import Registry

    found = Registry(registry)
    published = found.versions()
    latest = next((info.version for info in published if info.is_latest), None)
    if json:
        print_json({"latest": latest, "models": [_described(info) for info in published]})
    elif published:
        _print(published, latest)
    if latest is None:
        try:
            found.latest()  # after the list: who repairs LATEST needs to know what it may name
        except NoArtifactError:
            if not json:
                say(f"no decoder is published in {registry}; `embup train` publishes one")


@app.command("promote")
def promote(
    context: typer.Context, version: Version, *, registry: SubRegistry = None, json: options.Json = False
) -> None:
    """Verify a version and put it into service.

    LATEST names it from then on, and a running service takes it up within EMBUP_MODEL_POLL_S seconds.
    """
    opened = _opened(context, registry)
    before = _latest_or_none(opened)
    opened.promote(version)
    _print_move(version, before, json=json)


@app.command("rollback")
def rollback(context: typer.Context, *, registry: SubRegistry = None, json: options.Json = False) -> None:
    """Go back to the version before.

    As `promote` of the one that was in service before the latest; two rollbacks lead two versions back.
    """
    opened = _opened(context, registry)
    before = _latest_or_none(opened)
    _print_move(opened.roll_back().version, before, json=json)


@app.command("verify")
def verify(
    context: typer.Context,
    version: SomeVersion = None,
    *,
    registry: SubRegistry = None,
    json: options.Json = False,
) -> None:
    """Check versions as a service does.

    Every hash, every array, the golden answers. Exit code 1 when any is bad.
    """
    from embup_core.errors import ArtifactError

    opened = _opened(context, registry)
    verdicts: dict[str, str | None] = {}
    for name in [version] if version else opened.version_names():
        try:
            opened.load_artifact(name)
            verdicts[name] = None
        except ArtifactError as error:
            verdicts[name] = error.message
    if json:
        print_json({"models": [{"version": name, "problem": found} for name, found in verdicts.items()]})
    else:
        print_table(("version", "problem"), [(name, found or "none") for name, found in verdicts.items()])
    if any(verdicts.values()):
        raise typer.Exit(FAILED)


def _opened(context: typer.Context, registry: Path | None) -> "Registry":
    from embup_core.registry import Registry

    return Registry(registry or context.obj)


def _latest_or_none(registry: "Registry") -> str | None:
    from embup_core.errors import ArtifactError

    try:
        return registry.latest_version()
    except ArtifactError:  # none, or damaged: the promotion mends it
        return None


def _print_move(version: str, before: str | None, *, json: bool) -> None:
    if json:
        print_json({"latest": version, "before": before})
    else:
        print_fields([("latest", version), ("before", before)])


def _print(published: "list[ArtifactInfo]", latest: str | None) -> None:
    columns = ("version", "decoder", "R2", "trained on", "rows", "")
    print_table(
        columns,
        [
            (
                model["version"],
                model["decoder"],
                _r2(model["metrics"]),
                model["source"],
                model["rows"],
                "latest" if model["version"] == latest else "",
            )
            for model in map(_described, published)
        ],
    )


def _described(info: "ArtifactInfo") -> dict[str, Any]:
    manifest = info.manifest
    data = manifest.get("data", {})
    return {
        "version": info.version,
        "created_utc": manifest["created_utc"],
        "decoder": manifest["decoder"]["name"],
        "source": data.get("source"),
        "rows": data.get("rows"),
        "metrics": manifest.get("metrics", {}),
        "folder": str(info.folder),
    }


def _r2(metrics: dict[str, Any]) -> float | None:
    scores = metrics.get("test_test")
    found = scores.get("r2") if isinstance(scores, dict) else None
    return float(found) if isinstance(found, int | float) else None
