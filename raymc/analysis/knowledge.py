"""Knowledge along a path from one task to another: which training rows are forgotten where, and which are learned.

Qin et al. 2022, section on knowledge (Q3), with the cartography of Swayamdipta et al. 2020 ("Dataset Cartography").
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from raymc.specs.errors import RaymcError
from raymc.store.rows import RowTable

Kind = Literal["forgotten", "learned"]
KINDS: tuple[Kind, ...] = ("forgotten", "learned")
LETTERS = {"forgotten": "F", "learned": "M"}  # F_1, F_2, ... and M_1, M_2, ... in the paper
MEASURES = ("confidence", "variability")
_SAME_POINT = 1e-9  # 1 - t of a path that is walked backwards is t of another but for rounding


@dataclass(frozen=True)
class Crossing:
    """A path between a minimum of the source task and one of the target task, on training rows of both.

    A pair's t runs from its smaller key to its larger one, so that the source may lie at either end.
    """

    source: str  # key of the minimum of the source task
    target: str
    on_source: RowTable  # the path on the source task's training rows
    on_target: RowTable  # the same path, at the same points, on the target's
    reverse: bool  # whether t = 0 is the target

    @property
    def t(self) -> tuple[float, ...]:
        """The points as seen from the source, which is at 0."""
        return tuple(1 - t for t in reversed(self.on_source.t)) if self.reverse else self.on_source.t


def cartography(tables: Sequence[RowTable]) -> pd.DataFrame:
    """How a training run took each of its rows: index `row` (number in the split), each column a fraction.

    confidence: mean over the snapshots of the probability of the gold label; variability: its standard deviation
    (population); correctness: share of the snapshots that give the gold label. `tables`: endpoint tables of two or more
    snapshots of ONE run on its training split, evenly over its training, its end among them.

    Tables number and label the rows as the split does, all of them: of a run on a subset keep the lines of the rows it
    saw (`training_rows` has their numbers); rows that label noise gave a wrong label count by the right one. Raises
    RaymcError for fewer than two snapshots, tables without probabilities, and tables of different rows.
    """
    if len(tables) < 2:
        raise RaymcError(
            f"cartography takes two or more snapshots of a training run, not {len(tables)}: make train.snapshot an axis"
        )
    first, gold_probability, right = tables[0], [], []
    for table in tables:
        if table.probabilities is None or len(table.t) != 1:
            raise RaymcError("cartography takes the rows of endpoints, with their probabilities, not of paths")
        same = table.labels == first.labels and np.array_equal(table.row, first.row)
        if not same or not np.array_equal(table.gold, first.gold):
            raise RaymcError("cartography: the snapshots of a run were not scored on the same rows")
        gold_probability.append(table.probabilities[np.arange(len(table.gold)), table.gold].astype(np.float64))
        right.append(table.predicted[0] == table.gold)
    return pd.DataFrame(
        {
            "confidence": np.mean(gold_probability, axis=0),
            "variability": np.std(gold_probability, axis=0),
            "correctness": np.mean(right, axis=0),
        },
        index=pd.Index(first.row, name="row"),
    )


def sets(table: RowTable, kind: Kind, reverse: bool = False) -> dict[int, np.ndarray]:
    """Row numbers, ascending, of F_k (forgotten) or M_k (learned) for k = 1 to P - 1 along a path of P points.

    F_k: wrong at point k, right at k - 1; M_k: right at k, wrong at k - 1. A row that comes back is in several. Points
    count from t = 0, with `reverse` from t = 1.
    """
    right = table.predicted == table.gold
    before, after = (right[::-1] if reverse else right)[:-1], (right[::-1] if reverse else right)[1:]
    if kind not in KINDS:
        raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind}")
    moved = before & ~after if kind == "forgotten" else after & ~before
    return {k: table.row[one] for k, one in enumerate(moved, start=1)}


def knowledge(crossings: Sequence[Crossing], maps: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """F_k of the source task and M_k of the target task with their cartography; a row per set and k.

    `crossings`: one pair, or those of a matrix, all from the same source task to the same target task, at the same
    points. `maps`: by key of a minimum, the cartography of the run that it ended, on the rows of its own task; rows
    that it lacks count nowhere. Columns:

    - set, k, t: "forgotten" or "learned"; the point, and its t as seen from the source
    - rows, total: rows in the set, mean over the pairs and sum; pairs: those in which it isn't empty
    - confidence, variability: fractions; mean over the pairs' means over the set's rows, each pair alike (NaN: empty)
    - confidence_se, variability_se: their standard errors over minima (NaN for one pair); see `standard_error`

    Raises RaymcError where there is no crossing, points differ, or a map is missing or of other rows.
    """
    found = _measured(crossings, maps)
    lines = []
    for kind in KINDS:
        for k in range(1, len(crossings[0].t)):
            groups = [pair[kind][pair[kind]["k"] == k] for pair in found]
            sizes = [len(group) for group in groups]
            line = {"set": kind, "k": k, "t": crossings[0].t[k], "rows": float(np.mean(sizes)), "total": sum(sizes)}
            line["pairs"] = sum(size > 0 for size in sizes)
            for name in MEASURES:
                means = np.array([group[name].mean() if len(group) else math.nan for group in groups])
                line |= dict(zip((name, f"{name}_se"), _pooled(means, crossings), strict=True))
            lines.append(line)
    return pd.DataFrame(lines)


def trends(crossings: Sequence[Crossing], maps: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Whether confidence and variability rise or fall along the path; a row per set and measure. As `knowledge`.

    - set, measure; first, last: the measure of the first and the last set that isn't empty, as `knowledge` has it
    - of_means: Spearman's rank correlation of k with the sets' means: 1 rises at every step, -1 falls; NaN below 3 sets
    - of_rows: that of k with the single rows' measure, mean over pairs: the same sign with more behind it
    - of_rows_se: its standard error over minima; p_value: of one pair, that of no correlation (two-sided, t; rows taken
      as independent); NaN for several pairs
    """
    table, found = knowledge(crossings, maps), _measured(crossings, maps)
    lines = []
    for kind in KINDS:
        whole = table[(table["set"] == kind) & (table["pairs"] > 0)]
        for name in MEASURES:
            each = [_spearman(pair[kind]["k"], pair[kind][name]) for pair in found]
            of_rows, error = _pooled(np.array([rho for rho, _ in each]), crossings)
            lines.append(
                {
                    "set": kind,
                    "measure": name,
                    "first": whole[name].iloc[0] if len(whole) else math.nan,
                    "last": whole[name].iloc[-1] if len(whole) else math.nan,
                    "of_means": _spearman(whole["k"], whole[name])[0],
                    "of_rows": of_rows,
                    "of_rows_se": error,
                    "p_value": each[0][1] if len(each) == 1 else math.nan,
                }
            )
    return pd.DataFrame(lines)


