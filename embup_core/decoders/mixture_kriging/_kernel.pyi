from typing import Any, Final

LAYOUT: Final[int]

def decode(
    decoder: tuple[Any, ...], n: int, points: Any, candidates: Any, rows: Any, confidences: Any, /
) -> None: ...
