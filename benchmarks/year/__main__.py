"""A year of monthly drops in a bucket: what is planted is found, and decoders get better.

    make year                                            # on generated originals
    python -m benchmarks.year --originals FILE.npy [--first-rows 3000] [--decoder kriging]
                              [--folder DIR] [--plot year.png] [--json year.json]

The originals, floats (n, D), are cut in random order into a first drop and eleven equal ones, and projected
by a random affine map; embup sees z and cosines alone. Drops and registry lie in a bucket of a real S3
server. Each month Dagster's sensor sees the drop, and its job checks, trains, publishes and tells.

Planted are: month 4, 3 % of the rows of z exchanged; month 6, all of them; month 8, another map; month 9,
late; month 10, 30 % rows of earlier months; month 11, another publisher who is first; month 12, a decoder
that is worse on purpose.

"R2" and "recall@10" are of the month's version on the rows held out for ever: those of the whole year, at its
end, so that all versions are asked for the same rows; recall is among these rows. "as planted" says whether
exactly what was planted was found, the right version is in service, and one message told it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.figures import say, table
from benchmarks.year.outcome import COLUMNS, MonthOutcome, plot, score_versions
from benchmarks.year.rows import LATE, RACE, WORSE, Year
from benchmarks.year.world import World
from embup_core.sources.synthetic import SampleParameters, draw_originals

if TYPE_CHECKING:
    from collections.abc import Sequence

WORSE_DECODER: Final = "linear_residual"
GENERATED_DIMS: Final = 256


def run_year(year: Year, world: World) -> list[MonthOutcome]:
    """Deliver and run each month."""
    outcomes: list[MonthOutcome] = []
    for number in range(1, year.months + 1):
        name = year.name(number)
        before = len(world.messages)
        if number == LATE:
            world.look_for_late(name)
            world.look_for_late(name)  # told once
        late = tuple(world.messages[before:])
        year.deliver(world.place(), number)
        rival = next((one.version for one in outcomes if one.version), "") if number == RACE else ""
        one = world.run(number, decoder=WORSE_DECODER if number == WORSE else None, rival=rival)
        outcomes.append(replace(one, messages=(*late, *one.messages)))
        say(f"{name}: {one.decision} after {one.seconds:.0f} s; {outcomes[-1].found()}")
    return outcomes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 where a month did not end as planted."""
    parser = argparse.ArgumentParser(description="A year of monthly drops.")
    parser.add_argument("--originals", type=Path, help=".npy of floats (n, D); default: generated ones")
    parser.add_argument("--first-rows", type=int, default=3000, help="rows of the first drop")
    parser.add_argument("--decoder", default="kriging", help="auto, ladder, or a decoder's name")
    parser.add_argument("--folder", type=Path, help="for data and copies; default: a temporary one")
    parser.add_argument("--plot", type=Path, help="PNG of R2 and recall@10 by month")
    parser.add_argument("--json", type=Path, help="all results")
    options = parser.parse_args(arguments)
    if options.originals:
        year = Year.of(options.originals, first_rows=options.first_rows)
    else:
        rows = options.first_rows + 11 * 500
        year = Year(draw_originals(SampleParameters(rows=rows, dims=GENERATED_DIMS)), options.first_rows)
    with ExitStack() as running:
        folder = options.folder or Path(running.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        world = running.enter_context(
            World.start(
                folder,
                decoder=options.decoder,
                output_dims=year.originals.shape[1],
                first_month=year.name(1),
            )
        )
        outcomes = run_year(year, world)
        last = [one for one in outcomes if one.version][-1]
        scores = score_versions(outcomes, world.registry(), world.training_set(last.name))
    differences = {one.name: one.differences(year.planted) for one in outcomes}
    lines = [one.cells(scores.get(one.name), as_planted=not differences[one.name]) for one in outcomes]
    print(table(COLUMNS, lines))
    for name, found in differences.items():
        for difference in found:
            print(f"{name}: {difference}")
    if options.plot:
        plot(options.plot, scores)
    if options.json:
        options.json.write_text(
            json.dumps(
                [
                    one.to_json()
                    | {"differences": differences[one.name]}
                    | {"held_out_scores": scores[one.name]._asdict() if one.name in scores else None}
                    for one in outcomes
                ],
                indent=2,
            )
            + "\n"
        )
    return 1 if any(differences.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
