"""Intervals of a sweep's barriers at any level, from the rows that its store keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raymc.connectivity.kept import path_rows
from raymc.specs.errors import RaymcError

if TYPE_CHECKING:
    import pandas as pd

    from raymc.sweep.results import Sweep


def intervals(sweep: Sweep, level: float, curve: str, split: str) -> pd.DataFrame:
    """a, b, then NAME_low and NAME_high of each barrier as in raymc.landscape.bootstrap, p_value; a row per pair.

    Raises RaymcError for a level outside (0, 1) and pairs whose rows aren't kept.
    """
    import numpy as np
    import pandas as pd

    from raymc.landscape.bootstrap import uncertainty

    if not 0.0 < level < 1.0:
        raise RaymcError(f"an interval's level is between 0 and 1, as 0.95, not {level:g}")
    table, rows = sweep.barriers(), []
    table = table[(table["curve"] == curve) & (table["split"] == split)]
    for a, b in zip(table["a"], table["b"], strict=True):
        kept = path_rows(sweep.connections, a, b, curve, split)
        if kept is None:
            raise RaymcError(f"{a} - {b}: its rows aren't kept; connectivity.rows: true and `raymc run` make them")
        doubt = uncertainty(kept.t, kept.loss.astype(np.float64), kept.terms, kept.predicted != kept.gold, level=level)
        bounds = {
            f"{name}_{side}": x
            for name, two in doubt.intervals.items()
            for side, x in zip(("low", "high"), two, strict=True)
        }
        rows.append({"a": a, "b": b, **bounds, "p_value": doubt.p_value})
    return pd.DataFrame(rows)
