"""What can be set about a decoder in the launchpad, made from the decoder itself.

Names, types, bounds and defaults are those of its ``__init__``, descriptions those of its docstring.
"""

import inspect
from typing import Any

import dagster as dg
from docstring_parser import DocstringStyle, parse
from pydantic import Field, create_model

from embup_core.decoders import Decoder


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
