"""`embup models`: what a registry holds, and which version is in service."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from embup.cli import options
from embup.cli.failures import FAILED
from embup.cli.output import print_fields, print_json, print_table, progress, say
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from embup_core.artifacts.registry import ArtifactInfo, Registry

app = typer.Typer(help="List, compare, promote and prune published decoders.")

Version = Annotated[str, typer.Argument(metavar="VERSION", help="As `embup models` lists it.")]
SomeVersion = Annotated[
    str | None, typer.Argument(metavar="VERSION", help="As `embup models` lists it; all without one.")
]
MOST_BATCHES = 1000
# None where the option stands before the subcommand, or in the environment: `_opened` looks there.
SubRegistry = Annotated[
    str | None,
    typer.Option("--registry", help="Folder of published decoders, or s3://bucket/prefix (EMBUP_REGISTRY)."),
]


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context, *, registry: options.Registry = options.REGISTRY, json: options.Json = False
) -> None:
    """List the published decoders, newest first; or show, compare, promote, verify or prune versions.

    Vectors decoded by versions of the same basis are comparable, and those of a basis that has grown from it:
    `embup models show` names them.
    """
    context.obj = registry
    if context.invoked_subcommand is not None:
        return
    from embup_core.artifacts.remote import open_registry
    from embup_core.errors import NoArtifactError

    found = open_registry(registry)
    published = found.versions()
    current = next((info.version for info in published if info.is_current), None)
    if json:
        print_json({"current": current, "models": [_described(info) for info in published]})
    elif published:
        _print(published, current)
    if current is None:
        try:
            found.current()  # after the list: who repairs CURRENT needs to know what it may name
        except NoArtifactError:
            if not json:
                say(f"no decoder is published in {registry}; `embup train` publishes one")


@app.command("show")
def show(
    context: typer.Context, version: Version, *, registry: SubRegistry = None, json: options.Json = False
) -> None:
    """Show what is recorded of a version.

    Decoder and settings, scores, source and rows, and why it was chosen.
    """
    from embup.cli.versions import described, print_described

    opened = _opened(context, registry)
    opened.path(version)  # all its files, where they lie in an object store
    found = described(opened.info(version), opened.versions(), opened.read_basis)
    if json:
        print_json(found)
    else:
        print_described(found)


@app.command("compare")
def compare(
    context: typer.Context,
    first: Annotated[str, typer.Argument(metavar="A", help="A version, as `embup models` lists it.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            help="Training data to compare them on, as for `embup train`; else the recorded scores.",
            show_default=False,
        ),
    ] = None,
    registry: SubRegistry = None,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Compare two versions on the same rows.

    Scores recorded on the same test rows are compared as they are; --source decodes its rows with both.
    """
    from dataclasses import asdict

    from embup.cli.versions import print_comparison
    from embup_core.geometry.landmark_source import with_coordinates
    from embup_core.sources import resolve_source
    from embup_core.training.comparison import Basis, compare_on, compare_recorded

    opened, versions = _opened(context, registry), (first, second)
    if source is None:
        found = compare_recorded(opened, versions)
    else:
        with progress("comparing") as bar:
            files = resolve_source(source, cache_dir=data / "sources", progress=bar)
            files = with_coordinates(
                files, data / "sources", output_dims=opened.info(first).manifest["output_dims"], progress=bar
            )
            found = compare_on(opened, versions, files, progress=bar)
    if found.basis is Basis.recorded_elsewhere:
        say(
            "warning: the scores were recorded on different test rows; to compare on the same ones: "
            f"embup models compare {first} {second} --source SOURCE"
        )
    for one in found.versions:
        if one.trained_on_these:
            say(f"warning: {one.version} was trained on these rows, which flatters its scores")
    if json:
        print_json(asdict(found))
        return
    print_comparison(found)
    rows = "" if found.rows is None else f" ({found.rows:,} rows)"
    say(f"scores {found.basis}{rows}")


@app.command("promote")
def promote(
    context: typer.Context, version: Version, *, registry: SubRegistry = None, json: options.Json = False
) -> None:
    """Verify a version and put it into service.

    CURRENT names it from then on, and a running service takes it up within EMBUP_MODEL_POLL_S seconds. Where
    the promotion gate had held it, `embup models history` says that it was overridden.
    """
    from embup_core.artifacts.gate import override_note, recorded_gate

    opened = _opened(context, registry)
    before = _current_or_none(opened)
    opened.promote(version)
    overrode = override_note(recorded_gate(opened.path(version)))
    if overrode:
        say(f"warning: this {overrode}")
    _print_move(version, before, json=json)


@app.command("rollback")
def rollback(context: typer.Context, *, registry: SubRegistry = None, json: options.Json = False) -> None:
    """Go back to the version before.

    As `promote` of the one that was in service before the current; two rollbacks lead two versions back.
    """
    opened = _opened(context, registry)
    before = _current_or_none(opened)
    _print_move(opened.roll_back().version, before, json=json)


