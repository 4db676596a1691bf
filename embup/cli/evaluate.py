"""`embup evaluate`: a published decoder on rows of one's own, whose originals or cosines are known."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embup.cli import options
from embup.cli.output import print_fields, print_json, print_table, progress, say
from embup_core.extras import extra_required

if TYPE_CHECKING:
    from embup_core.evaluation import Interval, ProbeScores, Scores


def _npy(name: str, what: str) -> Any:
    return typer.Option(name, metavar="NPY", help=what)


@extra_required("train")
def evaluate(
    *,
    projected: Annotated[Path, _npy("--projected", "Rows that were not trained on, (n, d).")],
    originals: Annotated[Path | None, _npy("--originals", "Their originals, (n, D).")] = None,
    cosines: Annotated[Path | None, _npy("--cosines", "Or the originals' cosines, (n, n).")] = None,
    reference_projected: Annotated[
        Path | None,
        _npy("--reference-projected", "Reference rows, such as those trained on, (m, d)."),
    ] = None,
    reference_originals: Annotated[
        Path | None,
        _npy("--reference-originals", "Their originals, (m, D); with --originals."),
    ] = None,
    reference_cosines: Annotated[
        Path | None, _npy("--reference-cosines", "Or the cosines of rows with reference rows, (n, m).")
    ] = None,
    labels: Annotated[
        Path | None, _npy("--labels", "A label a row: how well does a classifier tell it, (n,).")
    ] = None,
    reference_labels: Annotated[
        Path | None, _npy("--reference-labels", "The reference rows' labels, which it learns from, (m,).")
    ] = None,
    registry: options.Registry = options.REGISTRY,
    version: Annotated[
        str | None, typer.Option("--version", help="Version; by default the current one.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of samples and resampling.")] = 0,
    json: options.Json = False,
) -> None:
    """Measure a decoder on your own rows.

    Decoded cosines are compared with those of the originals, over pairs of rows and, where reference rows are
    given, over pairs of a row and a reference row. Vectors need not be unit: only their direction counts.
    d and D are the decoder's input and output dimensions.
    """
    from embup_core.artifacts.remote import open_registry
    from embup_core.evaluation.user_data import evaluate_user_data
    from embup_core.evaluation.user_files import UserData, UserFiles

    files = UserFiles(
        projected=projected,
        originals=originals,
        cosines=cosines,
        reference_projected=reference_projected,
        reference_originals=reference_originals,
        reference_cosines=reference_cosines,
        labels=labels,
        reference_labels=reference_labels,
    )
    files.require_complete()
    published = open_registry(registry)
    upsampler = published.load(version)
    decoder = str(published.info(upsampler.version).manifest["decoder"]["name"])
    with progress("evaluating") as bar:
        rows = UserData.load(
            files, input_dims=upsampler.input_dims, output_dims=upsampler.output_dims, progress=bar
        )
        scores, probe = evaluate_user_data(upsampler, rows, seed=seed, progress=bar)
    also_reference = rows.count_also_reference()
    if also_reference:
        say(
            f"warning: {also_reference} of the {len(rows.projected)} rows are among the reference rows, and "
            "flatter what stands in `row x reference row` and recall; leave them out of either."
        )
    known = 0 if rows.reference_projected is None else len(rows.reference_projected)
    described = {
        "model_version": upsampler.version,
        "decoder": decoder,
        "rows": len(rows.projected),
        "reference_rows": known,
        "seed": seed,
    }
    if json:
        print_json(described | _as_json(scores, probe))
        return
    print_fields(
        [
            ("decoder", decoder),
            ("version", upsampler.version),
            ("rows", f"{len(rows.projected):,}" + (f", and {known:,} reference" if known else "")),
        ]
    )
    _print_scores(scores, probe)


def _as_json(scores: "Scores", probe: "ProbeScores | None") -> dict[str, Any]:
    """Scores over pairs of rows at the top level, those with reference rows one below."""
    from dataclasses import asdict

    nested = scores.to_json()
    within, with_reference = nested.pop("test_test"), nested.pop("test_train")
    for of_training in ("fit_s", "train_train"):
        nested.pop(of_training)
    return {
        **within,
        **nested,
        "with_reference": with_reference,
        "probe": None if probe is None else asdict(probe),
    }


def _print_scores(scores: "Scores", probe: "ProbeScores | None") -> None:
    kinds = {"row x row": scores.test_test, "row x reference row": scores.test_train}
    print()
    print_table(
        ("pairs of", "number", "RMSE", "MAE", "p99", "bias", "R2", "Pearson", "Spearman"),
        [
            (
                name,
                one.pairs,
                one.rmse,
                one.mae,
                one.p99_abs_error,
                f"{one.bias:+.4f}",
                f"{one.r2:.3f}",
                _rounded(one.pearson),
                _rounded(one.spearman),
            )
            for name, one in kinds.items()
            if one is not None
        ],
    )
    print()
    fields: list[tuple[str, object]] = []
    if scores.intervals is not None:
        fields += [
            ("R2, 95 % interval", _interval(scores.intervals.r2, 3)),
            ("RMSE, 95 % interval", _interval(scores.intervals.rmse, 4)),
        ]
    recalls = {
        1: scores.recall_at_1,
        5: scores.recall_at_5,
        10: scores.recall_at_10,
        50: scores.recall_at_50,
    }
    for k, share in recalls.items():
        if share is not None:
            interval = scores.intervals.recall_at_10 if scores.intervals and k == 10 else None
            fields.append(
                (f"recall@{k}", f"{share:.3f}" + (f" {_interval(interval, 3)}" if interval else ""))
            )
    fields += [
        ("trustworthiness@10", _rounded(scores.trustworthiness_at_10)),
        ("continuity@10", _rounded(scores.continuity_at_10)),
        ("unit error", f"{scores.unit_norm_error:.0e}"),
    ]
    print_fields(fields)
    print()
    print_table(
        ("true cosine", "pairs", "bias", "RMSE"),
        [
            (f"{one.low:+.2f} to {one.high:+.2f}", one.pairs, f"{one.bias:+.4f}", one.rmse)
            for one in scores.test_test.error_by_bin
        ],
    )
    if scores.calibration is not None:
        print()
        print_table(
            ("predicted RMSE", "observed RMSE", "ratio", "pairs"),
            [
                (one.predicted_rmse, one.observed_rmse, _rounded(one.ratio), one.pairs)
                for one in scores.calibration
            ],
        )
    if probe is not None:
        print()
        shares = {**probe.accuracy, "most frequent label": probe.majority_share}
        print_table(("classifier on", "accuracy"), [(name, f"{share:.3f}") for name, share in shares.items()])


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _interval(interval: "Interval", digits: int) -> str:
    low, high = interval
    return f"[{low:.{digits}f}, {high:.{digits}f}]"
