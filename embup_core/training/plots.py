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

SMALLEST_ANGLE = 1e-9
"""Radians; a logarithmic scale has no room for 0."""
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


def training_curves(
    history: Mapping[str, Mapping[str, Sequence[float]]], *, title: str, dpi: int = 120
) -> bytes:
    """What a fit of many steps recorded by step, a plot a name, a line for each fit within it: PNG bytes.

    Parameters
    ----------
    history
        A number a step, by name, such as ``squared_error``, and by what was fitted. Logarithmic where all
        are above 0.
    title
        Above the plot.
    dpi
        Dots an inch; the figure is 5 inches wide, and 3.4 high for each name.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = blank(height_in=3.4 * len(history), rows=len(history))
    for one, (name, fits) in zip(axes, history.items(), strict=True):
        for fit, values in fits.items():
            steps = range(1, len(values) + 1)
            one.plot(steps, values, marker="." if len(values) < 100 else "", label=fit)
        positive = min(map(min, fits.values())) > 0
        one.set(ylabel=name.replace("_", " "), yscale="log" if positive else "linear")
        if len(fits) > 1:
            one.legend()
        one.xaxis.set_major_locator(MaxNLocator(integer=True))
        one.grid(visible=True, which="both", alpha=0.3)
    axes[0].set_title(title)
    axes[-1].set_xlabel("step")
    return png(figure, dpi)


def comparison(scores: Mapping[str, Scores], *, dpi: int = 120) -> bytes:
    """R2 of each decoder's cosines between test rows as bars with 95 % intervals, worst first: PNG bytes.

    Parameters
    ----------
    scores
        On test rows, by name. Bars end at -0.1 below; the number is written beside each.
    dpi
        Dots an inch; the figure is 5 inches wide.
    """
    worst_first = sorted(scores.items(), key=lambda item: item[1].test_test.r2)
    names = [name for name, _ in worst_first]
    r2 = [one.test_test.r2 for _, one in worst_first]
    figure, (axes,) = blank(height_in=1.2 + 0.45 * len(names))
    axes.barh(names, [max(value, LOWEST_BAR) for value in r2], color="#3b6fb6")
    for row, (value, (_, one)) in enumerate(zip(r2, worst_first, strict=True)):
        low, high = one.intervals.r2 if one.intervals else (value, value)
        if low > LOWEST_BAR:
            axes.plot((low, high), (row, row), color="black", linewidth=1.5, marker="|")
        axes.text(max(high, 0) + 0.015, row, f"{value:.3f}", verticalalignment="center")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlim=(LOWEST_BAR, 1.1), xlabel="R2 of cosines, test x test", title="Decoders on unseen rows")
    axes.invert_yaxis()
    return png(figure, dpi)


def residual_angles(angles: NDArray[np.float64], wrong_rows: NDArray[np.int64], *, dpi: int = 120) -> bytes:
    """Histogram of the angles between rows of z and their prediction, wrong rows in red: PNG bytes.

    Parameters
    ----------
    angles
        Radians: float64, shape (n,).
    wrong_rows
        Rows that do not belong to their row of the matrix: int64, shape (w,).
    dpi
        Dots an inch; the figure is 5 x 3.4 inches. Both scales are logarithmic.
    """
    import numpy as np

    figure, (axes,) = blank(height_in=3.4)
    shown = np.maximum(angles, SMALLEST_ANGLE)
    edges = np.geomspace(shown.min() / 1.1, shown.max() * 1.1, 61)
    right = np.delete(shown, wrong_rows)
    groups = [(right, "#3b6fb6", f"{len(right):,} rows that belong")]
    if len(wrong_rows):
        groups.append((shown[wrong_rows], "crimson", f"{len(wrong_rows):,} wrong rows"))
    axes.hist(
        [rows for rows, _, _ in groups],
        bins=list(edges),
        color=[color for _, color, _ in groups],
        label=[label for _, _, label in groups],
        stacked=True,
    )
    axes.set(xscale="log", yscale="log", xlabel="angle to the recovered map (radians)", ylabel="rows")
    axes.legend()
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
