"""The figure of a plane: its bands, what is marked on it, and what is said of it."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import QuadContourSet

from raymc.report.plane import contour_levels, plane_figure

CORNERS = ((0.0, 0.0), (10.0, 0.0), (4.0, 8.0))
KEYS = tuple(letter * 20 for letter in "abc")
NAMES = dict(zip(KEYS, ("order=1", "order=2", "learning_rate=0.0003 " * 3), strict=True))


def bowl(points: int = 9, centre: tuple[float, float] = (5.0, 3.0), **fields: Any) -> pd.DataFrame:
    """The squared distance from a point, on a grid over the triangle."""
    rows = [
        {"x": x, "y": y, "loss": (x - centre[0]) ** 2 + (y - centre[1]) ** 2, "accuracy": 0.5}
        for y in np.linspace(-2, 10, points)
        for x in np.linspace(-2.5, 12.5, points)
    ]
    return pd.DataFrame(rows).assign(**{"plane": "plane-1", "split": "validation", "space": "weights", **fields})


def marks(curves: dict[str, float] | None = None, plane: str = "plane-1") -> pd.DataFrame:
    """The three minima, and curves from the first to the second that leave the plane by so much."""
    empty = {"key": "", "a": "", "b": "", "t": math.nan, "off": 0.0}
    rows: list[dict[str, Any]] = [
        {**empty, "what": "minimum", "key": key, "x": x, "y": y} for key, (x, y) in zip(KEYS, CORNERS, strict=True)
    ]
    for curve, off in (curves or {}).items():
        for t in (1.0, 0.0, 0.5):  # in whatever order
            place = {"a": KEYS[0], "b": KEYS[1], "t": t, "x": 10 * t, "y": 4 * t * (1 - t)}
            rows.append({**empty, "what": curve, **place, "off": 4 * off * t * (1 - t)})
    return pd.DataFrame(rows).assign(plane=plane)


def texts(figure) -> list[str]:
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return [text.get_text() for axes in figure.axes for text in axes.texts] + legends


def test_bands_grow_by_one_factor_from_the_lowest_point():
    x = y = np.linspace(0, 1, 5)
    heights = 2.0 + 100.0 * np.add.outer(y, x) / 2
    levels, above = contour_levels(x, y, heights, np.zeros((0, 2)))
    assert (levels[0], levels[1], levels[-1]) == pytest.approx((2.0, 3.0, 102.0))
    ratios = np.diff(np.log(levels[1:] - 2.0))
    assert ratios == pytest.approx(np.full(8, math.log(100) / 8))
    assert not above


def test_what_stands_far_above_the_triangle_is_one_colour():
    """In the triangle's three corners and middle the bowl is at most 34 high: 1.5 times that is the last level."""
    table = bowl(61)
    heights = table.pivot(index="y", columns="x", values="loss")
    x, y = heights.columns.to_numpy(float), heights.index.to_numpy(float)
    levels, above = contour_levels(x, y, heights.to_numpy(), np.array(CORNERS))
    assert above
    assert levels[0] == pytest.approx(0.0, abs=0.02)
    assert levels[-1] == pytest.approx(1.5 * 34, rel=0.05)


@pytest.mark.parametrize("value", [0.0, 0.7, -3.0])
def test_a_flat_plane_has_levels_too(value: float):
    flat = bowl(4).assign(loss=value)
    figure = plane_figure(flat, marks(), "plane-1", "validation", NAMES)
    figure.canvas.draw()
    levels, above = contour_levels(np.arange(2.0), np.arange(2.0), np.full((2, 2), value), np.array(CORNERS))
    assert (np.diff(levels) > 0).all()
    assert not above


def test_a_bowl_s_contours_are_its_circles():
    figure = plane_figure(bowl(41), marks(), "plane-1", "validation", NAMES)
    lines = [found for found in figure.axes[0].collections if isinstance(found, QuadContourSet) and not found.filled]
    levels = np.asarray(lines[0].levels)
    for level, path in zip(levels[3:], lines[0].get_paths()[3:], strict=True):
        if len(path.vertices):
            radius = np.hypot(path.vertices[:, 0] - 5, path.vertices[:, 1] - 3)
            assert radius == pytest.approx(np.full(len(radius), math.sqrt(level)), rel=0.02)
    assert figure.axes[0].get_aspect() == 1.0


def test_minima_are_named_and_curves_told_apart_with_how_far_they_leave_the_plane():
    tables = marks({"linear": 0.0, "bezier": 2.5, "my-chain": 0.01})
    figure = plane_figure(bowl(), pd.concat([tables, marks(plane="other")]), "plane-1", "validation", NAMES)
    figure.canvas.draw()
    found = texts(figure)
    assert found[:2] == ["order=1", "order=2"]
    assert found[2].endswith("…")
    told = ["linear", "bezier (up to 2.5 off the plane)", "my-chain (up to 0.01 off the plane)"]
    assert found[3:] == told
    lines = [line for line in figure.axes[0].lines if line.get_label() in told]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 3
    assert list(lines[1].get_xdata()) == [0.0, 5.0, 10.0]
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == list(CORNERS)
    assert "matplotlib.pyplot" not in sys.modules


def test_the_title_says_what_the_value_is_and_where_it_was_measured(tmp_path):
    table = pd.concat([bowl(5), bowl(5, split="nli.test", space="delta_w")])
    figure = plane_figure(table, marks({"linear": 0.0}), "plane-1", "nli.test", NAMES)
    figure.savefig(tmp_path / "plane.png")
    title = figure.get_suptitle()
    assert title == "plane-1: loss (mean cross-entropy, nats per example)\non nli.test, space delta_w"
    assert figure.axes[1].get_ylabel() == "loss (mean cross-entropy, nats per example)"
    other = plane_figure(table, marks(), "plane-1", "nli.test", NAMES, "accuracy", "fraction of rows")
    assert other.get_suptitle().startswith("plane-1: accuracy (fraction of rows)")


def test_a_plane_that_is_not_finished_is_drawn_as_far_as_it_goes(tmp_path):
    table = bowl(6)
    below = sorted(table["y"].unique())
    for count in (1, 2, 4):
        part = table[table["y"].isin(below[:count])]
        plane_figure(part, marks(), "plane-1", "validation", NAMES).savefig(tmp_path / f"{count}.png")
    gap = table[table["y"] != below[2]]
    figure = plane_figure(gap, marks()[:0], "plane-1", "validation", NAMES)
    figure.savefig(tmp_path / "gap.png")
    bands = next(found for found in figure.axes[0].collections if isinstance(found, QuadContourSet) and found.filled)
    heights = np.concatenate([path.vertices[:, 1] for path in bands.get_paths()])
    assert not ((heights > below[1] + 1e-9) & (heights < below[3] - 1e-9)).any()
    assert max(np.abs(heights - below[1]).min(), np.abs(heights - below[3]).min()) < 1e-9


def test_a_plane_that_there_is_not():
    with pytest.raises(ValueError, match="no plane 'plane-2' on row set 'validation'"):
        plane_figure(bowl(3), marks(), "plane-2", "validation", NAMES)
