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
    known = set(profiles["split"])
    if choose == report:
        raise RaymcError(f"best points: chosen and reported on {choose}; report on a row set that had no part in it")
    for split in (choose, report):
        if split not in known:
            raise RaymcError(f"best points: no row set {split} in the profiles; there are {', '.join(sorted(known))}")
    if by not in names:
        raise RaymcError(f"best points: no column {by} in the profiles; there are {', '.join(names)}")
    on = {
        split: {path: rows.sort_values("t") for path, rows in profiles[profiles["split"] == split].groupby([*PATH])}
        for split in (choose, report)
    }
    found = []
    for path, rows in on[choose].items():
        other = on[report].get(path)
        if other is None:
            continue
        t = rows["t"].to_numpy(dtype=float)
        if not np.array_equal(t, other["t"].to_numpy(dtype=float)):
            raise RaymcError(f"best points: {path[0]} - {path[1]} has other points on {choose} than on {report}")
        score = _sign(by) * rows[by].to_numpy(dtype=float)
        end = 0 if score[0] >= score[-1] else len(t) - 1
        best = int(np.argmax(score))
        best = best if score[best] > score[end] else end
        row = {
            **dict(zip(PATH, path, strict=True)),
            "t": t[best],
            "better_end": "a" if end == 0 else "b",
            "chosen": rows[by].iloc[best],
        }
        for name in names:
            values = other[name].to_numpy(dtype=float)
            row |= {name: values[best], f"{name}_a": values[0], f"{name}_b": values[-1]}
            row[f"{name}_gain"] = _sign(name) * (values[best] - values[end]) + 0.0  # no -0
        found.append(row)
    columns = [*PATH, "t", "better_end", "chosen"]
    columns += [f"{name}{part}" for name in names for part in ("", "_a", "_b", "_gain")]
    return pd.DataFrame(found, columns=columns)


def _sign(name: str) -> int:
    return -1 if name.startswith(LOWER) else 1
