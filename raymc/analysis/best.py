"""The best point of a path, chosen on one row set and reported on another."""

from __future__ import annotations

import numpy as np
import pandas as pd

from raymc.specs.errors import RaymcError

PATH = ("a", "b", "curve", "space", "head")
LOWER = (
    "loss",
    "calibration_error",
    "jensen_shannon",
)  # of these less is better, and of columns that begin so; of others more is


def best_points(profiles: pd.DataFrame, choose: str, report: str, by: str = "loss") -> pd.DataFrame:
    """The point of each path with the best `by` on row set `choose`, scored on row set `report`; a row per path.

    `profiles`: a, b, curve, split, space, head, t, then loss (nats) and metrics (fractions). Both row sets have the
    same points t; paths that are only on one are left out. A point in between counts only if it is better than both
    ends; of equal ones an end wins, then the smaller t.

    Columns: a, b, curve, space, head; t; better_end (a or b, by `by` on `choose`; a where equal); chosen (`by` there
    on `choose`); then of the loss and every metric on `report`: NAME at t, NAME_a and NAME_b at the ends, and
    NAME_gain over the better end: positive is better, 0 where t is that end. No figure of `report` enters the choice.
    Raises RaymcError where both row sets are one, where one or the column isn't there, and where the points differ.
    """
    names = [name for name in profiles.columns if name not in (*PATH, "split", "t")]
    known = set(profiles["split"].unique())
    if choose == report:
        raise RaymcError(f"best points: chosen and reported on {choose}; report on a row set that had no part in it")
    for split in (choose, report):
        if split not in known:
            raise RaymcError(f"best points: no row set {split} in the profiles; there are {', '.join(sorted(known))}")
    if by not in names:
        raise RaymcError(f"best points: no column {by} in the profiles; there are {', '.join(names)}")
    columns = [*PATH, "t", "better_end", "chosen"]
    columns += [f"{name}{part}" for name in names for part in ("", "_a", "_b", "_gain")]
    paths, t = profiles.groupby([*PATH]).ngroup().to_numpy(), profiles["t"].to_numpy(dtype=float)
    rows = {split: np.flatnonzero((profiles["split"] == split).to_numpy() & (paths >= 0)) for split in (choose, report)}
    shared = np.intersect1d(paths[rows[choose]], paths[rows[report]])
    if not len(shared):
        return pd.DataFrame([], columns=columns)
    on, other = (some[np.isin(paths[some], shared)] for some in rows.values())
    on, other = (some[np.lexsort((t[some], paths[some]))] for some in (on, other))  # path by path, along it
    of = _first_apart(paths, t, on, other)
    if of is not None:
        a, b = profiles["a"].iloc[of], profiles["b"].iloc[of]
        raise RaymcError(f"best points: {a} - {b} has other points on {choose} than on {report}")
    first = np.flatnonzero(np.diff(paths[on], prepend=-1))
    last = np.append(first[1:], len(on)) - 1
    score = _sign(by) * profiles[by].to_numpy(dtype=float)[on]
    end = np.where(score[first] >= score[last], first, last)
    best = _first_best(score, first, end)
    found: dict[str, object] = {name: profiles[name].iloc[on[first]].array for name in PATH}
    found |= {
        "t": t[on[best]],
        "better_end": np.where(end == first, "a", "b"),
        "chosen": profiles[by].iloc[on[best]].array,
    }
    for name in names:
        values = profiles[name].to_numpy(dtype=float)[other]
        found |= {name: values[best], f"{name}_a": values[first], f"{name}_b": values[last]}
        found[f"{name}_gain"] = _sign(name) * (values[best] - values[end]) + 0.0  # no -0
    return pd.DataFrame(found, columns=columns)


def _first_apart(paths: np.ndarray, t: np.ndarray, on: np.ndarray, other: np.ndarray) -> int | None:
    """A row of the first path whose points differ between two row sets; `on`, `other`: their rows, in order."""
    size = min(len(on), len(other))
    one, two = on[:size], other[:size]
    apart = np.flatnonzero((paths[one] != paths[two]) | (t[one] != t[two]))
    if len(apart):
        at = apart[0]
        return int(min(on[at], other[at], key=lambda row: paths[row]))
    return int(max(on, other, key=len)[size]) if len(on) != len(other) else None


def _first_best(score: np.ndarray, first: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Of each path, which begins at `first`, the first of its highest scores, if higher than at `end`, else `end`."""
    top = np.maximum.reduceat(score, first)  # NaN where a score is: no point is better then
    of = np.repeat(np.arange(len(first)), np.diff(first, append=len(score)))
    at = np.flatnonzero(score == top[of])
    better = np.flatnonzero(top > score[end])
    path, place = np.unique(of[at], return_index=True)
    best = end.copy()
    best[better] = at[place[np.searchsorted(path, better)]]
    return best


def _sign(name: str) -> int:
    return -1 if name.startswith(LOWER) else 1
