"""Bodies are read as what the handler declares, in one step: no text for a number, no deep nesting.

Litestar reads JSON into plain objects first, nested as deep as they come, and converts those leniently:
`"0.1"` is a number to it. Read against the declared type, a body can be nested no deeper than the type is,
and is refused at the first byte that does not fit; it takes less time, too.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import ValidationException


class StrictRequest(Request[Any, Any, Any]):
    """A request whose JSON body is checked strictly against the type of the handler's `data`."""

    async def json(self) -> Any:
        """Decode the body.

        Raises
        ------
        ValidationException
            400: it is JSON of another shape.
        msgspec.DecodeError, UnicodeDecodeError
            It is no JSON.
        """
        declared = self.route_handler.parsed_data_field
        decoder = _decoder(Any if declared is None else declared.annotation)
        try:
            return decoder.decode(await self.body())
        except msgspec.ValidationError as error:
            raise ValidationException(
                "no such body", extra=[{"key": "data", "message": str(error)}]
            ) from error


@cache
def _decoder(declared: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(declared)
