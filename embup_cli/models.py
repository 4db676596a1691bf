"""`embup models`: what a registry holds."""

from typing import TYPE_CHECKING, Any

from embup_cli import options
from embup_cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from embup_core.registry import ArtifactInfo


def models(*, registry: options.Registry = options.REGISTRY, json: options.Json = False) -> None:
    """List the published decoders, newest first."""
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
    found = metrics.get("test_test", {}).get("r2")
    return None if found is None else float(found)
