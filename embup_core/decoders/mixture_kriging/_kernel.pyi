from typing import Any

def decode(
    decoder: tuple[Any, ...], n: int, points: Any, candidates: Any, rows: Any, confidences: Any, /
) -> None: ...
