"""Pictures of a sweep: its N x N matrix, and its paths' profiles. Figures are made without pyplot's global state."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch

ANNOTATE_LIMIT = 12  # minima: up to here each cell shows its number
LABEL_LIMIT = 48  # minima: up to here each row has its label
LABEL_LENGTH = 34  # characters
DASHED_LIMIT = 60  # paths: up to here those across groups are dashed
SEQUENTIAL, DIVERGING = "YlGnBu", "PuOr"  # both can be told apart with the common colour blindnesses
PATHS = "cividis"
EMPTY = "#e4e4e4"
HATCH_LIMIT = 600  # cells: more would take long to draw
WITHIN, ACROSS = "#0072b2", "#d55e00"  # Okabe and Ito's blue and vermilion


def matrix_figure(
    matrix: pd.DataFrame,
    labels: Sequence[str],
    title: str,
    unit: str,
    groups: Sequence[str] | None = None,
    from_zero: bool = True,
    weak: Sequence[bool] | None = None,
) -> Figure:
    """An N x N matrix as colours, with its numbers where N is 12 or less.

    `labels` and `groups` go with the matrix's rows; rows are put together by group, in order of first appearance.
    `unit` names what the colour means, such as "Entezari barrier (nats)". NaN off the diagonal is a neutral grey, as no
    value, and hatched where such cells are few. Minima that are `weak` (below the floor) have a star at their label.
    `from_zero`: colours start at 0; turn it off for values such as cosines that lie close together far from 0.
    Raises ValueError where the matrix isn't square or a list's length isn't N.
    """
    values = matrix.to_numpy(dtype=float, na_value=math.nan)
    count = len(values)
    if values.shape != (count, count) or len(labels) != count or len(groups or labels) != count:
        raise ValueError(f"a matrix of {values.shape} with {len(labels)} labels and {len(groups or labels)} groups")
    stars = weak or [False] * count
    names = [_clip(label) + (" *" if star else "") for label, star in zip(labels, stars, strict=True)]
    sizes: list[tuple[str, int]] = []
    if groups is not None:
        firsts = list(dict.fromkeys(groups))
        order = sorted(range(count), key=lambda i: firsts.index(groups[i]))
        values, names = values[np.ix_(order, order)], [names[i] for i in order]
        sizes = [(group, list(groups).count(group)) for group in firsts]
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.25, 0.25, 0.5, 0.5))
    norm, colours = _scale(values, from_zero)
    axes.set_facecolor(EMPTY)
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=norm, interpolation="nearest", aspect="auto")
    scale = figure.add_axes((0.8, 0.25, 0.03, 0.5))
    figure.colorbar(image, cax=scale, label=unit).outline.set_visible(False)  # type: ignore[operator]
    _rows(axes, names)
    _separators(axes, sizes)
    if count <= ANNOTATE_LIMIT:
        _numbers(axes, values, norm, colours)
    missing = ~np.isfinite(values) & ~np.eye(count, dtype=bool)
    _notes(axes, missing, any(stars))
    side = min(max(0.62 * count if count <= ANNOTATE_LIMIT else 0.24 * count, 2.4), 9.0)
    _lay_out(figure, axes, scale, side, title, band=0.25 if len(sizes) > 1 else 0.0)
    return figure


def profiles_figure(
    profiles: pd.DataFrame,
    title: str,
    unit: str = "loss (nats per example)",
    groups: Mapping[Hashable, str] | None = None,
    factor: str = "group",
    value: str = "loss",
) -> Figure:
    """Every path's `value` along t, one panel a split.

    `profiles` has a row for each point: a, b, split, t and `value`. With `groups` (minimum's key to its group, by
    `factor`) paths within a group and across two differ in colour and stroke; else the colour is the path's height:
    its column "barrier" where there is one, its highest value where not.
    """
    splits = list(dict.fromkeys(profiles["split"]))
    figure = Figure(figsize=(1.6 + 4.6 * max(len(splits), 1), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(len(splits), 1), sharey=False, squeeze=False)[0]
    for axes, split in zip(panels, splits, strict=False):
        paths = list(profiles[profiles["split"] == split].groupby(["a", "b"], sort=False))
        lines = [path.sort_values("t")[["t", value]].to_numpy(dtype=float) for _, path in paths]
        opacity = min(1.0, max(0.05, 12 / max(len(lines), 1) ** 0.75))
        if groups is not None:
            within = [groups[pair[0]] == groups[pair[1]] for pair, _ in paths]
            _kinds(axes, lines, within, factor, opacity)
        else:
            column = "barrier" if "barrier" in profiles.columns else value
            heights = np.array([path[column].max() for _, path in paths], dtype=float)
            _heights(figure, axes, lines, heights, opacity, column, unit)
        axes.autoscale_view()
        axes.set_xlim(0, 1)
        axes.set_title(f"{split}: {len(lines)} {'path' if len(lines) == 1 else 'paths'}", fontsize=10, loc="left")
        axes.set_xlabel("t (0 = first minimum, 1 = second)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
    panels[0].set_ylabel(unit)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    handles, told = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, told, loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    return figure


def _scale(values: np.ndarray, from_zero: bool) -> tuple[Normalize, str]:
    """Colours from 0 (or the lowest value) up; from both sides of 0 where values lie on both."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if not from_zero:
        return Normalize(low, high if high > low else low + 1.0), SEQUENTIAL
    if low >= 0:
        return Normalize(0.0, high or 1.0), SEQUENTIAL
    span = max(-low, high)
    return TwoSlopeNorm(0.0, -span, span), DIVERGING


