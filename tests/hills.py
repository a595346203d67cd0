"""A sweep whose paths are hills of known heights: every number of its tables has a closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raymc.report.values import INTERVALS, VALUES
from raymc.specs.naming import name_of
from raymc.specs.sweep import SweepSpec
from raymc.store.store import Store
from raymc.sweep.check import trials_by_key
from raymc.sweep.results import Sweep, write_sweep

BACKBONE = {"builtin": "grammar-bert", "steps": 2, "hidden_size": 16, "heads": 2, "intermediate_size": 32}
METRICS = ("accuracy", "f1_macro", "calibration_error")


def height(i: int, j: int, seeds: tuple[int, int], curve: str, split: str) -> float:
    """Of the hill between minima i and j of two pre-training seeds, in nats; none within a seed."""
    base = 0.0 if seeds[0] == seeds[1] else 0.5 + 0.01 * ((i + j) % 20) + 0.001 * ((i * j) % 7)
    return base * (0.5 if curve != "linear" else 1.0) * (0.75 if split == "test" else 1.0)


def hills(
    storage: Path,
    orders: int = 3,
    name: str = "hills",
    splits: tuple[str, ...] = ("validation", "test"),
    curves: tuple[str, ...] = ("linear", "spherical"),
    points: int = 5,
    missing: tuple[tuple[int, int], ...] = (),
    weak: tuple[int, ...] = (),
    failures: tuple[dict[str, str], ...] = (),
    **fields: Any,
) -> Sweep:
    """Two pre-training seeds of so many data orders, all pairs but `missing` (by place); t of the peak is a half."""
    spec = SweepSpec.model_validate(
        {
            "name": name,
            "model": {"backbone": BACKBONE},
            "task": {"dataset": {"builtin": "grammar", "train_rows": 40}, "max_length": 32},
            "axes": {"model.backbone.seed": [1, 2], "seeds.order": list(range(1, orders + 1))},
            "connectivity": {"curves": list(curves), "points": points, "splits": list(splits)},
            **fields,
        }
    )
    trials = trials_by_key(spec)
    keys = list(trials)
    names = [name_of(point) for point in trials.values()]
    seed = [int(point.values["model.backbone.seed"]) for point in trials.values()]
    loss = {key: 0.25 + 0.001 * i for i, key in enumerate(keys)}
    minima = pd.DataFrame({"key": keys, "uri": [f"{storage}/minima/{key}" for key in keys], "name": names})
    minima["trajectory"] = keys
    for axis in spec.axis_names:
        minima[axis] = [point.values[axis] for point in trials.values()]
    for split in splits:
        minima[f"{split}_loss"] = list(loss.values())
        for metric in METRICS:
            minima[f"{split}_{metric}"] = 0.875
    minima["below_floor"] = [i in weak for i in range(len(keys))]

    i, j = np.triu_indices(len(keys), 1)
    kept = [one for one in zip(i.tolist(), j.tolist(), strict=True) if one not in missing]
    pairs = [(x, y) if keys[x] < keys[y] else (y, x) for x, y in kept]  # a < b
    t = np.linspace(0, 1, points)
    barriers, profiles = [], []
    for curve in curves:
        for split in splits:
            high = np.array([height(x, y, (seed[x], seed[y]), curve, split) for x, y in pairs])
            ends = {"a": [keys[x] for x, _ in pairs], "b": [keys[y] for _, y in pairs]}
            first, last = (np.array([loss[key] for key in ends[end]]) for end in ("a", "b"))
            table = pd.DataFrame({**ends, "curve": curve, "split": split, "space": "weights", "head": "path"})
            table["chosen_on"], table["same_trajectory"] = "", False
            same = [seed[x] == seed[y] for x, y in pairs]
            table["differs"] = ["seeds.order" if one else "model.backbone.seed, seeds.order" for one in same]
            table["below_floor"] = [x in weak or y in weak for x, y in pairs]
            for value in VALUES:
                table[value] = high
            table["t_peak"] = np.where(high > 0, 0.5, 0.0)
            table["distance_l2"], table["cosine"], table["passes"], table["bound"] = (
                10 + high,
                0.875,
                float(points),
                0.0,
            )
            for value in INTERVALS:
                table[f"{value}_low"], table[f"{value}_high"] = high * 0.5, high * 1.5
            table["p_value"] = np.where(high > 0, 0.0005, 1.0)
            table["p_holm"] = np.minimum(1.0, table["p_value"] * len(table))
            table["precision"] = "fp32"
            barriers.append(table)
            chord = np.outer(first, 1 - t) + np.outer(last, t)
            along = {end: np.repeat(ends[end], points) for end in ends}
            path = pd.DataFrame({**along, "curve": curve, "split": split, "space": "weights", "head": "path"})
            path["t"], path["loss"] = np.tile(t, len(pairs)), (chord + np.outer(high, 4 * t * (1 - t))).ravel()
            for metric in METRICS:
                path[metric] = (0.875 - np.outer(high, t * (1 - t))).ravel()
            path["agreement_a"], path["agreement_b"] = 1 - path["t"] / 4, 0.75 + path["t"] / 4
            profiles.append(path)
    store = Store(storage)
    store.prepare()
    count = {"total": len(pairs), "computed": len(pairs), "reused": 0, "failed": 0}
    result = {"name": name, "storage": str(storage), "minima": {**count, "total": len(keys)}, "pairs": count}
    tables = {"minima": minima, "barriers": pd.concat(barriers), "profiles": pd.concat(profiles)}
    tables = {what: table.reset_index(drop=True) for what, table in tables.items()}
    return write_sweep(store, spec, tables, result, list(failures))
