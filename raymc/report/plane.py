"""A picture of the loss on a plane through three minima, with the minima and the curves between them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from raymc.report.heatmap import EMPTY, LABEL_LENGTH, SEQUENTIAL

STEPS = 9  # bands of colour
FIRST = 0.01  # height of the lowest band, as a share of all that is shown
REACH = 1.5  # how far above the lowest point values are told apart, in heights of the triangle of the three minima
# Okabe and Ito's colours that stand out from all of the map's, with another stroke each
CURVES = ("#d55e00", "#000000", "#cc79a7", "#e69f00")
STROKES = ("-", "--", ":", "-.")


def plane_figure(
    planes: pd.DataFrame,
    marks: pd.DataFrame,
    plane: str,
    split: str,
    names: Mapping[str, str],
    value: str = "loss",
    unit: str = "mean cross-entropy, nats per example",
) -> Figure:
    """Filled contours of a value on one plane and row set, minima marked and named, curves as they lie over it.

    `planes` and `marks`: the tables of raymc.sweep.planes; `names`: of minima, by key. `unit` says what the value is.
    Levels are logarithmic in the height above the lowest point, as in Garipov et al. 2018 (figure 1). Points that
    stand higher than 1.5 times what the triangle of the minima reaches have one colour, so that far corners don't drown
    what lies between the minima. Raises ValueError where the tables have no such plane or row set.
    """
    chosen = planes[(planes["plane"] == plane) & (planes["split"] == split)]
    if chosen.empty:
        raise ValueError(f"no plane {plane!r} on row set {split!r}")
    here = marks[marks["plane"] == plane]
    values = chosen.pivot(index="y", columns="x", values=value).sort_index().sort_index(axis=1)
    x = values.columns.to_numpy(dtype=float)
    y, heights = _with_gaps(values.index.to_numpy(dtype=float), values.to_numpy(dtype=float))
    minima = here[here["what"] == "minimum"]
    levels, above = contour_levels(x, y, heights, minima[["x", "y"]].to_numpy(dtype=float))
    figure = Figure(figsize=(7.2, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor(EMPTY)
    norm = BoundaryNorm(levels, 256, extend="max" if above else "neither")
    if min(heights.shape) > 1:
        shown = np.ma.masked_invalid(heights)
        drawn = axes.contourf(x, y, shown, levels, cmap=SEQUENTIAL, norm=norm, extend="max" if above else "neither")
        axes.contour(x, y, shown, levels[1:], colors="#444444", linewidths=0.4)
    else:  # a first line, of a plane that isn't finished
        drawn = axes.scatter(
            *(side.ravel() for side in np.meshgrid(x, y)), c=heights.ravel(), cmap=SEQUENTIAL, norm=norm
        )
    bar = figure.colorbar(drawn, ax=axes, ticks=levels, format=_format(levels), label=f"{value} ({unit})")
    bar.outline.set_visible(False)  # type: ignore[operator]
    _curves(axes, here[here["what"] != "minimum"])
    _minima(axes, minima, names)
    axes.set_aspect("equal")
    axes.set_xlabel("x (L2 distance in parameters)")
    axes.set_ylabel("y (L2 distance in parameters)")
    axes.spines[:].set_visible(False)
    axes.tick_params(labelsize=8)
    space = ", ".join(dict.fromkeys(chosen["space"]))
    figure.suptitle(f"{plane}: {value} ({unit})\non {split}, space {space}", fontsize=11, x=0.01, ha="left")
    handles, told = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, told, loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    return figure


def contour_levels(x: np.ndarray, y: np.ndarray, heights: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, bool]:
    """(levels of the bands, rising from the lowest height, whether some heights stand above the last).

    `heights`: (y, x), NaN where there is none; `corners`: (3, 2) of the minima, or none. The bands' upper bounds stand
    over the lowest height by shares of the whole that grow from 0.01 to 1 by one factor.
    """
    known = heights[np.isfinite(heights)]
    low, high = float(known.min()), float(known.max())
    top = high
    inside = _inside(x, y, corners) & np.isfinite(heights)
    if inside.any():
        reach = REACH * (float(heights[inside].max()) - low)
        top = min(high, low + reach) if reach > 0 else high
    span = top - low if top > low else max(abs(low), 1.0) * 1e-6
    shares = np.geomspace(FIRST, 1.0, STEPS)
    return np.array([low, *(low + span * shares)]), high > top


def _with_gaps(y: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With NaN for the lines that are missing between others, of an even grid: nothing is drawn across them."""
    if len(y) < 2:
        return y, heights
    place = np.rint((y - y[0]) / np.diff(y).min()).astype(int)
    whole = np.full((place[-1] + 1, heights.shape[1]), math.nan)
    whole[place] = heights
    return np.interp(np.arange(len(whole)), place, y), whole


def _inside(x: np.ndarray, y: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Which points of the grid lie within the minima's triangle, its border taken in."""
    places = np.column_stack([side.ravel() for side in np.meshgrid(x, y)])
    if len(corners) < 3:
        return np.zeros((len(y), len(x)), dtype=bool)
    one, other = corners[1] - corners[0], corners[2] - corners[0]
    shares = np.linalg.solve(np.column_stack([one, other]), (places - corners[0]).T)
    found = (shares >= -1e-9).all(axis=0) & (shares.sum(axis=0) <= 1 + 1e-9)
    return found.reshape(len(y), len(x))


def _format(levels: np.ndarray) -> str:
    """Enough decimals to tell the lowest two levels apart."""
    step = float(levels[1] - levels[0])
    return f"%.{min(max(-math.floor(math.log10(step)), 2), 8)}f"


def _curves(axes: Axes, marks: pd.DataFrame) -> None:
    """One line a curve and pair, all of a curve in one colour; the legend says how far it leaves the plane."""
    for number, (curve, found) in enumerate(marks.groupby("what", sort=False)):
        off = float(found["off"].max())
        label = f"{curve}" + (f" (up to {off:.2g} off the plane)" if off > 1e-4 * _extent(found) else "")
        colour = CURVES[number % len(CURVES)]
        stroke = STROKES[(number + number // len(CURVES)) % len(STROKES)]
        for _, line in found.groupby(["a", "b"], sort=False):
            ordered = line.sort_values("t")
            axes.plot(
                ordered["x"],
                ordered["y"],
                color=colour,
                linestyle=stroke,
                linewidth=1.8,
                label=label,
                path_effects=[Stroke(linewidth=3.2, foreground="white"), Normal()],
            )
            label = "_"


def _extent(marks: pd.DataFrame) -> float:
    return math.hypot(float(np.ptp(marks["x"])), float(np.ptp(marks["y"])))


def _minima(axes: Axes, marks: pd.DataFrame, names: Mapping[str, str]) -> None:
    middle, (left, right) = marks["y"].mean(), axes.get_xlim()
    for key, x, y in zip(marks["key"], marks["x"], marks["y"], strict=True):
        name = names.get(key, key[:8])
        share = (x - left) / (right - left)
        name = name if len(name) <= LABEL_LENGTH else name[: LABEL_LENGTH - 1] + "…"
        axes.plot([x], [y], "o", markersize=8, color="white", markeredgecolor="black", zorder=5)
        text = axes.annotate(
            name,
            (x, y),
            xytext=(0, 8 if y > middle else -8),
            textcoords="offset points",
            ha="left" if share < 1 / 3 else "right" if share > 2 / 3 else "center",
            va="bottom" if y > middle else "top",
            fontsize=8,
            zorder=6,
        )
        text.set_path_effects([Stroke(linewidth=2.5, foreground="white"), Normal()])
