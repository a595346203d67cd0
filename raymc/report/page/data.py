"""What a page's script works with: the pairs' values and paths as blocks of numbers, and what they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from raymc.report.page import packing
from raymc.report.page.packing import Block
from raymc.report.trees import tree_of
from raymc.report.values import INTERVALS, PLACES, VALUES

GROUPS = {  # what the values of VALUES are of, in the order of the page's switch
    "Loss": (
        *("barrier_entezari", "barrier_ainsworth", "convexity_gap", "refined_barrier", "saddle", "loss_integral"),
        *("loss_mean", "better", "t_peak", "t_refined"),
    ),
    "Error rate": ("barrier_frankle",),
    "Agreement": ("agreement_ends", "jensen_shannon_ends"),
    "Distance": ("distance_l2", "cosine", "length"),
    "Test": ("p_holm", "p_value"),
    "Cost": ("passes", "bound"),
}
ALIKE = ("barrier_entezari", "barrier_ainsworth", "convexity_gap", "refined_barrier")  # share one colour scale
FROM_LOWEST = ("saddle", "loss_integral", "loss_mean", "cosine", "agreement_ends")  # colours don't start at 0
TO_ONE = ("p_value", "p_holm", "t_peak", "t_refined")
TREES = (*ALIKE, "barrier_frankle", "distance_l2", "length", "jensen_shannon_ends")  # others: of the Entezari barrier
OF_PAIR = ("space", "head", "chosen_on", "differs", "same_trajectory", "below_floor", "precision")
METRICS = {  # column of profiles: (title, unit)
    "loss": ("loss", "nats"),
    "accuracy": ("accuracy", "fraction"),
    "f1_macro": ("macro-F1", "fraction"),
    "calibration_error": ("calibration error", "fraction"),
    "agreement_a": ("agreement with a", "share of rows"),
    "agreement_b": ("agreement with b", "share of rows"),
    "jensen_shannon_a": ("divergence from a", "nats"),
    "jensen_shannon_b": ("divergence from b", "nats"),
}
_ENDS = ("a", "b", "curve", "split", "space", "head", "t")


@dataclass(frozen=True)
class Tables:
    """A sweep's three tables, as in raymc.report.frames, and how they are called."""

    minima: pd.DataFrame
    barriers: pd.DataFrame
    profiles: pd.DataFrame
    curves: Sequence[str]
    splits: Sequence[str]
    axes: Sequence[str]
    clusters: Mapping[tuple[str, str], Mapping[str, int]] = field(default_factory=dict)  # by curve and split, of a key

    @cached_property
    def places(self) -> list[tuple[str, str]]:
        """Curves with row sets, in order, of which there is a pair."""
        found = set(self.barriers[["curve", "split"]].drop_duplicates().itertuples(index=False, name=None))
        return [(curve, split) for curve in self.curves for split in self.splits if (curve, split) in found]

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The minima that are in a pair, in order."""
        paired = {*self.barriers["a"].unique(), *self.barriers["b"].unique()}
        return self.minima[self.minima["key"].isin(paired)].reset_index(drop=True)


def facts_and_blocks(tables: Tables) -> tuple[dict[str, Any], dict[str, Block]]:
    """What JSON says of the blocks, and these: pairs.a, pairs.b, PLACE.v.VALUE, PLACE.c.COLUMN, PLACE.p.METRIC."""
    shown, places = tables.shown, tables.places
    number = {key: i for i, key in enumerate(shown["key"])}
    first, second = _numbers(tables.barriers["a"], number), _numbers(tables.barriers["b"], number)
    pairs = pd.unique(first * len(number) + second)  # each as its cell of the matrix
    a, b = np.divmod(pairs, max(len(number), 1))
    blocks = {
        "pairs.a": packing.codes(a),
        "pairs.b": packing.codes(b),
    }
    values = [name for name in VALUES if name in tables.barriers and len(_finite(tables.barriers[[name]]))]
    bounds = [f"{name}_{side}" for name in INTERVALS for side in ("low", "high") if f"{name}_{side}" in tables.barriers]
    metrics = [str(name) for name in tables.profiles.columns if name not in _ENDS]
    categories: dict[str, list[str]] = {}
    grids, trees = [], []
    many = tables.profiles.shape[0] * len(metrics) > packing.MANY
    decimals = packing.COARSE if many else packing.FINE
    by_place = dict(iter(tables.barriers.groupby(["curve", "split"])))
    paths = dict(iter(tables.profiles.groupby(["curve", "split"])))
    for index, place in enumerate(places):
        table = by_place[place]
        rows = _rows_of(table, number, pairs)
        for name in (*values, *bounds):
            column = np.full(len(pairs), np.nan)
            column[rows] = table[name].to_numpy(dtype=float, na_value=np.nan)
            blocks[f"{index}.v.{name}"] = packing.floats(column)
        for name in (name for name in OF_PAIR if name in table):
            found, said = pd.factorize(table[name])
            known = categories.setdefault(name, [])
            known += [str(text) for text in said if str(text) not in known]
            column = np.zeros(len(pairs), dtype=np.int64)
            column[rows] = np.array([known.index(str(text)) + 1 for text in said])[found]  # 0: no such pair
            blocks[f"{index}.c.{name}"] = packing.codes(column)
        path = paths.get(place)
        grid = np.unique(np.round(path["t"].to_numpy(dtype=float), 9)) if path is not None else np.zeros(0)
        grids.append(grid.tolist())
        if path is not None:
            cells = _rows_of(path, number, pairs), np.searchsorted(grid, np.round(path["t"].to_numpy(dtype=float), 9))
            for name in metrics:
                along = np.full((len(pairs), len(grid)), np.nan)
                along[cells] = path[name].to_numpy(dtype=float, na_value=np.nan)
                blocks[f"{index}.p.{name}"] = packing.steps(along, decimals)
        trees.append(dict(_trees(table, list(shown["key"]), (a[rows], b[rows]), values)))
    facts = {
        "minima": _minima(tables, shown),
        "pairs": len(pairs),
        "places": [
            {
                "curve": curve,
                "split": split,
                "grid": grid,
                "trees": tree,
                "clusters": [tables.clusters.get((curve, split), {}).get(key) for key in shown["key"]],
            }
            for (curve, split), grid, tree in zip(places, grids, trees, strict=True)
        ],
        "values": [_value(tables.barriers, name, values) for name in values],
        "groups": [group for group, names in GROUPS.items() if any(name in values for name in names)],
        "intervals": [name for name in INTERVALS if f"{name}_low" in bounds],
        "metrics": [_metric(name) for name in metrics],
        "categories": categories,
        "decimals": decimals,
        "blocks": [block.as_dict(name) for name, block in blocks.items()],
    }
    return facts, blocks


def _numbers(keys: pd.Series, number: Mapping[str, int]) -> np.ndarray:
    codes, found = pd.factorize(keys)
    return np.array([number[key] for key in found], dtype=np.int64)[codes]


def _rows_of(table: pd.DataFrame, number: Mapping[str, int], pairs: np.ndarray) -> np.ndarray:
    """The pair, by its place in `pairs`, of each row of a table."""
    order = np.argsort(pairs)
    wanted = _numbers(table["a"], number) * len(number) + _numbers(table["b"], number)
    return order[np.searchsorted(pairs, wanted, sorter=order)]


def _minima(tables: Tables, shown: pd.DataFrame) -> dict[str, Any]:
    """Of those in the matrix. `number`: of a minimum, its line in the table of minima, from 1 on."""
    line = {key: i for i, key in enumerate(tables.minima["key"], start=1)}
    axes = []
    for axis in tables.axes:
        column = shown[axis]
        texts = ["-" if pd.isna(value) else _text(value) for value in column]
        if len(set(texts)) < 2:
            continue
        kinds = dict.fromkeys(texts)
        if pd.api.types.is_numeric_dtype(column):
            kinds = dict.fromkeys(
                texts[i] for i in np.argsort(column.to_numpy(dtype=float, na_value=np.inf), kind="stable")
            )
        rank = {text: i for i, text in enumerate(kinds)}
        axes.append({"name": axis, "values": texts, "ranks": [rank[text] for text in texts]})
    return {
        "keys": list(shown["key"]),
        "names": [str(name) for name in shown["name"]],
        "numbers": [line[key] for key in shown["key"]],
        "weak": [bool(value) for value in shown["below_floor"]],
        "axes": axes,
    }


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(barriers: pd.DataFrame, name: str, values: Sequence[str]) -> dict[str, Any]:
    """A value's words and the ends of its colours over all curves and row sets."""
    title, unit, definition = VALUES[name]
    cells = barriers[[other for other in ALIKE if other in values] if name in ALIKE else [name]]
    known = _finite(cells)
    lowest, highest = float(known.min()), float(known.max())
    if name in TO_ONE:
        low, high = 0.0, 1.0
    else:
        low, high = (lowest if name in FROM_LOWEST else min(0.0, lowest)), highest
    return {
        "name": name,
        "title": title,
        "unit": unit,
        "definition": definition,
        "group": next(group for group, names in GROUPS.items() if name in names),
        "low": low,
        "high": high if high > low else low + 1.0,
        "fromLowest": name in FROM_LOWEST,
        "toOne": name in TO_ONE,
        "mirrored": name in PLACES,
        "interval": name in INTERVALS,
    }


def _finite(cells: pd.DataFrame) -> np.ndarray:
    found = cells.to_numpy(dtype=float, na_value=np.nan)
    return found[np.isfinite(found)]


def _metric(name: str) -> dict[str, str]:
    title, unit = METRICS.get(name, (name.replace("_", " "), "fraction"))
    return {"name": name, "title": title, "unit": unit}


def _trees(
    table: pd.DataFrame, keys: list[str], ends: tuple[np.ndarray, np.ndarray], values: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """By value, of those that have a tree."""
    for name in (name for name in TREES if name in values):
        cells = np.full((len(keys), len(keys)), np.nan)
        cells[ends] = cells[ends[::-1]] = table[name].to_numpy(dtype=float, na_value=np.nan).clip(min=0.0)
        tree = tree_of(pd.DataFrame(cells))
        if tree is not None:
            yield name, {"leaves": tree.leaves, "merges": tree.merges, "leftOut": tree.left_out}


def as_json(body: Any) -> str:
    """JSON that can stand inside an HTML script element: no character in it ends that or begins a comment."""
    text = json.dumps(body, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
