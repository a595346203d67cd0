"""The tables of a sweep as data frames, assembled from what the store holds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from raymc.landscape import barriers
from raymc.landscape.multiple import holm
from raymc.report.values import INTERVALS, PLACES, VALUES
from raymc.specs.results import Evaluation, Profile

MINIMA = ("key", "uri", "name", "trajectory")
BARRIERS = ("a", "b", "curve", "split", "space", "head", "chosen_on", "differs", "same_trajectory", "below_floor")
SUMMARY = {  # column: what it is, in the column's order
    "curve": "kind of path",
    "split": "row set",
    "space": "what is interpolated",
    "differs": "in what the ends of the pairs differ",
    "same_trajectory": "whether the ends are snapshots of one run",
    "pairs": "pairs that count",
    "left_out": "pairs that don't, as an end is below the floor",
    "barrier_mean": "Entezari barrier (nats), of the pairs that count",
    "barrier_median": "the same",
    "barrier_max": "the same",
    "significant": "pairs of these whose barrier is above 0 (p_holm < 0.05)",
    "frankle_mean": "Frankle barrier (error rate)",
    "distance_mean": "L2 distance (parameters)",
    "ends": "the first metric (accuracy, as a fraction), mean over both ends",
    "middle": "the same half-way",
    "lowest": "the same at its lowest on the path",
}
ALONG = ("ends", "middle", "lowest")


@dataclass(frozen=True)
class MinimumRow:
    """What the table of minima says of one, but for its scores; `values`: by axis, None where it has none."""

    key: str
    uri: str
    name: str
    trajectory: str
    values: Mapping[str, Any]
    below_floor: bool = False


@dataclass(frozen=True)
class PairNote:
    """What the table of barriers says of a pair, beside its profile."""

    differs: str
    same_trajectory: bool = False
    below_floor: bool = False


def minima_frame(
    minima: Sequence[MinimumRow],
    axes: Sequence[str],
    evaluations: Mapping[tuple[str, str], Evaluation],
    splits: Sequence[str],
    metrics: Sequence[str],
) -> pd.DataFrame:
    """key, uri, name, trajectory, one column per axis, SPLIT_loss (nats) and SPLIT_METRIC (fractions), below_floor.

    `splits`: names of row sets; `evaluations`: by (key, row set), NaN where there is none. Rows in the order given; a
    value of an axis that isn't a scalar (a whole section) is JSON text.
    """
    columns: dict[str, Any] = {name: [getattr(one, name) for one in minima] for name in MINIMA}
    columns |= {axis: _column([one.values.get(axis) for one in minima]) for axis in axes}
    for split in splits:
        found = [evaluations.get((one.key, split)) for one in minima]
        columns[f"{split}_loss"] = [one.loss if one else math.nan for one in found]
        for name in metrics:
            columns[f"{split}_{name}"] = [one.metrics[name] if one else math.nan for one in found]
    columns["below_floor"] = np.array([one.below_floor for one in minima], dtype=bool)
    return pd.DataFrame(columns)


def profiles_frame(profiles: Iterable[Profile], metrics: Sequence[str]) -> pd.DataFrame:
    """a, b, curve, split, space, head, t, loss (nats) and one column per metric (fractions): a row per point."""
    of_path = ("a", "b", "curve", "split", "space", "head")
    columns: dict[str, list[Any]] = {name: [] for name in (*of_path, "t", "loss", *metrics)}
    for profile in profiles:
        count = len(profile.t)
        for name in of_path:
            columns[name] += [getattr(profile, name)] * count
        columns["t"] += profile.t
        columns["loss"] += profile.loss
        for name in metrics:
            columns[name] += profile.metrics[name]
    return pd.DataFrame(columns)


def barriers_frame(
    profiles: Iterable[Profile], notes: Callable[[str, str], PairNote], accuracy: str = "accuracy"
) -> pd.DataFrame:
    """One row per pair, curve and row set: BARRIERS, VALUES, NAME_low and NAME_high of INTERVALS, precision.

    `notes`: of a pair, by its two keys. `accuracy`: the metric that Frankle's error rate is 1 minus.
    """
    rows = []
    for profile in profiles:
        note = notes(profile.a, profile.b)
        error = [1.0 - value for value in profile.metrics[accuracy]]
        nan = (math.nan, math.nan)
        rows.append(
            {
                **{name: getattr(profile, name) for name in ("a", "b", "curve", "split", "space", "head", "chosen_on")},
                "differs": note.differs,
                "same_trajectory": note.same_trajectory,
                "below_floor": note.below_floor,
                "barrier_entezari": barriers.entezari(profile.t, profile.loss),
                "barrier_ainsworth": barriers.ainsworth(profile.t, profile.loss),
                "barrier_frankle": barriers.frankle(profile.t, error),
                "t_peak": barriers.peak(profile.t, profile.loss),
                "distance_l2": profile.distance_l2,
                "cosine": profile.cosine,
                "saddle": barriers.saddle(profile.t, profile.loss),
                "convexity_gap": barriers.convexity_gap(profile.t, profile.loss),
                "loss_integral": barriers.integral(profile.length, profile.loss),
                "loss_mean": barriers.mean_loss(profile.t, profile.loss),
                "better": barriers.better(profile.t, profile.loss),
                "agreement_ends": profile.metrics["agreement_b"][0],
                "jensen_shannon_ends": profile.metrics["jensen_shannon_b"][0],
                "p_value": profile.p_value,
                "length": profile.length[-1],
                "refined_barrier": barriers.between_points(profile.t, profile.loss),
                "t_refined": barriers.peak_between_points(profile.t, profile.loss),
                "bound": profile.bound,
                "passes": profile.passes,
                "precision": profile.precision,
                **{
                    f"{name}_{side}": profile.intervals.get(name, nan)[i]
                    for name in INTERVALS
                    for i, side in enumerate(("low", "high"))
                },
            }
        )
    bounds = [f"{name}_{side}" for name in INTERVALS for side in ("low", "high")]
    frame = pd.DataFrame(rows, columns=[*BARRIERS, *VALUES, *bounds, "precision"])
    frame["p_holm"] = math.nan
    for _, some in frame.groupby(["curve", "split", "below_floor"]):  # weak pairs don't make the others less sure
        frame.loc[some.index, "p_holm"] = holm(some["p_value"].tolist())
    return frame.astype({"same_trajectory": bool, "below_floor": bool, "p_holm": float})


def summary_frame(
    table: pd.DataFrame,
    profiles: pd.DataFrame | None = None,
    metric: str = "accuracy",
    groups: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    """Conclusions from the barriers table: columns as in SUMMARY, a row per curve, row set, space and difference.

    Pairs with an end below the floor count in `left_out` alone; where no other is left, the numbers are NaN. With the
    profiles table, `ends`, `middle` and `lowest` are means over the pairs of a metric at both ends, half-way (at the
    point nearest to it) and at its lowest. `groups`: axis name to each minimum's value, to part the rows by too.
    """
    by = ["curve", "split", "space", "differs", "same_trajectory", *(groups or {})]
    table = table.assign(**{axis: _shared(table, values) for axis, values in (groups or {}).items()})
    along = _along(profiles, metric) if profiles is not None and metric in profiles.columns else None
    if along is not None and len(table):
        table = table.join(along, on=["a", "b", "curve", "split"])
    rows = []
    for group, pairs in table.groupby(by, sort=False):
        counted = pairs[~pairs["below_floor"]]
        rows.append(
            {
                **dict(zip(by, group, strict=True)),
                "pairs": len(counted),
                "left_out": len(pairs) - len(counted),
                "barrier_mean": counted["barrier_entezari"].mean(),
                "barrier_median": counted["barrier_entezari"].median(),
                "barrier_max": counted["barrier_entezari"].max(),
                "significant": int((counted["p_holm"] < 0.05).sum()),
                "frankle_mean": counted["barrier_frankle"].mean(),
                "distance_mean": counted["distance_l2"].mean(),
                **{name: counted[name].mean() for name in ALONG if name in counted.columns},
            }
        )
    names = [*by, *(name for name in SUMMARY if name not in by)]
    return pd.DataFrame(rows, columns=[name for name in names if along is not None or name not in ALONG])


def _along(profiles: pd.DataFrame, metric: str) -> pd.DataFrame:
    """By pair, curve and row set: a metric's mean over both ends, half-way, and at its lowest."""
    keys = ["a", "b", "curve", "split"]
    ordered = profiles.sort_values("t", kind="stable")
    found = ordered.groupby(keys)[metric]
    centre = ordered.assign(off=(ordered["t"] - 0.5).abs()).sort_values("off", kind="stable")
    return pd.DataFrame(
        {
            "ends": (found.first() + found.last()) / 2,
            "middle": centre.groupby(keys)[metric].first(),
            "lowest": found.min(),
        }
    )


