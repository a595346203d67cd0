"""Which factor matters: barriers explained by the factors in which their ends differ, and by distance."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from raymc.analysis.cells import above
from raymc.analysis.regressor import LEVEL, ZERO, RegressorTest, basis_of, drawn_permutations, permute
from raymc.specs.errors import RaymcError

COLUMNS = (
    *("factor", "pairs_same", "pairs_differ", "mean_same", "mean_differ"),
    *("effect", "low", "high", "p_value", "explained"),
    *("effect_given_distance", "low_given_distance", "high_given_distance", "p_given_distance", "note"),
)
FEWEST = 4  # minima


def factor_effects(
    barriers: pd.DataFrame,
    values: pd.DataFrame,
    value: str = "barrier_entezari",
    distance: str | None = "distance_l2",
    permutations: int = 1999,
    seed: int = 0,
) -> pd.DataFrame:
    """How much higher a pair's value is if its ends differ in a factor; a row per factor, then `distance`.

    `barriers`: a, b, `value` and `distance`, of one curve and row set, each pair once; missing pairs and NaN don't
    count. Of snapshots of one run give one: minima that share a run can't stand for each other. `values`: a row per
    minimum (index: key; those without a pair are left out), a column per factor, hashable or None (a value of its own).

    Columns. pairs_same, pairs_differ, mean_same, mean_differ: the raw counts and means. effect: coefficient of multiple
    regression on distance matrices (Lichstein 2007), value ~ 1 + sum over factors of [ends differ in it]: what is added
    (nats, for a barrier in nats) where the ends differ in this factor, the others held; effects add up, without
    interactions. explained: by how much R^2 drops without the factor. ..._given_distance: with the distance as a
    regressor too, for distance may be the way in which a factor works: the first is its whole effect, the second
    what is left at equal distance. The row `distance`: per standard deviation of the distance; `effect` is of the
    distance alone, without factors, given_distance is beside all factors, `explained` what it adds to these.

    p_value: two-sided, by permuting minima (rows and columns at once), never cells: double semi-partialling (Dekker et
    al. 2007) of the partial correlation: the regressor's residuals on the others are permuted. All N! permutations
    where these are no more than `permutations` or 720, else (1 + those as large) / (1 + `permutations`). Not corrected
    for the number of factors.

    low, high: 95 % interval: all effects that this test, of value - effect x regressor, doesn't reject at 5 %. So it is
    over minima, and 0 lies outside where p_value is 0.05 or less. NaN where N is too small to bound the effect.

    Factors with the same pairs apart (zipped axes) are one row, "a + b". A factor that never or always differs has no
    row but an entry in attrs["dropped"] (factor: why). What the pairs can't separate has NaN and a `note`. attrs also:
    value, distance, minima, pairs, missing, r2, r2_given_distance, permutations, exact, seed. Raises RaymcError for
    fewer than FEWEST minima, several curves, row sets or rows a pair, absent columns, and where no factor varies.
    """
    table = _checked(barriers, values, value, distance)
    paired = {*table["a"].unique(), *table["b"].unique()}
    keys = [key for key in values.index if key in paired]
    size = len(keys)
    if size < FEWEST:
        raise RaymcError(f"factor effects: {size} minima with pairs; it takes {FEWEST} or more")
    there, heights, far = _cells(table, keys, value, distance)
    columns, dropped = _indicators(values.loc[keys], there)
    if not columns:
        raise RaymcError("factor effects: no factor differs in some pairs and not in others; add minima or axes")
    names = list(columns)
    factors = np.column_stack([columns[name] for name in names])
    draws, exact = drawn_permutations(size, permutations, seed)
    alone = _Regression(factors, heights, there, size)
    beside = _Regression(np.column_stack([factors, far]), heights, there, size) if far is not None else None
    whole, given = [alone.test(k) for k in range(len(names))], []
    if far is not None and beside is not None:
        given = [beside.test(k) for k in range(len(names) + 1)]
        whole.append(_Regression(far[:, None], heights, there, size).test(0))
    permute([*whole, *given], draws, there, size)
    rows = []
    for k, name in enumerate(names):
        apart = there & (columns[name] > 0)
        same = there & (columns[name] == 0)
        row = {"factor": name, "pairs_same": int(same.sum()), "pairs_differ": int(apart.sum())}
        row |= {"mean_same": float(heights[same].mean()), "mean_differ": float(heights[apart].mean())}
        if given:
            row |= given[k].found(*COLUMNS[10:14])
        row |= whole[k].found("effect", "low", "high", "p_value") | {"explained": alone.explained(k)}
        row["note"] = "the pairs there are don't separate it from the others" if math.isnan(row["effect"]) else ""
        if row["least"] > LEVEL:
            row["note"] = f"no test: with these {size} minima p_value can't be below {row['least']:.2g}"
        rows.append(row)
    if distance and far is None:
        dropped[distance] = "the same in every pair"
    if beside is not None:
        row = {"factor": "distance", "pairs_same": 0, "pairs_differ": int(there.sum())}
        row |= {"mean_same": math.nan, "mean_differ": float(heights[there].mean())}
        row |= whole[-1].found("effect", "low", "high", "p_value")
        row |= given[-1].found(*COLUMNS[10:14]) | {"explained": beside.explained(len(names))}
        unit = float(table[distance].std(ddof=0))
        rows.append(row | {"note": f"per standard deviation of {distance} ({unit:.4g}); effect: without factors"})
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame.attrs = {
        "value": value,
        "distance": distance,
        "minima": size,
        "pairs": int(there.sum()),
        "missing": int((~there).sum()),
        "r2": alone.r2,
        "r2_given_distance": beside.r2 if beside else math.nan,
        "permutations": len(draws) - (not exact),
        "exact": exact,
        "seed": seed,
        "dropped": dropped,
    }
    return frame


class _Regression:
    """value ~ 1 + regressors over the pairs that are there. `regressors`: cells x columns; least squares."""

    def __init__(self, regressors: np.ndarray, heights: np.ndarray, there: np.ndarray, size: int):
        centred = heights - heights[there].mean()
        if np.abs(centred[there]).max() <= ZERO * np.abs(heights[there]).max():  # all alike: rounding explains nothing
            centred = np.where(there, 0.0, centred)
        self.x, self.y, self.there, self.size = regressors, centred, there, size
        self.r2 = _r2(regressors[there], centred[there])

    def test(self, k: int) -> RegressorTest:
        """Of regressor k."""
        return RegressorTest(self.x[:, k], _with_one(np.delete(self.x, k, axis=1)), self.y, self.there, self.size)

    def explained(self, k: int) -> float:
        return self.r2 - _r2(np.delete(self.x, k, axis=1)[self.there], self.y[self.there])


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x])


def _r2(x: np.ndarray, y: np.ndarray) -> float:
    basis = basis_of(_with_one(x))
    total = float(((y - y.mean()) ** 2).sum())
    return 1 - float(((y - basis @ (basis.T @ y)) ** 2).sum()) / total if total > 0 else math.nan


def _checked(barriers: pd.DataFrame, values: pd.DataFrame, value: str, distance: str | None) -> pd.DataFrame:
    """The rows that count."""
    for name in ("a", "b", value, *([distance] if distance else [])):
        if name not in barriers.columns:
            raise RaymcError(
                f"factor effects: no column {name} in the barriers; there are {', '.join(barriers.columns)}"
            )
    for name in ("curve", "split", "space", "head"):
        found = barriers[name].unique() if name in barriers.columns else []
        if len(found) > 1 and name in ("curve", "split"):
            raise RaymcError(f"factor effects: the barriers are of {name} {', '.join(map(str, found))}; take one")
    if not values.index.is_unique:
        raise ValueError("a row of values per minimum")
    table = barriers.dropna(subset=[value, *([distance] if distance else [])])
    strange = sorted({*table["a"].unique(), *table["b"].unique()} - set(values.index))
    if strange:
        raise RaymcError(f"factor effects: no values of {strange[0]}, an end of a pair ({len(strange)} such minima)")
    ends = [tuple(sorted(pair)) for pair in zip(table["a"], table["b"], strict=True)]
    if len(set(ends)) < len(ends):
        raise RaymcError("factor effects: a pair has several rows; keep one space and one head")
    return table


def _cells(
    table: pd.DataFrame, keys: list[str], value: str, distance: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """By cell above the diagonal: whether it is there, its value, its standardised distance (0 where missing)."""
    place = {key: i for i, key in enumerate(keys)}
    rows = np.array([place[key] for key in table["a"]]), np.array([place[key] for key in table["b"]])

    def spread(column: np.ndarray) -> np.ndarray:
        square = np.full((len(keys), len(keys)), np.nan)
        square[rows] = square[rows[::-1]] = column
        return square[above(len(keys))]

    heights = spread(table[value].to_numpy(dtype=float))
    there = ~np.isnan(heights)
    if distance is None:
        return there, heights, None
    far = table[distance].to_numpy(dtype=float)
    scale = far.std()
    if scale <= ZERO * np.abs(far).max():
        return there, heights, None
    return there, heights, np.nan_to_num(spread((far - far.mean()) / scale), nan=0.0)


def _indicators(values: pd.DataFrame, there: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(name of a row: 1.0 where the ends of a cell differ in it, factor that has no row: why)."""
    i, j = above(len(values))
    merged: dict[bytes, list[str]] = {}
    columns: dict[bytes, np.ndarray] = {}
    dropped = {}
    for name in values.columns:
        known: dict[object, int] = {}
        codes = np.array([known.setdefault(_level(one), len(known)) for one in values[name]])
        differs = (codes[i] != codes[j]).astype(float)
        if not differs[there].any() or differs[there].all():
            dropped[str(name)] = "differs in " + ("every pair" if differs[there].any() else "no pair")
            continue
        mark = differs[there].tobytes()
        merged.setdefault(mark, []).append(str(name))
        columns.setdefault(mark, differs)
    return {" + ".join(names): columns[mark] for mark, names in merged.items()}, dropped


def _level(value: object) -> object:
    """A value to compare by; None and NaN are one value, and 1 is not True."""
    missing = value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
    return ("none",) if missing else (isinstance(value, bool), value)
