"""Where two tasks trade places, on profiles whose crossings are known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from raymc.analysis.crossings import COLUMNS, crossings
from raymc.specs.errors import RaymcError

T = np.linspace(0, 1, 11)
PAIRS = {("a", "b"): ("nli", "sst")}


def rows(split: str, values: np.ndarray, t: np.ndarray = T, **fields: str) -> pd.DataFrame:
    names = {"a": "a", "b": "b", "curve": "linear", "space": "weights", "head": "path"} | fields
    return pd.DataFrame({**names, "split": split, "t": t, "loss": 2 - 3 * values, "accuracy": values})


def one(*frames: pd.DataFrame, metric: str = "accuracy", pairs: dict = PAIRS) -> pd.Series:
    found = crossings(pd.concat(frames), pairs, metric)
    assert list(found.columns) == list(COLUMNS)
    assert len(found) == 1
    return found.iloc[0]


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_two_straight_lines_cross_in_the_middle_whatever_their_ends(metric):
    found = one(rows("nli", 0.9 - 0.5 * T), rows("sst", 0.5 + 0.4 * T), metric=metric)
    assert (found.t_cross, found.t_half_source, found.t_half_target) == pytest.approx((0.5, 0.5, 0.5))


def test_a_step_crosses_where_it_rises():
    rise = np.clip((T - 0.2) / 0.2, 0, 1)  # from 0.2 to 0.4
    found = one(rows("nli", 0.9 - 0.5 * T, head="a"), rows("sst", 0.5 + 0.4 * rise, head="b"))
    assert found.t_half_target == pytest.approx(0.3)
    assert found.t_cross == pytest.approx(1 / 3)  # 1 - t = (t - 0.2) / 0.2
    assert (found.head_source, found.head_target) == ("a", "b")
    turned = one(
        rows("nli", (0.9 - 0.5 * T)[::-1], a="b", b="a", head="a"),
        rows("sst", (0.5 + 0.4 * rise)[::-1], a="b", b="a", head="b"),
    )
    names = ["a", "b", "t_cross", "t_half_source", "t_half_target"]
    assert turned[names].tolist() == pytest.approx(found[names].tolist())


def test_the_first_of_several_crossings_counts_and_the_points_may_differ():
    target = np.interp(T, [0, 0.2, 0.4, 1], [0, 0.9, 0.1, 1])
    source = np.interp(T, [0, 1], [1, 0])
    found = one(rows("nli", source), rows("sst", target))
    assert found.t_cross == pytest.approx(1 / 5.5)  # 4.5 t = 1 - t
    few = one(rows("nli", np.array([1.0, 0.0]), t=np.array([0.0, 1.0])), rows("sst", target))
    assert few.t_cross == pytest.approx(found.t_cross)


def test_ends_that_do_not_differ_have_no_crossing():
    found = one(rows("nli", np.full(11, 0.7)), rows("sst", 0.5 + 0.4 * T))
    assert math.isnan(found.t_cross)
    assert math.isnan(found.t_half_source)
    assert found.t_half_target == pytest.approx(0.5)


def test_of_many_paths_each_is_as_if_alone():
    random, frames = np.random.default_rng(0), []
    for a, b in ("ab", "ac", "bc"):
        for curve in ("linear", "bezier"):
            for split in ("nli", "sst"):
                t = np.linspace(0, 1, random.integers(4, 8))
                frames.append(rows(split, random.random(len(t)), t, a=a, b=b, curve=curve, head=split[0]))
    pairs = {("c", "a"): ("nli", "sst"), ("a", "b"): ("sst", "nli"), ("b", "c"): ("nli", "sst")}
    table = pd.concat(frames).sample(frac=1, random_state=0)
    found = crossings(table, pairs).set_index(["a", "b", "curve"])
    assert len(found) == 6
    for (a, b, curve), row in found.iterrows():
        own = [frame for frame in frames if {*frame["a"], *frame["b"]} == {a, b} and frame["curve"].iloc[0] == curve]
        pd.testing.assert_series_equal(one(*own, pairs={(a, b): pairs[a, b]})[row.index], row, check_names=False)


def test_paths_apart_and_faults():
    both = pd.concat([rows("nli", 1 - T), rows("sst", T)])
    bent = both.assign(curve="bezier")
    assert crossings(pd.concat([both, bent]), PAIRS)["curve"].tolist() == ["linear", "bezier"]
    assert crossings(both, {("a", "z"): ("nli", "sst")}).empty
    assert crossings(pd.concat([both, rows("nli", T, b="c")]), {("a", "c"): ("nli", "sst")}).empty
    with pytest.raises(RaymcError, match="no column f1 in the profiles; there are a, b"):
        crossings(both, PAIRS, "f1")
    with pytest.raises(RaymcError, match="no row set mnli in the profiles; there are nli, sst"):
        crossings(both, {("a", "b"): ("mnli", "sst")})
    with pytest.raises(RaymcError, match="heads path, a; keep one"):
        crossings(pd.concat([both, rows("nli", 1 - T, head="a")]), PAIRS)
