"""Progress within a step is taken from what its asset logs, and never goes back."""

import dagster as dg

from embup_core.training.selection import LADDER, wanted_candidates
from embup_core.training.step_progress import decoder_step, step_shares
from pipelines.defs.assets.decoder_config import FITS
from pipelines.progress_lines import now_and_then, progress_line, share_done
from pipelines.run_progress import ProgressReport


def entry(message: str) -> dg.EventLogEntry:
    return dg.EventLogEntry(  # type: ignore[no-untyped-call]
        error_info=None, level=20, user_message=message, run_id="run", timestamp=0.0, dagster_event=None
    )


def test_an_asset_that_counts_moves_the_bar_within_its_step() -> None:
    told: list[float] = []
    report = ProgressReport(lambda _, done, __: told.append(done), LADDER)
    report.step = FITS
    for done in ("30", "60", "1"):
        report(entry(f"decoder_mlp: {done} of 120"))
    report(entry("something else"))
    share = step_shares(LADDER)["decoder_mlp"]
    assert told == [share / 4, share / 2, share / 2, share / 2]


def test_every_decoder_moves_the_bar() -> None:
    shares = step_shares(LADDER)
    assert all(shares[decoder_step(name)] > 0 for name in wanted_candidates(LADDER))
    assert shares["decoder_mlp"] > 10 * shares["decoder_kriging"]


def test_what_assets_log_about_their_count_is_understood() -> None:
    logged: list[str] = []
    tell = now_and_then(logged.append, interval_s=0.0)
    tell("rows", 1_500, 3_000)
    told: list[float] = []
    report = ProgressReport(lambda _, done, __: told.append(done), LADDER)
    report.step = "cosine_matrix"
    report(entry(logged[0]))
    assert told == [step_shares(LADDER)["cosine_matrix"] / 2]


def test_a_line_is_read_back_as_it_was_written() -> None:
    assert share_done(progress_line("rows", 1_500, 3_000)) == 0.5
    assert share_done(progress_line("downloading z.npy", 1_234_567, None)) is None
