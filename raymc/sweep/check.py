"""Faults that a spec alone doesn't show: in its files, its data, and its backbone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from raymc.connectivity.curve_faults import curve_faults
from raymc.connectivity.faults import axis_place, connectivity_faults
from raymc.connectivity.selection import Selection
from raymc.specs.content import backbone_fault, backbone_key, positions
from raymc.specs.errors import Fault, RaymcError, SpecError
from raymc.specs.methods import method_fault, model_faults, positions_fault
from raymc.specs.model import GrammarBackbone, ModelSpec, Pretrained
from raymc.specs.naming import name_of
from raymc.specs.sweep import Point, SweepSpec
from raymc.specs.taken import existing_fault
from raymc.specs.task import HubDataset, TaskSpec, training_row_count
from raymc.specs.text import HubText, TextBackbone
from raymc.specs.trial import TrialSpec
from raymc.specs.tuning import ExistingTuning
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


def trials_by_key(spec: SweepSpec, locate: Locate = unlocated) -> dict[str, Point]:
    """The sweep's points by their trials' keys, in order.

    Raises SpecError where two have the same content, or the hub doesn't know a model or dataset.
    """
    points: dict[str, Point] = {}
    for index, point in enumerate(spec.points):
        try:
            key = point.trial.key
        except RaymcError as error:
            field = _unknown_to_the_hub(point.trial, str(error))
            raise SpecError([locate(_placer(spec, point, index)(field), str(error))]) from error
        if key in points:
            names = f"{name_of(points[key])} and {name_of(point)}"
            raise SpecError([Fault("minima" if point.existing else "axes", f"the same content twice: {names}")])
        points[key] = point
    return points


def _unknown_to_the_hub(trial: TrialSpec, message: str) -> str:
    """The field of a trial that such a message is about."""
    if "the hub's dataset" not in message:
        return "model.backbone"
    text = trial.model.backbone.text if isinstance(trial.model.backbone, TextBackbone) else None
    return "model.backbone.text" if isinstance(text, HubText) and f"{text.hub!r}" in message else "task.dataset"


def _faults(spec: SweepSpec, locate: Locate) -> Iterator[Fault]:
    from raymc.tasks.rows import labels_of

    seen: set[tuple[object, ...]] = set()
    for index, point in enumerate(spec.points):
        place = _placer(spec, point, index)
        for field, message in _point_faults(spec, point, seen):
            yield locate(place(field), message)
    for path, message in _row_set_faults(spec):
        yield locate(path, message)
    selection = Selection(spec, spec.points)
    found = (*connectivity_faults(spec, labels_of, selection), *curve_faults(spec, labels_of, selection))
    for path, message in found:
        yield locate(path, message)
    kinds = {point.trial.model.kind for point in spec.points}
    if len(kinds) > 1:
        said = f"one kind a sweep, not {', '.join(sorted(kinds))}: they share no path"
        yield locate(axis_place(spec, "model.kind"), said)


def _point_faults(spec: SweepSpec, point: Point, seen: set[tuple[object, ...]]) -> Iterator[tuple[str, str]]:
    """(dotted field of the trial, what is wrong); what was looked at for another point isn't looked at again.

    Points share the sections that they have alike.
    """
    from raymc.tasks.method_faults import setting_faults
    from raymc.tasks.optimizers import optimizer_fault
    from raymc.tasks.rows import task_faults

    trial = point.trial
    model, task, train = trial.model, trial.task, trial.train
    sound = True
    if (looked := (id(model), point.existing)) not in seen:
        seen.add(looked)
        for field, message in _backbone_faults(trial, point.existing is not None):
            sound = False
            yield field, message
    if sound and (looked := (id(model), id(trial.tuning), task.max_length)) not in seen:
        seen.add(looked)
        if fault := method_fault(trial):
            yield ("task.max_length" if "positions" in fault else "tuning"), fault
        else:
            yield from setting_faults(trial)
        limit = positions(model)
        if limit is not None and task.max_length > limit:
            yield "task.max_length", f"{task.max_length} tokens are more than the {limit} that the backbone can read"
    if point.existing is None:
        if (looked := ("task", id(task))) not in seen:
            seen.add(looked)
            for field, message in task_faults(task, {task.train_split: "train_split"}):
                yield f"task.{field}", message
        if trial.tuning.method == "existing":
            yield "tuning.method", "a checkpoint that exists already is listed in minima, with a name and its uri"
        for field in _unread(trial.model, task):
            yield f"task.{field}", _UNREAD
        workers, backbone = spec.resources.trial.workers, model.backbone
        if isinstance(backbone, TextBackbone) and backbone.batch_size < workers:
            rows = backbone.batch_size
            yield "model.backbone.batch_size", f"{rows} sequences can't be split over {workers} workers"
        if train.batch_size < workers:
            yield "train.batch_size", f"{train.batch_size} rows can't be split over {workers} workers"
        if fault := optimizer_fault(train.optimizer, spec.resources.trial.strategy, workers):
            yield "train.optimizer", fault
        if train.snapshot is not None and train.steps is None and not isinstance(task.dataset, HubDataset):
            yield from _late_snapshot(trial)


def _late_snapshot(trial: TrialSpec) -> Iterator[tuple[str, str]]:
    from raymc.tasks.rows import row_count
    from raymc.training.schedule import steps_of

    with contextlib.suppress(RaymcError):  # said of the task already
        steps = steps_of(trial, training_row_count(trial.task, row_count(trial.task, trial.task.train_split)))
        if trial.train.snapshot is not None and trial.train.snapshot > steps:
            yield "train.snapshot", f"{trial.train.snapshot} is past the end of the run, {steps} steps"


_UNREAD = "a classifier reads the texts themselves; it is for kind: seq2seq and causal"


def _unread(model: ModelSpec, task: TaskSpec) -> Iterator[str]:
    """Fields of a task that its model's kind doesn't look at."""
    if model.kind == "classifier":
        yield from (field for field in ("prompt", "targets") if getattr(task, field))


def _backbone_faults(trial: TrialSpec, existing: bool) -> Iterator[tuple[str, str]]:
    model = trial.model
    backbone = model.backbone
    if isinstance(backbone, TextBackbone):
        from raymc.tasks.text_faults import text_faults

        for field, message in text_faults(backbone):
            yield f"model.backbone.{field}", message
    elif isinstance(backbone, GrammarBackbone):
        from raymc.tasks.grammar import ALL_DOMAINS, DOMAINS

        if backbone.domain not in (*DOMAINS, ALL_DOMAINS):
            known = ", ".join((*DOMAINS, ALL_DOMAINS))
            yield "model.backbone.domain", f"no domain of the grammar (it has {known})"
        if backbone.batch_size > backbone.rows:
            yield "model.backbone.batch_size", "more than rows"
    elif fault := backbone_fault(model, existing):
        yield "model.backbone", fault
        return
    if not existing:
        yield from ((f"model.{field}", message) for field, message in model_faults(model))
    elif isinstance(trial.tuning, ExistingTuning) and (found := existing_fault(model, trial.tuning.base)):
        yield "tuning.base" if found[0] == "base" else "model.backbone", found[1]


def _row_set_faults(spec: SweepSpec) -> Iterator[tuple[DataPath, str]]:
    """Faults of what is scored: a split, a column or a label that isn't there."""
    from raymc.tasks.rows import task_faults

    tasks: dict[str, tuple[TaskSpec, dict[str, str]]] = {}
    for rows in spec.row_sets:
        own = spec.connectivity.tasks[rows.task_name].splits if rows.task_name else None
        list_of = own or spec.connectivity.splits
        home = f"connectivity.tasks.{rows.task_name}.splits" if own else "connectivity.splits"
        _, splits = tasks.setdefault(rows.task_name, (rows.task, {}))
        splits[rows.split] = f"{home}.{list_of.index(rows.split)}"
    for name, (task, splits) in tasks.items():
        section = f"connectivity.tasks.{name}" if name else "task"
        for field, message in task_faults(task, {task.train_split: "train_split", **splits}):
            yield _path(field if field.startswith("connectivity.") else f"{section}.{field}"), message
        if name:
            yield from ((_path(f"{section}.{field}"), message) for field, message in _scored_faults(spec, task))


