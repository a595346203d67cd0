"""What a disturbed sweep must share with the undisturbed one: results, and their view in MLflow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from raymc.store import layout
from raymc.store.store import Store

TOLERANCE = 2e-5  # of losses, in nats, and metrics: two workers add up in an order of their own


def differences(folder: Path, tracking: str, name: str, sweep: str, exact: bool) -> list[str]:
    """What is wrong, lost or doubled; nothing where all is as it should be."""
    found = list(_of_tables(folder / "undisturbed", folder / name, sweep, exact))
    found += _of_store(folder / "undisturbed", folder / name, sweep)
    return found + list(_of_tracking(tracking, f"undisturbed-{sweep}", f"{name}-{sweep}", exact))


def _of_tables(one: Path, other: Path, sweep: str, exact: bool) -> Iterator[str]:
    home, result = other / "sweeps" / sweep, json.loads((other / "sweeps" / sweep / "result.json").read_text())
    for failure in result.get("failures", []):
        yield f"{failure['name']} failed: {failure['reason']}"
    for table in ("minima", "profiles", "barriers"):
        a, b = (pd.read_parquet(root / "sweeps" / sweep / f"{table}.parquet") for root in (one, other))
        a, b = (frame.drop(columns=["uri"], errors="ignore") for frame in (a, b))
        if list(a.columns) != list(b.columns) or len(a) != len(b):
            yield f"{table}: {len(b)} rows, not {len(a)}"
        elif exact and not a.equals(b):
            yield f"{table} differs"
        elif not exact:
            for column in a.columns:
                same = a[column].equals(b[column])
                if not same and pd.api.types.is_float_dtype(a[column]) and column not in ("p_value", "p_holm"):
                    same = np.allclose(a[column], b[column], atol=TOLERANCE, rtol=1e-3, equal_nan=True)
                if not same and not column.startswith(("p_", "t_")):
                    yield f"{table}.{column} differs"
    if exact and (home / "profiles.parquet").read_bytes() != (one / "sweeps" / sweep / "profiles.parquet").read_bytes():
        yield "profiles.parquet differs bit for bit"


def _of_store(one: Path, other: Path, sweep: str) -> Iterator[str]:
    keys = set(pd.read_parquet(one / "sweeps" / sweep / "minima.parquet")["key"])
    a, b = Store(one), Store(other)
    for kind in (layout.MINIMA, layout.BACKBONES):
        mine = b.keys(kind)
        if kind == layout.MINIMA and mine != keys:
            yield f"minima in the store: {len(mine)}, not {len(keys)}"
        for key in mine & a.keys(kind):
            b.verify(kind, key, deep=True)
            steps = [_steps(root / kind / key / layout.TRAINING_CURVE) for root in (one, other)]
            if steps[0] != steps[1]:
                yield f"{kind}/{key}: its training curve has other points"
    if left := sorted(path.name for path in (other / "checkpoints").glob("*")):
        yield f"checkpoints are left: {', '.join(left)}"
    if list((other / "set-aside").glob("*")):
        yield "something was set aside as damaged"
    for group in (other / "profiles").glob("*"):
        known, mine = a.records("profiles", group.name), b.records("profiles", group.name)
        lost = {name for name in known - mine if set(name.split("-")) <= keys}  # the other has several sweeps
        if lost or mine - known:
            yield f"profiles of {len(lost)} pairs are lost, and there are {len(mine - known)} that shouldn't be"


def _steps(path: Path) -> list[int]:
    return [json.loads(line)["step"] for line in path.read_text().splitlines()] if path.is_file() else []


def _of_tracking(tracking: str, one: str, other: str, exact: bool) -> Iterator[str]:
    a, b = (_runs(tracking, name) for name in (one, other))
    for name, count in Counter(run["name"] for run in b).items():
        if count > 1:
            yield f"MLflow has {count} runs {name}"
    known = {run["name"]: run for run in a}
    mine = {run["name"]: run for run in b}
    if known.keys() != mine.keys():
        yield f"MLflow has runs {sorted(mine.keys() ^ known.keys())} in one experiment alone"
    for name in known.keys() & mine.keys():
        if known[name]["status"] != mine[name]["status"]:
            yield f"MLflow: {name} is {mine[name]['status']}"
        curves = known[name]["curves"], mine[name]["curves"]
        for metric in curves[0].keys() | curves[1].keys():
            was, is_now = (one.get(metric, []) for one in curves)
            if len({step for step, _ in is_now}) < len(is_now):
                yield f"MLflow: {name}, {metric} has points twice"
            if [step for step, _ in was] != [step for step, _ in is_now]:
                yield f"MLflow: {name}, {metric} has {len(is_now)} points, not {len(was)}"
            elif exact and was != is_now:
                yield f"MLflow: {name}, {metric} has other values"


def _runs(tracking: str, experiment: str) -> list[dict[str, Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    return [
        {
            "name": run.info.run_name,
            "status": run.info.status,
            "curves": {
                metric: sorted(
                    (point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)
                )
                for metric in run.data.metrics
                if not metric.startswith(("system/", "seconds", "time"))
            },
        }
        for run in client.search_runs([found.experiment_id])
    ]
