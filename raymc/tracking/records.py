"""What one run in MLflow should hold: names that it accepts, values as it stores them, batches as it takes them."""

from __future__ import annotations

import hashlib
import math
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from raymc.specs.secrets import without_secrets
from raymc.tracking.notes import HERE, TABLE, minimum_note, sweep_note
from raymc.tracking.table import table_key
from raymc.tracking.tracker import DatasetView, MinimumView, SweepView, Value

KIND, SWEEP, MINIMUM, STORAGE = "raymc.kind", "raymc.sweep", "raymc.minimum", "raymc.storage"
COMPLETE, CURVE = "raymc.complete", "raymc.curve"
OWN_TAGS = ("raymc.", "mlflow.")

PARAM_LENGTH = 500  # characters; servers differ in how many more they take
TAG_LENGTH = 8000
NAME_LENGTH = 250
PARAMS_A_BATCH, METRICS_A_BATCH, ENTITIES_A_BATCH = 100, 1000, 1000


@dataclass(frozen=True)
class Point:
    """One value of a training curve; `offset` is milliseconds after the run's start."""

    name: str
    value: float
    step: int
    offset: int


@dataclass(frozen=True)
class Record:
    """One run. `curve_digest` stands for the points; `digest` for all of it."""

    identity: dict[str, str]
    name: str
    params: dict[str, str]
    metrics: dict[str, float]
    tags: dict[str, str]
    digest: str
    status: Literal["FINISHED", "FAILED"]
    points: tuple[Point, ...] = ()
    seconds: float | None = None
    datasets: tuple[DatasetView, ...] = ()
    model: str = ""  # where the model lies that the run made

    @property
    def curve_digest(self) -> str:
        text = repr([(point.name, point.value, point.step) for point in self.points])
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    @property
    def metric_names(self) -> set[str]:
        return {*self.metrics, *(point.name for point in self.points)}

    def step_of(self, metric: str) -> int:
        """The step of a final value: 0, which MLflow draws as a bar, unless it ends a curve of the same name."""
        return max((point.step for point in self.points if point.name == metric), default=0)


def sweep_identity(sweep: str, storage: str) -> dict[str, str]:
    """Sweeps of one name are one sweep where they share a storage: others share an MLflow with this one."""
    return {KIND: "sweep", SWEEP: sweep, STORAGE: storage}


def minimum_identity(sweep: str, storage: str, key: str, kind: str = "minimum") -> dict[str, str]:
    return {KIND: kind, SWEEP: sweep, STORAGE: storage, MINIMUM: key}


def minimum_record(view: MinimumView, sweep: str, storage: str) -> Record:
    tags = {**view.tags, "raymc.uri": view.uri, "mlflow.note.content": minimum_note(view, sweep)}
    if view.reason:
        tags["raymc.reason"] = view.reason
    return Record(
        identity=minimum_identity(sweep, storage, view.key, view.kind),
        name=view.name,
        params=_params(view.params),
        metrics=_metrics(view.metrics),
        tags=_tags(tags),
        digest=view.digest,
        status="FINISHED" if view.status == "finished" else "FAILED",
        points=tuple(_points(view.curve, view.seconds)),
        seconds=view.seconds,
        datasets=view.datasets,
        model=view.uri if view.status == "finished" else "",
    )


def sweep_record(view: SweepView, storage: str) -> Record:
    axes = {f"raymc.axis.{name}": ", ".join(map(str, values)) for name, values in view.axes.items()}
    tags = {**axes, **view.tags, "mlflow.note.content": sweep_note(view)}
    tags |= {name: value for name, value in (("raymc.uri", view.uri), ("raymc.reason", view.reason)) if value}
    return Record(
        identity=sweep_identity(view.name, storage),
        name=view.name,
        params=_params(view.params),
        metrics=_metrics(view.metrics),
        tags=_tags(tags),
        digest=view.digest,
        status="FINISHED" if view.status == "finished" else "FAILED",
        datasets=view.datasets,
    )


def placed(record: Record, page: str) -> Record:
    """The record with links in its description that lead to this run's page."""
    runs = page.rsplit("/", 1)[0]
    note = record.tags["mlflow.note.content"].replace(HERE, page).replace(HERE.rsplit("/", 1)[0], runs)
    note = note.replace(TABLE, table_key(record.identity[SWEEP], record.identity[STORAGE]))
    return replace(record, tags={**record.tags, "mlflow.note.content": note[:TAG_LENGTH]})


def batches(metrics: Sequence, params: Sequence, tags: Sequence) -> Iterator[tuple[Sequence, Sequence, Sequence]]:
    """Slices (metrics, params, tags) within what one request may hold."""
    while metrics or params or tags:
        some_params, some_tags = params[:PARAMS_A_BATCH], tags[:PARAMS_A_BATCH]
        room = min(METRICS_A_BATCH, ENTITIES_A_BATCH - len(some_params) - len(some_tags))
        yield metrics[:room], some_params, some_tags
        metrics, params, tags = metrics[room:], params[PARAMS_A_BATCH:], tags[PARAMS_A_BATCH:]


def accepted(name: str) -> str:
    """A name as MLflow takes it: letters, digits and _-. :/ that read as a path going nowhere else."""
    clean = posixpath.normpath(re.sub(r"[^/\w.\- :]", "_", name)).lstrip("/.") or "_"
    return clean[:NAME_LENGTH]


def _params(params: Mapping[str, Value]) -> dict[str, str]:
    texts = {accepted(name): _text(value) for name, value in params.items() if value is not None}
    return {name: text if len(text) <= PARAM_LENGTH else text[: PARAM_LENGTH - 1] + "…" for name, text in texts.items()}


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else without_secrets(str(value))


def _metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    return {accepted(name): float(value) for name, value in metrics.items() if math.isfinite(value)}


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name[:NAME_LENGTH]: without_secrets(str(value))[:TAG_LENGTH] for name, value in tags.items()}


def _points(curve: Sequence[Mapping[str, float]], seconds: float) -> Iterator[Point]:
    """Points under train/, spread over the training's time by their step: the same points, the same times."""
    last = max((point["step"] for point in curve), default=0) or 1
    for point in curve:
        step = int(point["step"])
        for name, value in point.items():
            if name != "step" and math.isfinite(value):
                yield Point(accepted(f"train/{name}"), float(value), step, round(seconds * 1000 * step / last))
