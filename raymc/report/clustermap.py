"""A matrix for a paper: in the order of its tree, with the tree above it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from raymc.report.trees import Tree

NUMBERS = 12  # minima: up to here each cell shows its number
LABELS = 48  # minima: up to here each row has its label
LENGTH = 34  # characters of a label
COLOURS = "viridis"  # perceptually uniform, and told apart with the common colour blindnesses
EMPTY = "#e4e6ea"


def clustermap(
    matrix: pd.DataFrame,
    labels: Sequence[str],
    title: str,
    unit: str,
    tree: Tree | None = None,
    weak: Sequence[bool] | None = None,
    lowest: bool = False,
    numbers: Sequence[int] | None = None,
) -> Figure:
    """A symmetric N x N matrix as colours, its rows in the order of `tree` (else as they are) with that above them.

    `unit`: what the colours mean, such as "Entezari barrier (nats)". `weak`: rows whose label has a star. `lowest`:
    colours start at the lowest value instead of 0. `numbers`: of the rows, else 1 to N. NaN is grey. Raises ValueError
    where lengths differ from N.
    """
    values = matrix.to_numpy(dtype=float, na_value=math.nan)
    count = len(values)
    if values.shape != (count, count) or len(labels) != count or len(weak or labels) != count or not count:
        raise ValueError(f"a matrix of {values.shape} with {len(labels)} labels")
    order = list(tree.order) if tree else list(range(count))
    values = values[np.ix_(order, order)]
    numbers = numbers or range(1, count + 1)
    names = [f"{_clip(labels[i])}{' *' if weak and weak[i] else ''}  {numbers[i]}" for i in order]
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    low = low if lowest else min(0.0, low)
    norm = Normalize(low, high if high > low else low + 1.0)

    size = 8 if count <= 24 else 6
    side = min(max(0.5 * count, 2.2), 5.0)  # inches
    left = 0.07 + (size / 72 * 0.56 * max(map(len, names)) if count <= LABELS else 0.45)
    high_tree, gap, below, right = (0.7 if tree else 0.0), 0.05, 0.42, 0.95
    width, height = left + side + right, 0.36 + high_tree + gap + side + below
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((left / width, below / height, side / width, side / height))
    axes.set_facecolor(EMPTY)
    picture = axes.imshow(np.ma.masked_invalid(values), cmap=COLOURS, norm=norm, interpolation="nearest", aspect="auto")
    axes.spines[:].set_visible(False)
    if count <= LABELS:
        axes.set_yticks(range(count), names)
        axes.set_xticks(range(count), [str(numbers[i]) for i in order], rotation=90 if count > 24 else 0)
    else:
        axes.set_xlabel("minimum, in this order", fontsize=8)
    axes.tick_params(labelsize=size, length=0 if count <= LABELS else 2, pad=2)
    bar = figure.add_axes(((left + side + 0.1) / width, below / height, 0.13 / width, side / height))
    figure.colorbar(picture, cax=bar).outline.set_visible(False)  # type: ignore[operator]
    bar.set_ylabel(unit, fontsize=9)
    bar.tick_params(labelsize=8, length=2)
    if count <= NUMBERS:
        _numbers(axes, values, norm)
    if tree:
        above = figure.add_axes((left / width, (below + side + gap) / height, side / width, high_tree / height))
        lines = [np.column_stack(corners) for corners in tree.brackets()]
        above.add_collection(LineCollection(lines, colors="#444444", linewidths=0.8 if count <= LABELS else 0.5))
        above.set_xlim(-0.5, count - 0.5)
        above.set_ylim(0, max(tree.merges[-1][2], 1e-12) * 1.06)
        above.set_xticks([])
        above.yaxis.tick_right()
        above.locator_params(axis="y", nbins=3)
        above.tick_params(labelsize=7, length=2)
        above.spines[["top", "left", "bottom"]].set_visible(False)
    wide = figure.text(0.07 / width, 1 - 0.12 / height, title, fontsize=9.5, va="top")
    _fit(figure, wide)
    return figure


def _fit(figure: Figure, heading) -> None:
    """A title that is too long is set smaller, down to 6 points."""
    while heading.get_window_extent().x1 > figure.bbox.x1 - 4 and heading.get_fontsize() > 6:
        heading.set_fontsize(heading.get_fontsize() - 0.5)


def _numbers(axes, values: np.ndarray, norm: Normalize) -> None:
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    digits = 4 if largest < 0.0995 else 3 if largest < 9.95 else 2 if largest < 100 else 0
    for row, column in np.argwhere(np.isfinite(values)):
        red, green, blue, _ = colormaps[COLOURS](norm(values[row, column]))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        said = f"{values[row, column]:.{digits}f}"
        axes.text(column, row, said, ha="center", va="center", fontsize=6.5, color="white" if dark else "black")


def _clip(label: str) -> str:
    return label if len(label) <= LENGTH else f"{label[: LENGTH - 1]}…"
