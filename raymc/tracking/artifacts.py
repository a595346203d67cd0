"""The files of a sweep's run: matrices, tables, pictures and texts, as a tracker's page shows them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from raymc.specs.secrets import without_secrets
from raymc.tracking.tracker import SweepView

PICTURE_DPI = 120


def artifact_names(view: SweepView) -> set[str]:
    """Every file that `write_artifacts` writes."""
    matrices = {f"matrices/{matrix.name}.{form}" for matrix in view.matrices for form in ("csv", "json")}
    return matrices | {*view.tables, *view.texts, *view.figures, *view.pages}


def write_artifacts(view: SweepView, folder: Path) -> str:
    """Write all files of a view; the JSON list that names those which MLflow shows as tables."""
    names = {minimum.key: minimum.name for minimum in view.minima}
    shown: list[str] = []
    for matrix in view.matrices:
        keys = list(matrix.values.index)
        cells = matrix.values.to_numpy(dtype=float, na_value=math.nan)
        told = [[float(f"{cell:.4g}") if math.isfinite(cell) else "–" for cell in row] for row in cells.tolist()]
        table = pd.DataFrame(told, columns=[str(i + 1) for i in range(len(keys))], dtype=object)
        table.insert(0, "minimum", [f"{i + 1}: {names.get(key, key)}" for i, key in enumerate(keys)])
        shown.append(_table(folder, f"matrices/{matrix.name}.json", table))
        matrix.values.to_csv(_path(folder, f"matrices/{matrix.name}.csv"), index_label="key")
    for name, table in view.tables.items():
        if name.endswith(".json"):
            shown.append(_table(folder, name, table))
        elif name.endswith(".csv"):
            table.to_csv(_path(folder, name), index=False)
        elif name.endswith(".parquet"):
            table.to_parquet(_path(folder, name), index=False)
        else:
            raise ValueError(f"table {name!r} ends in none of .json, .csv and .parquet")
    for name, text in view.texts.items():
        _path(folder, name).write_text(without_secrets(text))
    for name, draw in view.figures.items():
        draw().savefig(_path(folder, name), dpi=PICTURE_DPI)
    for name, write in view.pages.items():
        _path(folder, name).write_text(write())
    return json.dumps([{"path": name, "type": "table"} for name in shown])


def _table(folder: Path, name: str, table: pd.DataFrame) -> str:
    """A table as MLflow's page shows it; under a column name with a dot in it, that page shows nothing."""
    table.rename(columns=lambda column: str(column).replace(".", "/")).to_json(
        _path(folder, name), orient="split", index=False, date_format="iso"
    )
    return name


def _path(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
