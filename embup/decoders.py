"""Decoders as estimators, with the manners of scikit-learn: ``fit``, ``predict``, ``get_params``, ``clone``.

    >>> from embup.decoders import MixtureKriging
    >>> decoder = MixtureKriging(neighbours=16).fit(z, coordinates)
    >>> rows = decoder.predict(z_new)

`Decoder` is the base class of own ones; docs/how-to/adding-a-decoder.md has an example.
"""

from embup_core.decoders import *  # noqa: F403  the same names, listed once
from embup_core.decoders import __all__  # noqa: F401
