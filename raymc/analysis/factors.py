"""Which factor matters: barriers explained by the factors in which their ends differ, and by distance."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from raymc.analysis.cells import above
from raymc.specs.errors import RaymcError

COLUMNS = (
    *("factor", "pairs_same", "pairs_differ", "mean_same", "mean_differ"),
    *("effect", "low", "high", "p_value", "explained"),
    *("effect_given_distance", "low_given_distance", "high_given_distance", "p_given_distance", "note"),
)
FEWEST = 4  # minima
_LEVEL = 0.05  # of the tests that intervals invert
_CELLS = 1 << 20  # of the permutations drawn at once: 8 MiB, held three times
_NEAR = 1e-3  # relative: less is left of a square than a difference of squares tells to the last digits
_ZERO = 1e-9  # relative: of a column that the others explain in full


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
    draws, exact = _permutations(size, permutations, seed)
    alone = _Regression(factors, heights, there, size)
    beside = _Regression(np.column_stack([factors, far]), heights, there, size) if far is not None else None
    whole, given = [alone.test(k) for k in range(len(names))], []
    if far is not None and beside is not None:
        given = [beside.test(k) for k in range(len(names) + 1)]
        whole.append(_Regression(far[:, None], heights, there, size).test(0))
    _draw([*whole, *given], draws, there, size)
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
        if row["least"] > _LEVEL:
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
        if np.abs(centred[there]).max() <= _ZERO * np.abs(heights[there]).max():  # all alike: rounding explains nothing
            centred = np.where(there, 0.0, centred)
        self.x, self.y, self.there, self.size = regressors, centred, there, size
        self.r2 = _r2(regressors[there], centred[there])

    def test(self, k: int) -> _Test:
        """Of regressor k."""
        return _Test(self.x[:, k], _with_one(np.delete(self.x, k, axis=1)), self.y, self.there, self.size)

    def explained(self, k: int) -> float:
        return self.r2 - _r2(np.delete(self.x, k, axis=1)[self.there], self.y[self.there])


class _Test:
    """Of a regressor beside others: x, y and `there` by cell, `others` cells x columns."""

    def __init__(self, x: np.ndarray, others: np.ndarray, y: np.ndarray, there: np.ndarray, size: int):
        basis = _basis(others[there])
        own = _cleared(x[there], basis)
        self.length, self.effect = float(np.linalg.norm(own)), math.nan
        self.separate = self.length > _ZERO * math.sqrt(len(own))
        if not self.separate:
            return
        rest, whole = _cleared(y[there], basis), float(np.linalg.norm(y[there]))
        if np.linalg.norm(rest) <= _ZERO * whole:  # the others explain all: rounding is no effect
            rest[:] = 0.0
        self.effect = float(own @ rest) / self.length**2
        rest -= self.effect * own
        if np.linalg.norm(rest) <= _ZERO * whole:  # a perfect fit: rounding is no evidence
            rest[:] = 0.0
        fit = np.linalg.lstsq(others[there], x[there], rcond=None)[0]
        i, j = above(size)
        self._square = np.zeros((size, size))
        self._square[i, j] = self._square[j, i] = x - others @ fit  # known for missing pairs too, as x is
        # cleared once more, so that what is drawn needn't be: the product with what is left of it is the same
        self._fixed = np.column_stack([_cleared(own, basis), _cleared(rest, basis), basis])
        self._products: list[np.ndarray] = []

    def add(self, places: np.ndarray) -> None:
        """Some permutations; `places`, of each: where in the flat square the value of each pair there is found."""
        if not self.separate:
            return
        drawn = self._square.take(places)
        products = drawn @ self._fixed
        squares = np.einsum("ij,ij->i", drawn, drawn)
        left = squares - (products[:, 2:] ** 2).sum(axis=1)
        near = left <= _NEAR * squares
        norms = np.sqrt(np.where(near, 0.0, left))
        norms[near] = np.linalg.norm(_cleared(drawn[near], self._fixed[:, 2:]), axis=1)
        self._products.append(products[:, :2] / np.where(norms > _ZERO, norms, np.inf)[:, None])

    def found(self, *names: str) -> dict[str, float]:
        """Coefficient, ends of its interval and p, under four names; the identity is one of the permutations.

        Also `least`: the least p that there can be, the share of permutations that leave the regressor as it is.
        """
        if not self.separate:
            return {**dict.fromkeys(names, math.nan), "least": math.nan}
        length, effect = self.length, self.effect
        # by permutation: the permuted regressor, of length 1, times the own one and the rest
        # At a true effect of effect + d, a permutation counts against d while |r - d c| >= |d| length
        c, r = np.concatenate(self._products).T
        c = np.where(np.abs(c) >= length * (1 - _ZERO), np.copysign(length, c), c)
        same = np.abs(c) == length  # it leaves the regressor as it is: counts against any d
        with np.errstate(divide="ignore", invalid="ignore"):
            up = np.where(same, np.inf, np.maximum(r / (length + c), -r / (length - c)))
            down = np.where(same, np.inf, np.maximum(-r / (length + c), r / (length - c)))
        rank = math.floor(_LEVEL * len(c) * (1 + _ZERO)) + 1
        low, high = effect - np.sort(down)[-rank], effect + np.sort(up)[-rank]
        p_value = float((np.abs(r + effect * c) >= abs(effect) * length * (1 - _ZERO)).mean())
        ends = [float(end) if math.isfinite(end) else math.nan for end in (low, high)]
        return {**dict(zip(names, (effect, *ends, p_value), strict=True)), "least": float(same.mean())}


def _draw(tests: Sequence[_Test], draws: np.ndarray, there: np.ndarray, size: int) -> None:
    """All permutations, some at a time: where their pairs lie is the same for every test."""
    i, j = (ends[there] for ends in above(size))
    chunk = max(1, _CELLS // len(i))
    for first in range(0, len(draws), chunk):
        order = draws[first : first + chunk]
        places = order.take(i, axis=1) * size
        places += order.take(j, axis=1)
        for test in tests:
            test.add(places)


def _cleared(x: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """What the others leave of x (last axis: pairs)."""
    return x - (x @ basis) @ basis.T


def _with_one(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x])


def _basis(x: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span those of x."""
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    return u[:, s > _ZERO * s[0]]


def _r2(x: np.ndarray, y: np.ndarray) -> float:
    basis = _basis(_with_one(x))
    total = float(((y - y.mean()) ** 2).sum())
    return 1 - float(((y - basis @ (basis.T @ y)) ** 2).sum()) / total if total > 0 else math.nan


def _permutations(size: int, count: int, seed: int) -> tuple[np.ndarray, bool]:
    """(permutations x size, the identity among them; whether they are all there are)."""
    if math.factorial(size) <= max(count, 720):
        return np.array(list(itertools.permutations(range(size)))), True
    rng = np.random.default_rng(seed)
    drawn = rng.permuted(np.tile(np.arange(size), (count, 1)), axis=1)
    return np.concatenate([np.arange(size)[None], drawn]), False


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
    if scale <= _ZERO * np.abs(far).max():
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
