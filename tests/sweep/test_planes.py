"""The tables of planes, made from a store's records."""

from __future__ import annotations

import io
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from raymc.connectivity.pairs import Connections
from raymc.connectivity.planes import Planes
from raymc.specs.planes import PlaneLine, PlaneTrace
from raymc.specs.sweep import SweepSpec
from raymc.store.store import Store
from raymc.sweep.planes import marks_frame, planes_frame

CORNERS = ((0.0, 0.0), (4.0, 0.0), (1.0, 3.0))
THROUGH = [{"seeds.order": order} for order in (2, 0, 1)]


def sweep(**connectivity: Any) -> SweepSpec:
    body = {
        "name": "some",
        "model": {"backbone": {"builtin": "grammar-bert"}},
        "task": {"dataset": {"builtin": "grammar"}, "max_length": 16},
        "train": {"steps": 10},
        "axes": {"seeds.order": [0, 1, 2]},
        "connectivity": {
            "splits": ["validation", "test"],
            "planes": [{"through": THROUGH, "points": 2}, {"through": THROUGH, "points": 3, "splits": ["test"]}],
            **connectivity,
        },
    }
    return SweepSpec.model_validate(body)


def planes(store: Store, **connectivity: Any) -> Planes:
    spec = sweep(**connectivity)
    return Planes(Connections(spec, store, {point.trial.key: point for point in spec.points}))


@pytest.fixture
def keys() -> list[str]:
    """Of the three minima, in the order of the planes."""
    found = {point.values["seeds.order"]: point.trial.key for point in sweep().points}
    return [found[order] for order in (2, 0, 1)]


@pytest.fixture
def store(tmp_path: Path, keys: list[str]) -> Store:
    """The three minima, as far as tables look at them."""
    store = Store(tmp_path / "store")
    store.prepare()
    for key in keys:
        with store.create("minima", key) as folder:
            (folder / "model.safetensors").write_bytes(key.encode())
    return store


def complete(store: Store, found: Planes, lines: int = 99) -> None:
    """Put so many lines of each plane, and all traces: the loss is 10 line + x, and curves run straight, 0.5 off."""
    for task in found.missing_lines(store.keys("minima"))[0]:
        xs = tuple(float(x) for x in range(task.points))
        body = of_plane(store, task) | {"corners": CORNERS, "line": task.line, "y": float(task.line), "x": xs}
        body |= {"loss": [10 * task.line + x for x in xs], "metrics": {"accuracy": [0.25] * len(xs)}}
        for split in task.splits if task.line < lines else ():
            numbers = {"rows": 3, "tokens": 9, "seconds": 0.1, "device": "cpu"}
            found.put(PlaneLine.model_validate({**body, **numbers, "split": split}), task)
    for task in found.missing_traces(store.keys("minima"))[0]:
        for one in task.curves:
            t = (0.0, 0.5, 1.0)
            body = of_plane(store, task) | {"start": one.a, "end": one.b, "curve": one.curve, "t": t}
            found.put(PlaneTrace.model_validate({**body, "x": t, "y": t, "off": (0, 0.5, 0)}), task)


def of_plane(store: Store, task: Any) -> dict[str, Any]:
    body = dict(zip("abc", task.through, strict=True))
    weights = {f"{name}_weights": store.weights_digest("minima", key) for name, key in body.items()}
    return {**body, **weights, "space": task.space}


def test_a_row_a_point_in_the_order_of_the_grid(store: Store):
    complete(store, planes(store))
    table = planes_frame(planes(store), ["accuracy", "f1_macro"])
    assert list(table) == ["plane", "split", "space", "x", "y", "loss", "accuracy", "f1_macro"]
    assert table.groupby(["plane", "split"], sort=False).size().to_dict() == {
        ("plane-1", "validation"): 4,
        ("plane-2", "test"): 9,
    }
    second = table[table["plane"] == "plane-2"]
    assert second["x"].tolist() == [0, 1, 2] * 3
    assert second["y"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert second["loss"].tolist() == [0, 1, 2, 10, 11, 12, 20, 21, 22]
    assert set(table["space"]) == {"weights"}
    assert set(table["accuracy"]) == {0.25}
    assert table["f1_macro"].isna().all()  # of a record that doesn't have it
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    assert pd.read_parquet(buffer).equals(table)


def test_minima_and_curves_are_marked(store: Store, keys: list[str]):
    complete(store, planes(store))
    table = marks_frame(planes(store))
    assert list(table) == ["plane", "what", "key", "a", "b", "t", "x", "y", "off"]
    first = table[table["plane"] == "plane-1"]
    assert first["what"].tolist() == ["minimum"] * 3 + ["linear"] * 9
    assert first["key"].tolist() == [*keys, *[""] * 9]
    minima = first[:3]
    assert list(zip(minima["x"], minima["y"], strict=True)) == list(CORNERS)
    assert minima["t"].isna().all()
    assert (minima["off"] == 0).all()
    curves = first[3:]
    assert {(a, b) for a, b in zip(curves["a"], curves["b"], strict=True)} == {
        tuple(sorted(pair)) for pair in (keys[:2], keys[1:], keys[::2])
    }
    assert curves["off"].tolist() == [0, 0.5, 0] * 3
    assert table.groupby("plane").size().to_dict() == {"plane-1": 12, "plane-2": 12}
    table.to_parquet(io.BytesIO(), index=False)


def test_a_plane_on_its_way_has_the_lines_that_are_there(store: Store):
    complete(store, planes(store), lines=1)
    table = planes_frame(planes(store), ["accuracy"])
    assert table.groupby("plane").size().to_dict() == {"plane-1": 2, "plane-2": 3}
    assert set(table["y"]) == {0.0}


def test_before_the_first_line_the_tables_have_their_columns(store: Store):
    found = planes(store)
    assert planes_frame(found, ["accuracy"]).empty
    marks = marks_frame(found)
    assert marks.empty
    assert marks.dtypes[["t", "x", "y", "off"]].tolist() == [np.dtype(float)] * 4
    marks.to_parquet(io.BytesIO(), index=False)


def test_a_curve_goes_by_this_sweep_s_name(store: Store):
    complete(store, planes(store, curves=[{"curve": "spherical", "name": "arc"}]))
    renamed = planes(store, curves=["spherical"])
    assert renamed.missing_traces(store.keys("minima")) == ([], [])
    table = marks_frame(renamed)
    assert set(table["what"]) == {"minimum", "spherical"}
    assert not any(math.isnan(t) for t in table["t"][table["what"] == "spherical"])


def test_planning_needs_no_torch():
    code = "import sys, raymc.sweep.planes; sys.exit(bool({'torch', 'pandas', 'ray'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