def _scored_faults(spec: SweepSpec, task: TaskSpec) -> Iterator[tuple[str, str]]:
    """Faults of a task in `connectivity.tasks` that the minima's models tell."""
    yield from ((field, _UNREAD) for field in _unread(spec.model, task))
    seen: set[tuple[int, int]] = set()
    for trial in (point.trial for point in spec.points):
        if (looked := (id(trial.model), id(trial.tuning))) in seen:
            continue
        seen.add(looked)
        try:
            limit = positions(trial.model)
        except RaymcError:  # said of the backbone
            continue
        if limit is not None and task.max_length > limit:
            yield "max_length", f"{task.max_length} tokens are more than the {limit} that a backbone can read"
            return
        scored = TrialSpec(model=trial.model, task=task, tuning=trial.tuning)
        if limit is not None and (fault := positions_fault(scored, limit)):
            yield "max_length", fault.replace("task.max_length", "max_length")
            return


def _placer(spec: SweepSpec, point: Point, index: int) -> Callable[[str], DataPath]:
    """Where a field of a trial was written: on the axis that sets it, else in its section."""
    if point.existing is not None:
        number = index - (len(spec.points) - len(spec.minima))
        return lambda dotted: ("minima", number, "base" if dotted == "tuning.base" else "uri")

    def place(dotted: str) -> DataPath:
        parts = dotted.split(".")
        for depth in range(len(parts), 0, -1):
            name = ".".join(parts[:depth])
            if name in point.values:
                return axis_place(spec, name)
        return _path(dotted)

    return place


def _path(dotted: str) -> DataPath:
    return tuple(int(part) if part.isdigit() else part for part in dotted.split("."))


def backbones_of(points: dict[str, Point], keys: set[str]) -> dict[str, Pretrained]:
    """The backbones that raymc pre-trains itself and that some of the trials start from, by key."""
    found = {id(one): one for one in (points[key].trial.model.backbone for key in points if key in keys)}
    return {backbone_key(one): one for one in found.values() if not isinstance(one, str)}


def open_store(spec: SweepSpec, storage: str | None, write: bool) -> Store:
    """Raises RaymcError where it can't be used."""
    store = store_of(spec, storage)
    if write:
        store.prepare()
    elif store.root.exists() and not store.root.is_dir():
        raise RaymcError(f"storage {store.root} is not a folder")
    else:
        store.reached()
    return store


def whole_minima(store: Store, keys: set[str]) -> set[str]:
    store.again()
    return store.whole(layout.MINIMA, keys)