@app.command("prune")
@extra_required("serve")
def prune(
    context: typer.Context,
    *,
    keep: Annotated[int, typer.Option("--keep", min=0, help="How many of the newest versions stay.")],
    quarterly: Annotated[
        bool, typer.Option("--quarterly/--no-quarterly", help="Keep one version of each quarter, too.")
    ] = True,
    service: Annotated[
        str | None,
        typer.Option(
            "--service",
            envvar="EMBUP_SERVICE_URL",
            help="A service elsewhere whose batches that have not ended keep their versions, too.",
            show_default=False,
        ),
    ] = None,
    api_key: options.ApiKey = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    registry: SubRegistry = None,
    data: options.Data = options.DATA,
    json: options.Json = False,
) -> None:
    """Remove old versions.

    Beside the newest, these stay: the version in service, the one that a rollback needs, those of batches
    that have not ended (--data names the data folder of a service here, --service the address of one
    elsewhere), and of each quarter the last that was in service.
    """
    from pipelines.pinned import pinned_versions

    opened = _opened(context, registry)
    pinned = pinned_versions(data)
    if service is not None:
        pinned += _versions_of_batches(service, api_key)
    reasons = opened.retention(keep, quarterly=quarterly, pinned=pinned)
    remove = opened.prunable if dry_run else opened.prune
    removed = remove(keep, quarterly=quarterly, pinned=pinned)
    if json:
        kept = opened.version_names()
        print_json({"removed": removed, "dry_run": dry_run, "kept": kept, "reasons": reasons})
        return
    verb = "would go" if dry_run else "removed"
    print_table(
        ("version", "", "because"),
        [
            (version, verb, "") if version in removed else (version, "stays", why)
            for version, why in reasons.items()
        ],
    )
    say(f"{len(removed)} versions {'would be ' if dry_run else ''}removed from {opened.address}")


@app.command("history")
def history(context: typer.Context, *, registry: SubRegistry = None, json: options.Json = False) -> None:
    """List which versions were put into service, when, by whom and how, the latest last."""
    from dataclasses import asdict

    moves = _opened(context, registry).deployments()
    if json:
        print_json({"deployments": [asdict(move) for move in moves]})
    else:
        rows = [(move.at, move.how, move.version, move.before or "", move.by, move.note) for move in moves]
        print_table(("at", "how", "version", "before", "by", "note"), rows)


@app.command("verify")
def verify(
    context: typer.Context,
    version: SomeVersion = None,
    *,
    registry: SubRegistry = None,
    json: options.Json = False,
) -> None:
    """Check versions as a service does.

    Every hash, every array, the golden answers. The exit code is 1 where any is bad.
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


def _opened(context: typer.Context, registry: str | None) -> "Registry":
    from embup_core.artifacts.remote import open_registry

    return open_registry(registry or context.obj)


def _versions_of_batches(service: str, api_key: str | None) -> list[str]:
    """Versions of the batches that a service has not ended."""
    from embup.cli.client import connect

    with connect(service, api_key) as client:
        live = client.batches(limit=MOST_BATCHES, status="IN PROGRESS")
    return [batch.model_version for batch in live if batch.model_version is not None]


def _current_or_none(registry: "Registry") -> str | None:
    from embup_core.errors import ArtifactError

    try:
        return registry.current_version()
    except ArtifactError:  # none, or damaged: the promotion mends it
        return None


def _print_move(version: str, before: str | None, *, json: bool) -> None:
    if json:
        print_json({"current": version, "before": before})
    else:
        print_fields([("current", version), ("before", before)])


def _print(published: "list[ArtifactInfo]", current: str | None) -> None:
    columns = ("version", "decoder", "dimensions", "R2", "trained on", "rows", "basis", "")
    print_table(
        columns,
        [
            (
                model["version"],
                model["decoder"],
                f"{model['input_dims']} to {model['output_dims']}",
                _r2(model["metrics"]),
                model["source"],
                model["rows"],
                model["basis"],
                "current" if model["version"] == current else "",
            )
            for model in map(_described, published)
        ],
    )


def _described(info: "ArtifactInfo") -> dict[str, Any]:
    from embup_core.artifacts.basis import basis_id

    manifest = info.manifest
    data = manifest.get("data", {})
    return {
        "version": info.version,
        "created_utc": manifest["created_utc"],
        "decoder": manifest["decoder"]["name"],
        "input_dims": manifest["input_dims"],
        "output_dims": manifest["output_dims"],
        "source": data.get("source"),
        "rows": data.get("rows"),
        "basis": basis_id(manifest),
        "metrics": manifest.get("metrics", {}),
        "folder": str(info.folder),
    }


def _r2(metrics: dict[str, Any]) -> float | None:
    scores = metrics.get("test_test")
    found = scores.get("r2") if isinstance(scores, dict) else None
    return float(found) if isinstance(found, int | float) else None
