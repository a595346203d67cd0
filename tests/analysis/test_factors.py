"""Effects of factors against ordinary least squares and brute force; errors, power and coverage by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest

from raymc.analysis.factors import COLUMNS, factor_effects
from raymc.specs.errors import RaymcError


def sweep(
    levels: tuple[int, ...], effects: tuple[float, ...], seed: int = 0, noise: float = 1.0, poor: float = 0.0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A barriers table and the minima's values on a full grid; `effects` are added where the ends differ."""
    rng = np.random.default_rng(seed)
    points = list(itertools.product(*map(range, levels)))
    keys = [f"m{i}" for i in range(len(points))]
    values = pd.DataFrame(points, index=keys, columns=[f"f{k}" for k in range(len(levels))])
    a, rows = rng.normal(0, poor, len(keys)), []
    for i, j in itertools.combinations(range(len(keys)), 2):
        apart = np.not_equal(points[i], points[j])
        far = rng.normal() + apart.sum()
        rows.append((keys[i], keys[j], a[i] + a[j] + rng.normal(0, noise) + apart @ np.array(effects), far))
    return pd.DataFrame(rows, columns=["a", "b", "barrier_entezari", "distance_l2"]), values


def design(table: pd.DataFrame, values: pd.DataFrame) -> np.ndarray:
    of = [(values.loc[table["a"]].to_numpy() != values.loc[table["b"]].to_numpy()).astype(float)]
    return np.column_stack([np.ones(len(table)), *of])


