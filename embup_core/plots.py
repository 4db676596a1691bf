"""Static plots of training and evaluation, drawn without a display."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from embup_core.evaluation import Scores

LOWEST_BAR = -0.1
"""Where `comparison` cuts bars off: an R2 of -42 would leave no room for the others."""


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
    figure, (axes,) = blank(height_in=4.4)
    low, high = float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))
    image = axes.hexbin(
        true, predicted, gridsize=70, bins="log", mincnt=1, extent=(low, high, low, high), cmap="viridis"
    )
    axes.plot((low, high), (low, high), color="crimson", linewidth=1)
    axes.set(xlabel="true cosine", ylabel="predicted cosine", title=title)
    figure.colorbar(image, label="pairs")
    return png(figure, dpi)


def training_curves(history: Mapping[str, Sequence[float]], *, title: str, dpi: int = 120) -> bytes:
    """What a fit of many steps watched, each under the other by step: PNG bytes.

    Parameters
    ----------
    history
        A number a step, by name, such as ``squared_error``. Logarithmic where all are above 0.
    title
        Above the plot.
    dpi
        Dots an inch; the figure is 5 inches wide, and 3.4 high for each name.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = blank(height_in=3.4 * len(history), rows=len(history))
    for one, (name, values) in zip(axes, history.items(), strict=True):
        one.plot(range(1, len(values) + 1), values, marker="." if len(values) < 100 else "")
        one.set(ylabel=name.replace("_", " "), yscale="log" if min(values) > 0 else "linear")
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
        one.grid(visible=True, which="both", alpha=0.3)
    axes[0].set_title(title)
    axes[-1].set_xlabel("step")
    return png(figure, dpi)


def comparison(scores: Mapping[str, Scores], *, dpi: int = 120) -> bytes:
    """R2 of each decoder's cosines between test rows as bars, the worst first: PNG bytes.

    Parameters
    ----------
    scores
        On test rows, by name. Bars end at -0.1 below; the number is written at each.
    dpi
        Dots an inch; the figure is 5 inches wide.
    """
    worst_first = sorted(scores.items(), key=lambda item: item[1].test_test.r2)
    names = [name for name, _ in worst_first]
    r2 = [one.test_test.r2 for _, one in worst_first]
    figure, (axes,) = blank(height_in=1.2 + 0.45 * len(names))
    axes.barh(names, [max(value, LOWEST_BAR) for value in r2], color="#3b6fb6")
    for row, value in enumerate(r2):
        axes.text(max(value, 0) + 0.015, row, f"{value:.3f}", verticalalignment="center")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlim=(LOWEST_BAR, 1.1), xlabel="R2 of cosines, test x test", title="Decoders on unseen rows")
    axes.invert_yaxis()
    return png(figure, dpi)


def blank(*, height_in: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure 5 inches wide with so many plots under each other."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, squeeze=False)[:, 0])


def png(figure: Figure, dpi: int) -> bytes:
    """The figure as PNG bytes, the same for the same numbers."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=dpi, format="png", metadata={"Software": None})
    return drawn.getvalue()
