"""Static plots of an evaluation, drawn without a display."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def cosine_hexbin(
    true: NDArray[np.float32], predicted: NDArray[np.float32], *, title: str, dpi: int = 120
) -> bytes:
    """True against predicted cosine as a hexagonal histogram with a logarithmic colour scale: PNG bytes.

    Parameters
    ----------
    true, predicted
        float32, shape (pairs,).
    title
        Above the plot.
    dpi
        Dots an inch; the figure is 5 x 4.4 inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
    image = axes.hexbin(
        true, predicted, gridsize=70, bins="log", mincnt=1, extent=(low, high, low, high), cmap="viridis"
    )
    axes.plot((low, high), (low, high), color="crimson", linewidth=1)
    axes.set(xlabel="true cosine", ylabel="predicted cosine", title=title)
    figure.colorbar(image, label="pairs")
    png = io.BytesIO()
    figure.savefig(png, dpi=dpi, format="png", metadata={"Software": None})
    return png.getvalue()