def fit(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    found = np.linalg.lstsq(x, y, rcond=None)[0]
    return found, 1 - ((y - x @ found) ** 2).sum() / ((y - y.mean()) ** 2).sum()


@pytest.mark.parametrize("missing", [0, 4])
def test_effects_are_least_squares_with_and_without_distance(missing):
    table, values = sweep((2, 4), (1.5, 0.5))
    table = table.sample(frac=1, random_state=0).iloc[missing:]
    found = factor_effects(table, values, permutations=50)
    assert list(found.columns) == list(COLUMNS)
    assert found["factor"].tolist() == ["f0", "f1", "distance"]
    x, y = design(table, values), table["barrier_entezari"].to_numpy()
    far = table["distance_l2"].to_numpy()
    far = ((far - far.mean()) / far.std())[:, None]
    alone, r2 = fit(x, y)
    beside, r2_beside = fit(np.hstack([x, far]), y)
    np.testing.assert_allclose(found["effect"][:2], alone[1:])
    np.testing.assert_allclose(found["effect_given_distance"], beside[1:])
    np.testing.assert_allclose(found["effect"][2], fit(np.hstack([x[:, :1], far]), y)[0][1])
    drops = [r2 - fit(x[:, [0, 2]], y)[1], r2 - fit(x[:, [0, 1]], y)[1], r2_beside - r2]
    np.testing.assert_allclose(found["explained"], drops, atol=1e-12)
    assert (found.attrs["r2"], found.attrs["r2_given_distance"]) == pytest.approx((r2, r2_beside))
    assert (found.attrs["minima"], found.attrs["pairs"], found.attrs["missing"]) == (8, 28 - missing, missing)
    apart = x[:, 1] > 0
    assert found.loc[0, ["pairs_same", "pairs_differ"]].tolist() == [(~apart).sum(), apart.sum()]
    assert found.loc[0, ["mean_same", "mean_differ"]].tolist() == pytest.approx([y[~apart].mean(), y[apart].mean()])


def brute(table: pd.DataFrame, values: pd.DataFrame, effect: float = 0.0) -> float:
    """Double semi-partialling of f0 by the definition: t of the permuted residuals in the full model, all N!."""
    x, keys = design(table, values), list(values.index)
    y = table["barrier_entezari"].to_numpy() - effect * x[:, 1]
    others = x[:, [0, 2]]
    residual = x[:, 1] - others @ fit(others, x[:, 1])[0]
    square = pd.DataFrame(0.0, index=keys, columns=keys)
    for a, b, value in zip(table["a"], table["b"], residual, strict=True):
        square.loc[a, b] = square.loc[b, a] = value
    places = [(keys.index(a), keys.index(b)) for a, b in zip(table["a"], table["b"], strict=True)]
    cells = square.to_numpy()

    def t(order: tuple[int, ...]) -> float:
        full = np.column_stack([others, [cells[order[i], order[j]] for i, j in places]])
        coefficient, *_ = np.linalg.lstsq(full, y, rcond=None)
        variance = ((y - full @ coefficient) ** 2).sum() * np.linalg.pinv(full.T @ full)[2, 2]
        return abs(coefficient[2]) / math.sqrt(variance)

    found = [t(order) for order in itertools.permutations(range(len(keys)))]
    return float(np.mean(np.array(found) >= found[0] * (1 - 1e-9)))


def test_p_is_double_semi_partialling_over_all_permutations_and_the_interval_inverts_it():
    table, values = sweep((2, 3), (1.5, 0.5), seed=4)
    found = factor_effects(table, values, distance=None).iloc[0]
    assert found.p_value == pytest.approx(brute(table, values))
    assert factor_effects(table, values).attrs["exact"]
    for end in (found.low, found.high):
        inside, outside = found.effect + (end - found.effect) * np.array([0.999, 1.001])
        assert brute(table, values, inside) > 0.05 >= brute(table, values, outside)


def test_drawn_permutations_come_near_to_all():
    table, values = sweep((7,), (0.0,), seed=1)
    values = pd.DataFrame({"f0": [0, 0, 0, 0, 1, 1, 1]}, index=values.index)
    every = factor_effects(table, values, permutations=5040)
    drawn = factor_effects(table, values, permutations=3000, seed=3)
    assert (every.attrs["exact"], every.attrs["permutations"]) == (True, 5040)
    assert (drawn.attrs["exact"], drawn.attrs["permutations"]) == (False, 3000)
    np.testing.assert_allclose(drawn["p_value"], every["p_value"], atol=0.03)
    pd.testing.assert_frame_equal(drawn, factor_effects(table, values, permutations=3000, seed=3))


@pytest.mark.parametrize(("levels", "poor"), [((2, 4), 0.0), ((3, 3), 1.0)])
def test_a_factor_without_effect_beside_one_with_is_rarely_seen_and_intervals_cover(levels, poor):
    found = [
        factor_effects(*sweep(levels, (0.0, 2.0), i, poor=poor), distance=None, permutations=99, seed=i)
        for i in range(120)
    ]
    none, some = (pd.DataFrame([one.iloc[k] for one in found]) for k in (0, 1))
    assert (none["p_value"] <= 0.05).mean() <= 0.09  # 0.05 and two standard errors
    assert (some["p_value"] <= 0.05).mean() >= 0.9
    for frame, effect in ((none, 0.0), (some, 2.0)):
        missed = (frame["low"] > effect) | (frame["high"] < effect)
        assert 0.01 <= missed.mean() <= 0.09
        assert ((frame["low"] > 0) | (frame["high"] < 0)).equals(frame["p_value"] <= 0.05)


def test_an_effect_through_distance_vanishes_at_equal_distance():
    table, values = sweep((2, 5), (0.0, 0.0), noise=0.1, seed=2)
    table["barrier_entezari"] += 3 * table["distance_l2"]
    found = factor_effects(table, values, permutations=199).set_index("factor")
    assert found.loc["f0", "effect"] > 2
    assert abs(found.loc["f0", "effect_given_distance"]) < 0.2
    assert found.loc["distance", "effect_given_distance"] == pytest.approx(
        3 * table["distance_l2"].std(ddof=0), abs=0.1
    )
    assert found.loc["distance", "p_given_distance"] == 1 / 200
    assert "per standard deviation of distance_l2" in found.loc["distance", "note"]


def test_zipped_factors_are_one_row_and_those_that_never_or_always_differ_none():
    table, values = sweep((2, 3), (1.0, 0.5))
    values = values.assign(zipped=values["f1"].map({0: "x", 1: None, 2: "y"}), same=7, own=range(6))
    found = factor_effects(table, values)
    assert found["factor"].tolist() == ["f0", "f1 + zipped", "distance"]
    assert found.attrs["dropped"] == {"same": "differs in no pair", "own": "differs in every pair"}


def test_no_value_is_a_value_of_its_own():
    table, values = sweep((2, 3), (1.0, 0.5))
    none = values.assign(f0=values["f0"].map({0: None, 1: 1}).astype(object))
    nan = values.assign(f0=values["f0"].map({0: math.nan, 1: 1.0}))
    for other in (none, nan):
        pd.testing.assert_frame_equal(factor_effects(table, values), factor_effects(table, other))


def test_pairs_that_differ_in_one_factor_alone_do_not_separate_two():
    table, values = sweep((2, 3), (1.0, 0.5))
    one = table[design(table, values)[:, 1:].sum(axis=1) == 1]
    found = factor_effects(one, values, distance=None)
    assert found["effect"].isna().all()
    assert found["p_value"].isna().all()
    assert found["mean_differ"].notna().all()
    assert found["note"].str.contains("don't separate").all()


def test_four_minima_are_too_few_to_bound_an_effect():
    table, values = sweep((2, 2), (1.0, 0.0))
    found = factor_effects(table, values, distance=None).iloc[0]
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.p_value == 1.0
    assert found.note == "no test: with these 4 minima p_value can't be below 1"


def test_a_perfect_fit_and_equal_barriers():
    table, values = sweep((2, 4), (1.0, 0.5), noise=0)
    found = factor_effects(table, values, distance=None)
    assert found[["effect", "low", "high"]].to_numpy() == pytest.approx(np.array([[1.0] * 3, [0.5] * 3]))
    assert (found["p_value"] < 0.05).all()
    flat = factor_effects(table.assign(barrier_entezari=0.0, distance_l2=2.0), values)
    assert flat["factor"].tolist() == ["f0", "f1"]
    assert flat["p_value"].tolist() == [1.0, 1.0]
    assert flat.attrs["dropped"] == {"distance_l2": "the same in every pair"}
    flat = factor_effects(table.assign(barrier_entezari=0.1), values)
    assert flat["p_value"].tolist() == flat["p_given_distance"].tolist() == [1.0, 1.0, 1.0]  # not of rounding
    own = factor_effects(table, values, "distance_l2")
    assert own["effect_given_distance"][:2].tolist() == [0.0, 0.0]
    assert own["p_given_distance"][:2].tolist() == [1.0, 1.0]


def test_faults():
    table, values = sweep((2, 3), (1.0, 0.5))
    with pytest.raises(RaymcError, match="no column height in the barriers; there are a, b"):
        factor_effects(table, values, "height")
    with pytest.raises(RaymcError, match="are of curve linear, bezier; take one"):
        factor_effects(pd.concat([table.assign(curve="linear"), table.assign(curve="bezier")]), values)
    with pytest.raises(RaymcError, match="a pair has several rows"):
        factor_effects(pd.concat([table, table]), values)
    with pytest.raises(RaymcError, match="no values of m5, an end of a pair"):
        factor_effects(table, values.iloc[:5])
    with pytest.raises(RaymcError, match="3 minima with pairs; it takes 4"):
        factor_effects(table[table["a"].isin(["m0", "m1"]) & table["b"].isin(["m1", "m2"])], values)
    with pytest.raises(RaymcError, match="no factor differs"):
        factor_effects(table, values[[]])
