"""A table of a sweep's minima with chosen columns: MLflow keeps such views in tags of the experiment, as JSON."""

from __future__ import annotations

import hashlib
from typing import Any

SHARED = "mlflow.sharedViewState."
TRAINING_MODE = "?workflowType=machine_learning"  # MLflow's pages for models that are trained, not those for agents


def table_key(sweep: str, storage: str) -> str:
    """The key under which a link names the view of one sweep."""
    return "raymc-" + hashlib.sha256(f"{sweep} {storage}".encode()).hexdigest()[:12]


def table_state(sweep: str, storage: str, columns: tuple[str, ...]) -> dict[str, Any]:
    """What MLflow's page of runs restores. `columns`: `metrics.NAME`, `params.NAME` or `tags.NAME`."""
    selected = [f"{kind}.`{name}`" for kind, name in (column.split(".", 1) for column in columns)]
    quote = '"' if "'" in sweep else "'"
    return {
        "searchFilter": f"tags.`raymc.sweep` = {quote}{sweep}{quote} and tags.`raymc.kind` = 'minimum' "
        f"and tags.`raymc.storage` = '{storage}'",
        "orderByKey": "metrics.`barrier_mean`",  # by time, MLflow would fold the minima under their sweep
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": selected,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "runsVisibilityMap": {},
        "runsHiddenMode": "FIRST_10_RUNS",
        "columnOrder": [],
        "columnWidths": {},
        "compareRunsMode": "TABLE",
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "autoRefreshEnabled": False,
    }
