"""A sweep's matrices over the values of axes: N x N x (factor, snapshot, task)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from raymc.specs.errors import RaymcError
from raymc.specs.naming import point_name

_NO_AXES = ("key", "uri", "name", "trajectory", "below_floor")
_MARK = "_calibration_error"  # every row set has it beside SPLIT_loss


def axis_names(minima: pd.DataFrame) -> list[str]:
    """The axes among the columns of a minima table: those before the first SPLIT_loss."""
    known = set(minima.columns)  # a row set's name may hold dots, as axes do
    scores = [i for i, name in enumerate(minima.columns) if name.endswith("_loss") and f"{name[:-5]}{_MARK}" in known]
    return [name for name in minima.columns[: min(scores, default=None)] if name not in _NO_AXES]


def tensor(barriers: pd.DataFrame, minima: pd.DataFrame, over: Sequence[str], value: str) -> pd.DataFrame:
    """A value of the barriers table by curve, row set, the axes `over` and two minima: one column, unique index.

    Index levels: curve, split, each axis of `over` (its value, which both ends share: pairs whose ends differ in it are
    left out), a, b. The minima are named by their values on the other axes, so that the same N x N block stands at
    every place of the tensor; where two minima of a place have the same name, the first 8 digits of their keys follow.
    Both (a, b) and (b, a) are there, t_peak measured from a. No value (None) is "-". `.to_xarray()` gives the dense
    tensor, NaN where there is no pair and on the diagonal. Raises RaymcError for an axis or a column that isn't there.
    """
    axes = axis_names(minima)
    for name in over:
        if name not in axes:
            raise RaymcError(f"tensor: no axis {name}; there are {', '.join(axes) or 'none'}")
    if value not in barriers.columns:
        raise RaymcError(f"tensor: no column {value} in the barriers; there are {', '.join(barriers.columns)}")
    rows = minima.set_index("key")
    place = {key: tuple(_plain(rows.at[key, axis]) for axis in over) for key in rows.index}
    names = _names(rows, [axis for axis in axes if axis not in over], place)
    records = []
    for a, b, curve, split, height in zip(*(barriers[c] for c in ("a", "b", "curve", "split", value)), strict=True):
        if a in place and b in place and place[a] == place[b]:
            back = 1.0 - height if value in ("t_peak", "t_refined") else height
            records.append((curve, split, *place[a], names[a], names[b], height))
            records.append((curve, split, *place[a], names[b], names[a], back))
    levels = ["curve", "split", *over, "a", "b"]
    frame = pd.DataFrame(records, columns=[*levels, value]).set_index(levels)
    if not frame.index.is_unique:
        raise RaymcError("tensor: a pair has several rows for one curve and row set; keep one space and head")
    return frame.sort_index(key=lambda level: level.map(_order(level)))


def _names(rows: pd.DataFrame, axes: Sequence[str], place: dict[str, tuple[Any, ...]]) -> dict[str, str]:
    names = {key: point_name({axis: _plain(rows.at[key, axis]) for axis in axes}) for key in rows.index}
    taken = Counter((place[key], name) for key, name in names.items())
    return {key: name if taken[place[key], name] == 1 else f"{name} {key[:8]}" for key, name in names.items()}


def _plain(value: Any) -> Any:
    return "-" if pd.isna(value) else value


def _order(level: pd.Index) -> dict[Any, int]:
    """Numbers by size, then text by the alphabet; a level may hold both."""
    kinds = sorted(set(level), key=lambda one: (isinstance(one, str), one))
    return {one: i for i, one in enumerate(kinds)}
