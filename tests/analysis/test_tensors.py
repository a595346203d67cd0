"""Blocks of a sweep side by side, with names that repeat over them."""

from __future__ import annotations

import itertools

import pandas as pd
import pytest

from raymc.analysis.tensors import axis_names, tensor
from raymc.specs.errors import RaymcError

AXES = ("train.steps", "task", "seeds.order")
POINTS = list(itertools.product((10, 20), ("nli", None), (1, 2, 3)))


def minima() -> pd.DataFrame:
    columns = dict(zip(AXES, zip(*POINTS, strict=True), strict=True))
    keys = [f"key{i:02}" for i in range(12)]
    fixed = {"key": keys, "uri": "u", "name": "n", "trajectory": "r"}
    scores = {"val_loss": 0.5, "val_accuracy": 0.5, "val_calibration_error": 0.5, "below_floor": False}
    return pd.DataFrame({**fixed, **columns, **scores})


def barriers() -> pd.DataFrame:
    pairs = itertools.combinations(range(12), 2)
    rows = [(f"key{i:02}", f"key{j:02}", c, "val", i + j / 100, 0.25) for i, j in pairs for c in ("linear", "bezier")]
    return pd.DataFrame(rows, columns=["a", "b", "curve", "split", "barrier_entezari", "t_peak"])


def test_axes_lie_before_the_scores():
    assert axis_names(minima()) == list(AXES)
    of_a_task = minima().rename(columns=lambda name: name.replace("val_", "nli.val_"))
    assert axis_names(of_a_task) == list(AXES)


def test_every_place_holds_the_same_block_and_the_shared_pairs_alone():
    found = tensor(barriers(), minima(), ["train.steps", "task"], "barrier_entezari")
    assert list(found.index.names) == ["curve", "split", "train.steps", "task", "a", "b"]
    assert found.index.is_unique
    assert len(found) == 2 * 4 * 6
    for (steps, task), start in {(10, "nli"): 0, (10, "-"): 3, (20, "nli"): 6, (20, "-"): 9}.items():
        block = found["barrier_entezari"].loc["linear", "val", steps, task].unstack("b")
        assert list(block.index) == list(block.columns) == ["order=1", "order=2", "order=3"]
        assert block.loc["order=1", "order=3"] == block.loc["order=3", "order=1"] == start + (start + 2) / 100


def test_over_nothing_it_is_the_matrix_and_the_peak_is_seen_from_the_first():
    found = tensor(barriers(), minima(), [], "t_peak")
    assert len(found) == 2 * 12 * 11
    one = found["t_peak"].loc["linear", "val"]
    assert one["steps=10 task=nli order=1", "steps=10 task=nli order=2"] == 0.25
    assert one["steps=10 task=nli order=2", "steps=10 task=nli order=1"] == 0.75


def test_minima_of_one_name_are_told_apart_by_their_keys():
    found = tensor(barriers(), minima().drop(columns="seeds.order"), ["task", "train.steps"], "t_peak")
    assert sorted(found.index.get_level_values("a").unique()) == [f"base key{i:02}" for i in range(12)]


def test_faults():
    with pytest.raises(RaymcError, match=r"no axis steps; there are train\.steps, task, seeds\.order"):
        tensor(barriers(), minima(), ["steps"], "t_peak")
    with pytest.raises(RaymcError, match="no column height in the barriers; there are a, b"):
        tensor(barriers(), minima(), ["task"], "height")
    with pytest.raises(RaymcError, match="several rows"):
        tensor(pd.concat([barriers(), barriers()]), minima(), ["task"], "t_peak")