def _shared(table: pd.DataFrame, values: Mapping[str, Any]) -> list[str]:
    """What both ends of each pair have, as text; where they differ, both."""
    ends = [(_text(values[a]), _text(values[b])) for a, b in zip(table["a"], table["b"], strict=True)]
    return [a if a == b else " | ".join(sorted((a, b))) for a, b in ends]


def _text(value: Any) -> str:
    return "-" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)


def matrix(
    table: pd.DataFrame, keys: Sequence[str], curve: str, split: str, value: str, floor: bool = False
) -> pd.DataFrame:
    """A value of the barriers table as a symmetric len(keys) x len(keys) frame; NaN on the diagonal and where missing.

    Missing are pairs that aren't selected or aren't there yet; with `floor`, also those with an end below the floor.

    For t_peak and t_refined the cell (i, j) is measured from row i: t from a to b in the table, 1 - t mirrored.
    """
    place = {key: i for i, key in enumerate(keys)}
    cells = np.full((len(place), len(place)), np.nan)
    chosen = table[(table["curve"] == curve) & (table["split"] == split)]
    if floor:
        chosen = chosen[~chosen["below_floor"]]
    for a, b, height in zip(chosen["a"], chosen["b"], chosen[value], strict=True):
        if a in place and b in place:
            cells[place[a], place[b]] = height
            cells[place[b], place[a]] = 1.0 - height if value in PLACES else height
    return pd.DataFrame(cells, index=list(keys), columns=list(keys))


def _column(values: Sequence[Any]) -> Any:
    """An axis's values as a column that parquet takes: whole numbers stay so beside None, unlike kinds are JSON."""
    scalar = all(value is None or isinstance(value, (str, int, float, bool)) for value in values)
    kinds = {float if type(value) is int else type(value) for value in values if value is not None}
    if not scalar or len(kinds) > 1:
        return [value if value is None or isinstance(value, str) else _json(value) for value in values]
    if None in values and all(value is None or type(value) is int for value in values) and kinds:
        return pd.array(list(values), dtype="Int64")
    return list(values)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