def standard_error(values: np.ndarray, sources: Sequence[str], targets: Sequence[str]) -> float:
    """Of the mean of one value a pair, where pairs share minima; NaN for fewer than two pairs.

    Two-way clustered by source and by target (Cameron, Gelbach and Miller 2011): V_source + V_target - V_pair, each
    sum over its groups of (sum of residuals)^2 / n^2, times groups / (groups - 1), and no less than its parts. Where no
    minimum is shared this is the usual one; where all pairs share an end, it speaks of the choice of the other alone.
    """
    count = len(values)
    if count < 2:
        return math.nan
    residuals = values - values.mean()

    def variance(groups: Sequence[object]) -> float:
        sums = pd.Series(residuals).groupby(pd.Series(list(groups))).sum()
        return float((sums**2).sum()) / count**2 * len(sums) / (len(sums) - 1) if len(sums) > 1 else 0.0

    by_source, by_target = variance(sources), variance(targets)
    both = by_source + by_target - variance(range(count))
    return math.sqrt(max(by_source, by_target, both))


def _measured(crossings: Sequence[Crossing], maps: Mapping[str, pd.DataFrame]) -> list[dict[Kind, pd.DataFrame]]:
    """Of each crossing, the members of its sets: k, confidence, variability; a row that comes back is there twice."""
    if not crossings:
        raise RaymcError("knowledge: no path leads from a minimum of the one task to one of the other")
    for one in crossings:
        if one.on_source.t != one.on_target.t:
            raise RaymcError(f"knowledge: {one.source}-{one.target} was scored at other points on the other task")
        if len(one.t) != len(crossings[0].t) or not np.allclose(one.t, crossings[0].t, rtol=0, atol=_SAME_POINT):
            raise RaymcError("knowledge: the paths were scored at different points")
    return [dict(_members(one, maps)) for one in crossings]


def _members(one: Crossing, maps: Mapping[str, pd.DataFrame]) -> Iterator[tuple[Kind, pd.DataFrame]]:
    of: tuple[tuple[Kind, str, RowTable], ...] = (
        ("forgotten", one.source, one.on_source),
        ("learned", one.target, one.on_target),
    )
    for kind, key, table in of:
        if key not in maps:
            raise RaymcError(f"knowledge: the run of minimum {key} has no cartography: make train.snapshot an axis")
        known = maps[key]
        if not np.isin(table.row, known.index).any():
            raise RaymcError(f"knowledge: the cartography of minimum {key} has none of the path's rows")
        steps = sets(table, kind, one.reverse)
        numbers = np.concatenate(list(steps.values())) if steps else np.array([], dtype=np.int32)
        places = known.index.get_indexer(pd.Index(numbers))
        columns = {"k": np.repeat(list(steps), [len(rows) for rows in steps.values()])}
        columns |= {name: known[name].to_numpy()[places] for name in MEASURES}
        yield kind, pd.DataFrame(columns)[places >= 0]


def _pooled(values: np.ndarray, crossings: Sequence[Crossing]) -> tuple[float, float]:
    """(mean, standard error) of one value a crossing, of those that have one."""
    there = np.flatnonzero(~np.isnan(values)).tolist()
    if not there:
        return math.nan, math.nan
    sources, targets = ([getattr(crossings[i], end) for i in there] for end in ("source", "target"))
    return float(values[there].mean()), standard_error(values[there], sources, targets)


def _spearman(k: pd.Series, values: pd.Series) -> tuple[float, float]:
    """(rank correlation, two-sided p), NaN below three values or where one side is constant."""
    if len(k) < 3 or k.nunique() < 2 or values.nunique() < 2:
        return math.nan, math.nan
    found: Any = stats.spearmanr(k, values)
    return float(found.statistic), float(found.pvalue)
