"""The fits of candidates: each twice, on train rows to choose by and with validation rows to report."""

from __future__ import annotations

import functools
import itertools
import time
from typing import TYPE_CHECKING, Any

from embup_core.decoders import DECODERS
from embup_core.errors import InputError, InvalidArgumentError, TrainingError
from embup_core.training.selection import Candidate, required_candidates, wanted_candidates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping

    import numpy as np
    from numpy.typing import NDArray

    from embup_core.decoders import Decoder
    from embup_core.training.sample import Sample


def check_settings(settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Check hyper-parameters before anything is fitted.

    Parameters
    ----------
    settings
        By decoder's name, by setting's name.

    Raises
    ------
    InputError
        A decoder or a setting that does not exist, or a value of another type or out of bounds.
    """
    for name, given in settings.items():
        if name not in DECODERS:
            raise InputError(
                f"Settings of {name!r}: no such decoder, expected one of {', '.join(DECODERS)}.",
                remedy="Correct the name.",
            )
        try:
            DECODERS[name].check_settings(given)
        except InvalidArgumentError as error:
            raise InputError(f"{name}: {error.message}", remedy=error.remedy) from error
        except TypeError as error:
            raise InputError(f"{name}: {error}.", remedy="Correct the name.") from error


def fit_twice(
    decoder_type: type[Decoder],
    settings: Mapping[str, Any],
    sample: Sample,
    *,
    on_steps: Callable[[int, int], None] | None = None,
) -> Candidate:
    """Fit on train rows, and again with validation rows.

    Parameters
    ----------
    decoder_type, settings
        What to fit.
    sample
        Its rows.
    on_steps
        Called by fits of many steps with the steps done and the steps in all, of both fits together.

    Raises
    ------
    TrainingError
        It cannot be fitted to these rows.
    """
    counted = itertools.count(1)

    def fitted(rows: NDArray[np.int64]) -> Decoder:
        decoder = decoder_type(**settings)
        if on_steps is not None:
            decoder.on_progress = lambda _, steps: on_steps(next(counted), 2 * steps)
        return decoder.fit(
            sample.projected[rows],
            sample.coordinates[rows],
            output_dims=sample.output_dims,
            basis=sample.basis,
        )

    for_selection = fitted(sample.rows.train)
    started_s = time.perf_counter()
    for_report = fitted(sample.rows.fit_rows)
    return Candidate(for_selection, for_report, time.perf_counter() - started_s)


def fit_candidates(
    sample: Sample,
    *,
    choice: str,
    settings: Mapping[str, Mapping[str, Any]],
    not_fitted: MutableMapping[str, str],
    on_steps: Callable[[str, int, int], None] = lambda *_: None,
    on_fitted: Callable[[str], None] = lambda _: None,
) -> Iterator[Candidate]:
    """Fit the candidates of a choice one after the other, the simplest first; one is in memory at a time.

    Parameters
    ----------
    sample
        What to fit to.
    choice
        As for `wanted_candidates`.
    settings
        Hyper-parameters that are not the default, by decoder's name.
    not_fitted
        Receives why a candidate could not be fitted, by name.
    on_steps
        Called with the decoder's name, the steps done and the steps in all.
    on_fitted
        Called with the name of a decoder that has been fitted, or could not be.

    Raises
    ------
    TrainingError
        A required candidate cannot be fitted.
    """
    wanted, required = wanted_candidates(choice), required_candidates(choice)
    for name in (name for name in DECODERS if name in wanted):
        on_steps(name, 0, 1)
        try:
            candidate = fit_twice(
                DECODERS[name], settings.get(name, {}), sample, on_steps=functools.partial(on_steps, name)
            )
        except TrainingError as error:
            if name in required:
                raise
            not_fitted[name] = str(error)
        else:
            yield candidate
        on_fitted(name)
