"""Where a path between two tasks stops solving the one and begins to solve the other."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from raymc.specs.errors import RaymcError

COLUMNS = (
    *("a", "b", "curve", "space", "head_source", "head_target", "metric", "source_split", "target_split"),
    *("t_cross", "t_half_source", "t_half_target"),
)


def crossings(
    profiles: pd.DataFrame, pairs: Mapping[tuple[str, str], tuple[str, str]], metric: str = "accuracy"
) -> pd.DataFrame:
    """The t at which two tasks trade places, a row per pair, curve and space; columns as in COLUMNS.

    `profiles`: a, b, curve, split, space, head, t and `metric` (any column, the loss too). `pairs`: by (a, b), the row
    sets of a's task (source) and of b's (target); the path is measured from a: a pair that the table holds as (b, a) is
    turned round. With m the metric on a row set, both are scaled by their ends:

        source(t) = (m(t) - m(1)) / (m(0) - m(1))   from 1 to 0
        target(t) = (m(t) - m(0)) / (m(1) - m(0))   from 0 to 1

    t_cross: the first t at which target reaches source; t_half_source: the first t at which source has fallen to 1/2;
    t_half_target: the first t at which target has risen to 1/2 (the half-rise of a task's boundary); all in [0, 1],
    linear between points. NaN where a metric's ends don't differ (for t_cross, either's). Pairs with no
    profile on either row set have no row. Raises RaymcError for a column or row set that isn't there.
    """
    if metric not in profiles.columns:
        raise RaymcError(f"crossings: no column {metric} in the profiles; there are {', '.join(profiles.columns)}")
    known = set(profiles["split"].unique())
    for split in dict.fromkeys(split for both in pairs.values() for split in both):
        if split not in known:
            raise RaymcError(f"crossings: no row set {split} in the profiles; there are {', '.join(sorted(known))}")
    paths = _paths(profiles, metric)
    found = []
    for (a, b), (source_split, target_split) in pairs.items():
        turned = (a, b) not in paths
        for (curve, space), on in paths.get((b, a) if turned else (a, b), {}).items():
            splits = [split for split in (source_split, target_split) if split in on]
            ends = [_seen(on[split], split, turned, (a, b)) for split in splits]
            if len(ends) < 2:
                continue
            heads = [str(on[split].heads[0]) for split in splits]
            names = (a, b, curve, space, *heads, metric, source_split, target_split)
            found.append((*names, *_places(*ends[0], *ends[1])))
    return pd.DataFrame(found, columns=list(COLUMNS))


class _Path(NamedTuple):
    """On one row set, from a: t, the metric there, and the heads used, each once."""

    t: np.ndarray
    values: np.ndarray
    heads: np.ndarray


def _paths(profiles: pd.DataFrame, metric: str) -> dict[tuple[str, str], dict[tuple[str, str], dict[str, _Path]]]:
    """By (a, b), by (curve, space) and by row set, each in the order of the table."""
    of = ["a", "b", "curve", "space", "split"]
    group = profiles.groupby(of, sort=False).ngroup().to_numpy()  # -1: one of them is missing
    t, values = (profiles[name].to_numpy(dtype=float) for name in ("t", metric))
    order = np.lexsort((t, group))
    order = order[group[order] >= 0]
    t, values = t[order], values[order]
    codes, heads = pd.factorize(profiles["head"].iloc[order], use_na_sentinel=False)
    heads = np.asarray(heads, dtype=object)
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    found: dict[tuple[str, str], dict[tuple[str, str], dict[str, _Path]]] = {}
    keys = (profiles[name].iloc[order[first]].tolist() for name in of)
    for a, b, curve, space, split, low, high in zip(*keys, first, [*first[1:], len(order)], strict=True):
        one = _Path(t[low:high], values[low:high], heads[list(dict.fromkeys(codes[low:high].tolist()))])
        found.setdefault((a, b), {}).setdefault((curve, space), {})[split] = one
    return found


def _seen(path: _Path, split: str, turned: bool, pair: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """(t, values) of a path from its source."""
    if len(path.heads) > 1:
        raise RaymcError(
            f"crossings: {split} of {pair[0]} - {pair[1]} is there with heads {', '.join(path.heads)}; keep one"
        )
    return (1.0 - path.t[::-1], path.values[::-1]) if turned else (path.t, path.values)


def _places(
    t_source: np.ndarray, source: np.ndarray, t_target: np.ndarray, target: np.ndarray
) -> tuple[float, float, float]:
    """(t_cross, t_half_source, t_half_target)."""
    lost, gained = _scaled(source[::-1])[::-1], _scaled(target)
    t = np.union1d(t_source, t_target)
    ahead = np.interp(t, t_target, gained) - np.interp(t, t_source, lost)
    return first_reach(t, ahead, 0.0), first_reach(t_source, 0.5 - lost, 0.0), first_reach(t_target, gained, 0.5)


def _scaled(values: np.ndarray) -> np.ndarray:
    """From 0 at the first point to 1 at the last; NaN where the ends don't differ."""
    rise = values[-1] - values[0]
    return np.full(len(values), np.nan) if rise == 0 else (values - values[0]) / rise


def first_reach(t: np.ndarray, values: np.ndarray, level: float) -> float:
    """The first t at which values, linear between points, reach `level`; NaN where they don't, or aren't finite."""
    if not np.isfinite(values).all():
        return math.nan
    reached = np.flatnonzero(values >= level)
    if not len(reached):
        return math.nan
    last = int(reached[0])
    if last == 0:
        return float(t[0])
    low, high = values[last - 1], values[last]
    return float(t[last - 1] + (t[last] - t[last - 1]) * (level - low) / (high - low))
