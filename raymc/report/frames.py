"""The tables of a sweep as data frames, assembled from what the store holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from raymc.landscape import barriers
from raymc.specs.results import Evaluation, Profile

# name: (title, unit, definition), for every value that a matrix can show
VALUES = {
    "barrier_entezari": (
        "Entezari barrier",
        "nats",
        "max over t of L(t) - ((1 - t) L(0) + t L(1)), L: mean cross-entropy",
    ),
    "barrier_ainsworth": ("Ainsworth barrier", "nats", "max over t of L(t) - (L(0) + L(1)) / 2, L: mean cross-entropy"),
    "barrier_frankle": ("Frankle barrier", "error rate", "max over t of E(t) - (E(0) + E(1)) / 2, E: 1 - accuracy"),
    "t_peak": ("t of the peak", "t", "the t at which the Entezari barrier is attained"),
    "distance_l2": ("L2 distance", "parameters", "Euclidean distance of the two parameter vectors"),
    "cosine": ("cosine", "cosine", "cosine of the two parameter vectors"),
}


def minima_frame(
    keys: Sequence[str],
    uris: Mapping[str, str],
    axes: Mapping[str, Mapping[str, Any]],
    evaluations: Mapping[tuple[str, str], Evaluation],
    splits: Sequence[str],
    metrics: Sequence[str],
) -> pd.DataFrame:
    """key, uri, one column per axis by its dotted name, SPLIT_loss (nats) and SPLIT_METRIC (fractions) per split.

    Rows in the order of `keys`; a value that isn't a scalar (a whole section as an axis) is JSON text.
    """
    rows = []
    for key in keys:
        row: dict[str, Any] = {"key": key, "uri": uris[key]}
        row |= {name: _scalar(value) for name, value in axes[key].items()}
        for split in splits:
            found = evaluations.get((key, split))
            row[f"{split}_loss"] = found.loss if found else float("nan")
            row |= {f"{split}_{name}": found.metrics[name] if found else float("nan") for name in metrics}
        rows.append(row)
    scores = [f"{split}_{name}" for split in splits for name in ("loss", *metrics)]
    return pd.DataFrame(rows, columns=list(rows[0]) if rows else ["key", "uri", *scores])


def profiles_frame(profiles: Iterable[Profile], metrics: Sequence[str]) -> pd.DataFrame:
    """a, b, curve, split, space, t, loss (nats) and one column per metric (fractions): a row per point."""
    columns: dict[str, list[Any]] = {name: [] for name in ("a", "b", "curve", "split", "space", "t", "loss", *metrics)}
    for profile in profiles:
        count = len(profile.t)
        for name in ("a", "b", "curve", "split", "space"):
            columns[name] += [getattr(profile, name)] * count
        columns["t"] += profile.t
        columns["loss"] += profile.loss
        for name in metrics:
            columns[name] += profile.metrics[name]
    return pd.DataFrame(columns)


def barriers_frame(profiles: Iterable[Profile]) -> pd.DataFrame:
    """One row per pair, curve and split; columns as in VALUES, after a, b, curve, split and space."""
    rows = []
    for profile in profiles:
        error = [1.0 - accuracy for accuracy in profile.metrics["accuracy"]]
        rows.append(
            {
                "a": profile.a,
                "b": profile.b,
                "curve": profile.curve,
                "split": profile.split,
                "space": profile.space,
                "barrier_entezari": barriers.entezari(profile.t, profile.loss),
                "barrier_ainsworth": barriers.ainsworth(profile.t, profile.loss),
                "barrier_frankle": barriers.frankle(profile.t, error),
                "t_peak": barriers.peak(profile.t, profile.loss),
                "distance_l2": profile.distance_l2,
                "cosine": profile.cosine,
            }
        )
    return pd.DataFrame(rows, columns=["a", "b", "curve", "split", "space", *VALUES])


def matrix(table: pd.DataFrame, keys: Sequence[str], curve: str, split: str, value: str) -> pd.DataFrame:
    """A value of the barriers table as a symmetric len(keys) x len(keys) frame; NaN on the diagonal and where missing.

    For t_peak the cell (i, j) is measured from row i: t from a to b in the table, 1 - t mirrored.
    """
    place = {key: i for i, key in enumerate(keys)}
    cells = np.full((len(place), len(place)), np.nan)
    chosen = table[(table["curve"] == curve) & (table["split"] == split)]
    for a, b, height in zip(chosen["a"], chosen["b"], chosen[value], strict=True):
        if a in place and b in place:
            cells[place[a], place[b]] = height
            cells[place[b], place[a]] = 1.0 - height if value == "t_peak" else height
    return pd.DataFrame(cells, index=list(keys), columns=list(keys))


def _scalar(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float, bool)) else json.dumps(value, sort_keys=True)
