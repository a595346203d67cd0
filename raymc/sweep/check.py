"""Faults that a spec alone doesn't show: in its files, its data, and its backbone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from raymc.specs.content import backbone_fault, positions
from raymc.specs.errors import Fault, RaymcError, SpecError
from raymc.specs.model import GrammarBackbone
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.yaml import DataPath
from raymc.store import layout
from raymc.store.store import Store

DEFAULT_STORAGE = "raymc-store"

Locate = Callable[[DataPath, str], Fault]


def store_of(spec: SweepSpec, storage: str | None) -> Store:
    """The store that a sweep uses: as asked for, else as the spec says, else ./raymc-store."""
    return Store(storage or spec.storage or DEFAULT_STORAGE)


def unlocated(path: DataPath, message: str) -> Fault:
    return Fault(".".join(map(str, path)), message)


def check(spec: SweepSpec, locate: Locate = unlocated) -> None:
    """Raises SpecError for what a look at the files tells: backbones, splits, columns, rows, labels."""
    faults = list(dict.fromkeys(_faults(spec, locate)))
    if faults:
        raise SpecError(faults)


def trials_by_key(spec: SweepSpec) -> dict[str, Point]:
    """The sweep's points by their trials' keys, in order. Raises SpecError where two have the same content."""
    points: dict[str, Point] = {}
    for point in spec.points:
        key = point.trial.key
        if key in points:
            raise SpecError([Fault("axes", f"the same content twice: {points[key].values} and {point.values}")])
        points[key] = point
    return points


def _faults(spec: SweepSpec, locate: Locate) -> Iterator[Fault]:
    from raymc.tasks.rows import task_faults

    seen: set[str] = set()
    splits = {split: f"connectivity.splits.{i}" for i, split in enumerate(spec.connectivity.splits)}
    base = spec.task.model_dump_json()
    for point in spec.points:
        model, task = point.trial.model, point.trial.task
        if (text := model.model_dump_json()) not in seen:
            seen.add(text)
            if fault := backbone_fault(model):
                yield locate(_place(point, "model.backbone"), fault)
            elif isinstance(model.backbone, GrammarBackbone):
                from raymc.tasks.grammar import ALL_DOMAINS, DOMAINS

                if model.backbone.domain not in (*DOMAINS, ALL_DOMAINS):
                    known = ", ".join((*DOMAINS, ALL_DOMAINS))
                    yield locate(_place(point, "model.backbone.domain"), f"no domain of the grammar (it has {known})")
                if model.backbone.batch_size > model.backbone.rows:
                    yield locate(_place(point, "model.backbone.batch_size"), "more than rows")
        limit = positions(model)
        if limit is not None and task.max_length > limit:
            message = f"{task.max_length} tokens are more than the {limit} that the backbone can read"
            yield locate(_place(point, "task.max_length"), message)
        if (text := task.model_dump_json()) not in seen:
            seen.add(text)
            wanted = {task.train_split: "train_split", **(splits if text == base else {})}
            for field, message in task_faults(task, wanted):
                path = field if field.startswith("connectivity.") else f"task.{field}"
                yield locate(_place(point, path), message)
        size, workers = point.trial.train.batch_size, spec.resources.trial.workers
        if size < workers:
            yield locate(_place(point, "train.batch_size"), f"{size} rows can't be split over {workers} workers")
        if spec.connectivity.space == "factors" and point.trial.tuning.method == "full" and len(spec.points) > 1:
            methods = {other.trial.tuning.method for other in spec.points}
            if len(methods) > 1:
                yield locate(("connectivity", "space"), "factors: full minima have none; use delta_w")
    if base not in seen:  # every minimum is tuned on another task than the one it is scored on
        for field, message in task_faults(spec.task, {spec.task.train_split: "train_split", **splits}):
            path = field if field.startswith("connectivity.") else f"task.{field}"
            yield locate(tuple(path.split(".")), message)


def _place(point: Point, dotted: str) -> DataPath:
    """Where a field of a trial was written: on the axis that sets it, else in its section."""
    parts = dotted.split(".")
    for depth in range(len(parts), 0, -1):
        name = ".".join(parts[:depth])
        if name in point.values:
            return ("axes", name)
    return tuple(int(part) if part.isdigit() else part for part in parts)


def backbones_of(points: dict[str, Point], keys: set[str]) -> dict[str, GrammarBackbone]:
    """The built-in backbones that some of the trials start from, by key."""
    from raymc.specs.content import backbone_key

    found = [points[key].trial.model.backbone for key in points if key in keys]
    return {backbone_key(one): one for one in found if isinstance(one, GrammarBackbone)}


def open_store(spec: SweepSpec, storage: str | None, write: bool) -> Store:
    """Raises RaymcError where it can't be used."""
    store = store_of(spec, storage)
    if write:
        store.prepare()
    elif store.root.exists() and not store.root.is_dir():
        raise RaymcError(f"storage {store.root} is not a folder")
    return store


def whole_minima(store: Store, keys: set[str]) -> set[str]:
    return {key for key in keys if store.has(layout.MINIMA, key)}
