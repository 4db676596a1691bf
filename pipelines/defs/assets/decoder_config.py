"""The settings of a decoder in the launchpad, made from the decoder itself.

Names, types, bounds and defaults are those of its ``__init__``, descriptions those of its docstring.
"""

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg
from docstring_parser import DocstringStyle, parse
from pydantic import Field, ValidationError, create_model

from embup_core.decoders import DECODERS, Decoder
from embup_core.errors import InputError

FITS = "fitted_decoders"
"""The step that fits all decoders; its configuration holds theirs by name."""


def refuse_wrong_settings(run_config: Mapping[str, Any], wanted: Collection[str]) -> None:
    """Check the settings of all decoders that a run is going to fit, before it spends minutes on other steps.

    Parameters
    ----------
    run_config
        Of the run, as the launchpad made it.
    wanted
        Names of the decoders to fit.

    Raises
    ------
    InputError
        A setting is out of bounds or of another type; all are listed.
    """
    problems = []
    for name in (name for name in DECODERS if name in wanted):
        given = run_config.get("ops", {}).get(FITS, {}).get("config", {}).get(name, {})
        try:
            decoder_config(DECODERS[name])(**given)
        except ValidationError as error:
            problems += [
                f"{name}: {'.'.join(map(str, one['loc']))} is {one['input']!r}: {one['msg']}"
                for one in error.errors()
            ]
    if problems:
        raise InputError(f"{'; '.join(problems)}.", remedy="Correct the settings in the launchpad.")


def decoder_config(decoder_type: type[Decoder]) -> type[dg.Config]:
    """The settings of a decoder as a configuration of Dagster.

    Raises
    ------
    TypeError
        A setting has no type, no default, or no description.
    """
    hints = decoder_type.setting_types()
    documented = parse(inspect.getdoc(decoder_type) or "", style=DocstringStyle.NUMPYDOC).params
    meanings = {one.arg_name: " ".join((one.description or "").split()) for one in documented}
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(decoder_type).parameters.items():
        if name not in hints or parameter.default is parameter.empty or not meanings.get(name):
            raise TypeError(
                f"{decoder_type.__name__}: the setting {name!r} needs a type and a default in __init__ and a "
                "description in the docstring's Parameters."
            )
        fields[name] = (hints[name], Field(default=parameter.default, description=meanings[name]))
    made: type[dg.Config] = create_model(
        f"{decoder_type.__name__}Config",
        __base__=dg.Config,
        __doc__=f"Settings of {decoder_type.name}: {decoder_type.summary}.",
        **fields,
    )
    return made