def _lay_out(figure: Figure, axes: Axes, scale: Axes, side: float, title: str, band: float) -> None:
    """Give the matrix `side` inches each way and its labels what they take, however long they are."""
    figure.set_size_inches(side * 2, side * 2)  # so that the half of it that `axes` has is of its final size
    box = axes.get_tightbbox(figure.canvas.get_renderer()).transformed(figure.dpi_scale_trans.inverted())  # type: ignore[attr-defined,union-attr]
    place = axes.get_position()
    left = place.x0 * 2 * side - box.x0 + 0.1
    bottom = place.y0 * 2 * side - box.y0 + 0.1
    heading = figure.text(0, 0, title, fontsize=11, va="bottom")
    wide = heading.get_window_extent().width / figure.dpi
    width = left + side + 1.15
    start = min(left, max(width - wide - 0.1, 0.1))
    width, height = max(width, wide + 0.2), bottom + side + band + 0.45
    figure.set_size_inches(width, height)
    axes.set_position((left / width, bottom / height, side / width, side / height))
    scale.set_position(((left + side + 0.15) / width, bottom / height, 0.18 / width, side / height))
    heading.set_position((start / width, (bottom + side + band + 0.12) / height))


def _rows(axes: Axes, names: Sequence[str]) -> None:
    count = len(names)
    if count <= LABEL_LIMIT:
        size = 9 if count <= 20 else 7
        axes.set_xticks(range(count), names, rotation=90 if count > 3 else 30, ha="center" if count > 3 else "right")
        axes.set_yticks(range(count), names)
        axes.tick_params(labelsize=size, length=0)
    else:
        every = next(step for step in (10, 20, 25, 50, 100, 10**6) if count / step <= 12)
        axes.set_xticks(range(0, count, every))
        axes.set_yticks(range(0, count, every))
        axes.set_xlabel("minimum, by row of the matrix")
        axes.tick_params(labelsize=8, length=3)
    axes.spines[:].set_visible(False)


def _separators(axes: Axes, sizes: Sequence[tuple[str, int]]) -> None:
    """Lines between groups, each group's name over its columns."""
    if len(sizes) < 2:
        return
    ends = np.cumsum([0, *(size for _, size in sizes)])
    total = int(ends[-1])
    for end in ends[1:-1]:
        for colour, width in (("white", 2.6), ("#222222", 0.7)):
            axes.axhline(end - 0.5, color=colour, linewidth=width)
            axes.axvline(end - 0.5, color=colour, linewidth=width)
    room = 70 / total  # characters a column, about
    for (name, size), (start, end) in zip(sizes, pairwise(ends), strict=True):
        text = name if len(name) <= room * size else name[: max(int(room * size) - 1, 0)] + "…"
        if text != "…":
            axes.text((start + end - 1) / 2, -0.5, text, ha="center", va="bottom", fontsize=9, clip_on=False)


def _numbers(axes: Axes, values: np.ndarray, norm: Normalize, colours: str) -> None:
    finite = np.abs(values[np.isfinite(values)])
    largest = float(finite.max()) if finite.size else 0.0
    digits = 3 if largest < 1 else 2 if largest < 100 else 0
    for row, column in np.argwhere(np.isfinite(values)):
        value = values[row, column]
        red, green, blue, _ = colormaps[colours](norm(value))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        axes.text(
            column, row, f"{value:.{digits}f}", ha="center", va="center", fontsize=8, color="white" if dark else "black"
        )


def _notes(axes: Axes, missing: np.ndarray, weak: bool) -> None:
    """What the cells without a value and the stars mean; few such cells are hatched."""
    few = missing.sum() <= HATCH_LIMIT
    style = {"facecolor": EMPTY, "edgecolor": "#888888", "hatch": "///" if few else None, "linewidth": 0.0}
    handles = [Patch(label="no value", **style)] if missing.any() else []
    if weak:
        handles.append(Patch(label="* below\nthe floor", facecolor="none", linewidth=0.0))
    if few:
        for row, column in np.argwhere(missing):
            axes.add_patch(_cell(row, column, style))
    if handles:
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, -0.02), frameon=False, fontsize=8)


def _cell(row: int, column: int, style: dict) -> Patch:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, **style)


def _kinds(axes: Axes, lines: Sequence[np.ndarray], within: Sequence[bool], factor: str, opacity: float) -> None:
    dashes = "--" if len(lines) <= DASHED_LIMIT else "-"
    for same, colour, stroke, told in ((False, ACROSS, dashes, "across"), (True, WITHIN, "-", "within")):
        chosen = [line for line, inside in zip(lines, within, strict=True) if inside == same]
        if chosen:
            axes.add_collection(LineCollection(chosen, colors=colour, linestyles=stroke, alpha=opacity, linewidths=1.3))
            axes.plot([], [], color=colour, linestyle=stroke, label=f"{told} {factor}: {len(chosen)} paths")


def _heights(
    figure: Figure, axes: Axes, lines: list[np.ndarray], heights: np.ndarray, opacity: float, column: str, unit: str
) -> None:
    order = np.argsort(heights)
    drawn = LineCollection([lines[i] for i in order], cmap=PATHS, alpha=max(opacity, 0.25), linewidths=1.3)
    drawn.set_array(heights[order])
    axes.add_collection(drawn)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label("barrier of the path" if column == "barrier" else f"highest {unit}")
    bar.solids.set_alpha(1)  # type: ignore[union-attr]


def _clip(label: str) -> str:
    return label if len(label) <= LABEL_LENGTH else label[: LABEL_LENGTH - 1] + "…"
