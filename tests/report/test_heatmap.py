"""Figures of matrices and profiles: what is on them, and that it fits."""

from __future__ import annotations

import sys
import time

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from raymc.report.heatmap import matrix_figure, profiles_figure


def square(count: int, low: float = 0.0, seed: int = 0) -> pd.DataFrame:
    values = low + np.random.default_rng(seed).random((count, count))
    values = (values + values.T) / 2
    np.fill_diagonal(values, np.nan)
    keys = [f"{i:020x}" for i in range(count)]
    return pd.DataFrame(values, index=keys, columns=keys)


def labels(count: int) -> list[str]:
    return [f"learning_rate=0.0003 order={i}" for i in range(count)]


def inside(figure) -> bool:
    """Whether every text that is drawn lies within the picture."""
    figure.canvas.draw()
    whole = figure.bbox
    boxes = [
        text.get_window_extent()
        for axes in figure.axes
        for text in [*axes.get_xticklabels(), *axes.get_yticklabels(), axes.title, axes.yaxis.label, *axes.texts]
        if text.get_text() and text.get_visible()
    ]
    boxes += [text.get_window_extent() for text in figure.texts]
    return all(
        box.x0 >= whole.x0 - 1 and box.x1 <= whole.x1 + 1 and box.y0 >= whole.y0 - 1 and box.y1 <= whole.y1 + 1
        for box in boxes
    )


@pytest.mark.parametrize("count", [2, 3, 6, 12, 13, 48, 49, 200])
def test_every_size_fits_and_is_drawn_fast(count, tmp_path):
    begin = time.monotonic()
    groups = [f"learning_rate={i * 2 // count}" for i in range(count)]
    title = "Entezari barrier of linear paths, validation split of a dataset with a long name"
    figure = matrix_figure(square(count), labels(count), title, "barrier (nats)", groups)
    figure.savefig(tmp_path / "figure.png", dpi=120)
    assert time.monotonic() - begin < 20
    assert inside(figure)
    axes, scale = figure.axes
    assert scale.get_ylabel() == "barrier (nats)"
    numbers = [text for text in axes.texts if text.get_text().startswith("0.")]
    assert len(numbers) == (count * (count - 1) if count <= 12 else 0)
    assert len(axes.get_yticks()) == (count if count <= 48 else len(range(0, count, 10 if count == 49 else 20)))
    assert "matplotlib.pyplot" not in sys.modules


def test_rows_are_put_together_by_group():
    figure = matrix_figure(square(4), ["a", "b", "c", "d"], "title", "nats", ["x", "y", "x", "y"])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "c", "b", "d"]
    assert {"x", "y"} <= {text.get_text() for text in axes.texts}
    shown = np.asarray(axes.images[0].get_array())
    assert shown[0, 1] == square(4).iloc[0, 2]


def test_a_missing_pair_is_hatched_and_named():
    matrix = square(3)
    matrix.iloc[0, 1] = matrix.iloc[1, 0] = np.nan
    axes = matrix_figure(matrix, labels(3), "title", "nats").axes[0]
    assert len(axes.patches) == 2
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["no value"]


def test_many_missing_pairs_are_plain_and_drawn_fast():
    matrix = square(200)
    matrix.iloc[:100, 100:] = matrix.iloc[100:, :100] = np.nan
    begin = time.monotonic()
    figure = matrix_figure(matrix, labels(200), "title", "nats")
    figure.canvas.draw()
    assert time.monotonic() - begin < 20
    assert len(figure.axes[0].patches) == 0
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["no value"]


def test_weak_minima_have_a_star_and_it_is_explained():
    weak, groups = [True, False, False, True], ["x", "y", "x", "y"]
    axes = matrix_figure(square(4), ["a", "b", "c", "d"], "title", "nats", groups, weak=weak).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a *", "c", "b", "d *"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["* below\nthe floor"]
    assert matrix_figure(square(4), labels(4), "title", "nats", weak=[False] * 4).axes[0].get_legend() is None


@pytest.mark.parametrize(
    ("values", "from_zero", "limits"),
    [
        (square(3, low=2.0), True, (0.0, None)),
        (square(3, low=2.0), False, (None, None)),
        (square(3, low=-0.5), True, (None, None)),
        (square(3) * np.nan, True, (0.0, 1.0)),
        (square(3) * 0, True, (0.0, 1.0)),
        (square(3) * 0 + 0.5, False, (0.5, 1.5)),
    ],
)
def test_the_scale_of_colours(values, from_zero, limits):
    norm = matrix_figure(values, labels(3), "title", "nats", from_zero=from_zero).axes[0].images[0].norm
    low, high = limits
    assert norm.vmin == (np.nanmin(values) if low is None and np.nanmin(values) > 0 else low if low == 0 else norm.vmin)
    assert high is None or norm.vmax == high
    if np.nanmin(values.fillna(0)) < 0:
        assert norm.vmin == -norm.vmax


def test_lists_of_the_wrong_length_are_refused():
    with pytest.raises(ValueError, match="2 labels"):
        matrix_figure(square(3), labels(2), "title", "nats")
    with pytest.raises(ValueError, match="1 groups"):
        matrix_figure(square(3), labels(3), "title", "nats", ["x"])


def profiles(count: int, splits=("validation", "test")) -> pd.DataFrame:
    t = np.linspace(0, 1, 5)
    return pd.DataFrame(
        [
            {
                "a": a,
                "b": b,
                "split": split,
                "t": x,
                "loss": 0.4 + (a + b) / 100 * x * (1 - x),
                "barrier": (a + b) / 400,
            }
            for split in splits
            for a in range(count)
            for b in range(a + 1, count)
            for x in t
        ]
    )


def paths(axes) -> int:
    return sum(len(lines.get_segments()) for lines in axes.collections if isinstance(lines, LineCollection))


def test_profiles_within_and_across_a_factor(tmp_path):
    groups = {i: "low" if i < 2 else "high" for i in range(4)}
    figure = profiles_figure(profiles(4), "Loss along paths", groups=groups, factor="learning_rate")
    figure.savefig(tmp_path / "figure.png")
    assert [paths(axes) for axes in figure.axes] == [6, 6]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["validation: 6 paths", "test: 6 paths"]
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["across learning_rate: 4 paths", "within learning_rate: 2 paths"]
    assert inside(figure)


@pytest.mark.parametrize(
    ("dropped", "label"), [([], "barrier of the path"), (["barrier"], "highest loss (nats per example)")]
)
def test_profiles_coloured_by_height(dropped, label, tmp_path):
    figure = profiles_figure(profiles(20, ("validation",)).drop(columns=dropped), "Loss along paths")
    figure.savefig(tmp_path / "figure.png")
    panel, scale = figure.axes
    assert paths(panel) == 190
    assert scale.get_ylabel() == label


def test_no_profiles_make_an_empty_figure(tmp_path):
    empty = pd.DataFrame({"a": [], "b": [], "split": [], "t": [], "loss": []})
    profiles_figure(empty, "nothing").savefig(tmp_path / "figure.png")
