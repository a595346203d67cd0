"""A sweep: one base trial, axes over its fields, and how the minima are joined and scored."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from raymc.specs.axes import Axis, axis_values
from raymc.specs.base import Spec
from raymc.specs.connectivity import ConnectivitySpec
from raymc.specs.content import is_folder
from raymc.specs.errors import RaymcError
from raymc.specs.existing import ExistingMinimum
from raymc.specs.model import ModelSpec
from raymc.specs.resources import Failure, Resources, Tracking
from raymc.specs.task import TaskSpec
from raymc.specs.trial import TrialSpec
from raymc.specs.tuning import FullTuning, Seeds, TrainSpec, Tuning

TRIAL_SECTIONS = tuple(TrialSpec.model_fields)
MAX_POINTS = 100_000
Fix = Callable[[Any], Any]


@dataclass(frozen=True)
class Point:
    """One minimum of a sweep: its value on each axis (by dotted name) and the trial that makes it."""

    values: dict[str, Any]
    trial: TrialSpec
    existing: str | None = None  # the name of a minimum that isn't trained here
    telling: tuple[str, ...] = ()  # axes that tell it from the others: of a zipped group the first, where that does


@dataclass(frozen=True)
class RowSet:
    """One split of one task. `name`: how tables call it; `task_name`: of connectivity.tasks, empty for the sweep's."""

    name: str
    task: TaskSpec
    split: str
    task_name: str = ""


class PointError(RaymcError):
    """A point of the axes that is no valid trial. `errors`: pydantic's, with `loc` from the root of the trial's `data`.

    `choice` is the index of the value taken on each axis; where `values` is empty, it names the axes at fault.
    """

    def __init__(
        self,
        message: str,
        values: dict[str, Any],
        choice: dict[str, int],
        errors: Sequence[Any] = (),
        data: dict[str, Any] | None = None,
    ):
        super().__init__(message)
        self.values, self.choice, self.errors, self.data = values, choice, errors, data


class SweepSpec(Spec):
    """Everything one sweep does: what is tuned, along which axes, how pairs are joined, on which resources."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="in the store, in MLflow and for raymc show",
    )
    description: str = Field(default="", description="in your words; shown in MLflow and in the report")
    model: ModelSpec = Field(description="what is fine-tuned")
    task: TaskSpec = Field(description="what it is fine-tuned on")
    tuning: Tuning = Field(default=FullTuning(method="full"), description="how: all parameters, or few")
    train: TrainSpec = Field(default=TrainSpec(), description="for how long, at which rate")
    seeds: Seeds = Field(default=Seeds(), description="of each random stream")
    axes: dict[str, Axis] = Field(default={}, description="dotted field: values; every combination is one minimum")
    zip: tuple[dict[str, Axis], ...] = Field(default=(), description="groups of axes that advance together")
    minima: tuple[ExistingMinimum, ...] = Field(
        default=(), description="checkpoints that exist already and take part beside the trained ones"
    )
    connectivity: ConnectivitySpec = Field(
        default=ConnectivitySpec(), description="how minima are joined, and what is scored along the way"
    )
    resources: Resources = Field(default=Resources(), description="what a training and an evaluator get")
    failure: Failure = Field(default=Failure(), description="what is tried again, and how often")
    tracking: Tracking = Field(default=Tracking(), description="where MLflow is, and how much it is told")
    storage: str | None = Field(
        default=None, description="folder of the store, or s3://BUCKET/PREFIX, gs://...; left out: ./raymc-store"
    )

    @field_validator("storage")
    @classmethod
    def usable_storage(cls, value: str | None) -> str | None:
        """Raises ValueError for a place that is none, or has a password in it."""
        scheme, separator, rest = (value or "").partition("://")
        if separator and scheme not in ("s3", "gs", "file"):
            raise ValueError(f"a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, not {scheme}://")
        if separator and not (rest.strip("/") if scheme == "file" else rest.split("/")[0]):
            raise ValueError(f"no bucket is named: {scheme}://BUCKET/PREFIX")
        if separator and "@" in rest.split("/")[0]:
            raise ValueError("names and passwords belong in the environment, not in the URI")
        return value

    @field_validator("minima")
    @classmethod
    def _distinct_minima(cls, value: tuple[ExistingMinimum, ...]) -> tuple[ExistingMinimum, ...]:
        names = [one.name for one in value]
        content = [(one.uri, one.revision, one.base) for one in value]
        for i, one in enumerate(value):
            if one.name in names[:i]:
                raise ValueError(f"names {one.name} twice")
            if content[i] in content[:i]:
                raise ValueError(f"{names[content.index(content[i])]} and {one.name} are the same checkpoint")
        return value

    @model_validator(mode="before")
    @classmethod
    def _absolute_paths(cls, data: Any, info: ValidationInfo) -> Any:
        """Relative paths are taken from the spec's own folder (in Python: from the working directory)."""
        folder = Path((info.context or {}).get("folder", "."))
        return absolute_paths(data, folder.resolve()) if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _points_are_trials(self, info: ValidationInfo) -> SweepSpec:
        if not (info.context or {}).get("points_later"):
            try:
                _ = self.points
            except PointError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def axis_names(self) -> list[str]:
        return [*self.axes, *(name for group in self.zip for name in group)]

    @cached_property
    def points(self) -> tuple[Point, ...]:
        """All points, first axis slowest. Raises PointError for the first that is no valid trial."""
        names = self.axis_names
        for name in names:
            if names.count(name) > 1:
                raise PointError(f"{name} is on two axes", {}, {name: 0})
            if name.split(".")[0] not in TRIAL_SECTIONS:
                raise PointError(f"{name} is no field of a trial", {}, {name: 0})
        steps: list[list[dict[str, tuple[int, Any]]]] = [
            [{name: (i, value)} for i, value in enumerate(axis_values(axis, name))] for name, axis in self.axes.items()
        ]
        telling = list(self.axes)
        for group in self.zip:
            columns = {name: axis_values(axis, name) for name, axis in group.items()}
            lengths = {name: len(values) for name, values in columns.items()}
            if len(set(lengths.values())) > 1:
                said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
                raise PointError(f"axes zipped together differ in length: {said}", {}, {next(iter(group)): 0})
            count = next(iter(lengths.values()), 1)
            first = next(iter(columns), "")
            alone = len({json.dumps(value, sort_keys=True, default=str) for value in columns.get(first, ())}) == count
            telling += [first] if alone else list(columns)
            steps.append([{name: (i, values[i]) for name, values in columns.items()} for i in range(count)])
        count = math.prod(map(len, steps))
        if count > MAX_POINTS:
            raise PointError(f"{count} points; a sweep has at most {MAX_POINTS}", {}, {})
        trials = _Trials({name: getattr(self, name).model_dump(mode="json") for name in TRIAL_SECTIONS}, names)
        points: list[Point] = []
        seen: dict[tuple[int, ...], dict[str, int]] = {}
        for combination in itertools.product(*steps):
            chosen = {name: pick for step in combination for name, pick in step.items()}
            values = {name: value for name, (_, value) in chosen.items()}
            choice = {name: index for name, (index, _) in chosen.items()}
            trial, content = trials.of(values, choice)
            if content in seen:
                twice = {name: index for name, index in choice.items() if seen[content][name] != index}
                said = ", ".join(f"{name}={values[name]}" for name in twice)
                raise PointError(f"the same trial twice: {said}", values, twice)
            seen[content] = choice
            points.append(Point(values, trial, telling=tuple(telling)))
        points += [Point({}, one.trial(self.model, self.task), one.name) for one in self.minima]
        return tuple(points)

    @property
    def row_sets(self) -> tuple[RowSet, ...]:
        """What endpoints and paths are scored on, in order: the splits of each named task, or of the sweep's own."""
        connectivity = self.connectivity
        if not connectivity.tasks:
            return tuple(RowSet(split, self.task, split) for split in connectivity.splits)
        return tuple(
            RowSet(
                f"{name}.{split}",
                TaskSpec(**{field: getattr(task, field) for field in TaskSpec.model_fields}),
                split,
                name,
            )
            for name, task in connectivity.tasks.items()
            for split in task.splits or connectivity.splits
        )


class _Trials:
    """The trials of a sweep's points, each section validated once for each choice of its axes, and shared."""

    def __init__(self, base: dict[str, Any], axes: Sequence[str]):
        self._base = base
        self._axes = {section: [n for n in axes if n.split(".")[0] == section] for section in TRIAL_SECTIONS}
        self._known: dict[tuple[str, tuple[int, ...]], Spec] = {}  # by section and its axes' choice
        self._texts: dict[tuple[str, str], Spec] = {}

    def of(self, values: dict[str, Any], choice: dict[str, int]) -> tuple[TrialSpec, tuple[int, ...]]:
        """(the trial with these values on the axes, what is the same for trials alike in all). Raises PointError."""
        asked = {section: (section, tuple(choice[name] for name in axes)) for section, axes in self._axes.items()}
        if any(one not in self._known for one in asked.values()):
            data = _placed(self._base, values, choice)
            try:
                trial = TrialSpec.model_validate(
                    {name: self._known.get(one, data[name]) for name, one in asked.items()}
                )
            except ValidationError as error:
                first = error.errors(include_url=False)
                message = f"{'.'.join(map(str, first[0]['loc']))}: {first[0]['msg']}"
                raise PointError(message, values, choice, first, data) from error
            for name, one in asked.items():
                if one not in self._known:
                    section = getattr(trial, name)
                    self._known[one] = self._texts.setdefault((name, section.model_dump_json()), section)
        sections = {name: self._known[one] for name, one in asked.items()}
        return TrialSpec.model_validate(sections), tuple(map(id, sections.values()))


def _placed(base: dict[str, Any], values: dict[str, Any], choice: dict[str, int]) -> dict[str, Any]:
    """A trial's data with these values in their places. Raises PointError for a field of what has no fields."""
    data = dict(base)
    for name in sorted(values, key=lambda name: name.count(".")):  # whole sections before fields inside them
        *parents, last = name.split(".")
        node = data
        for depth, parent in enumerate(parents):
            child = node.get(parent)
            if child is None:
                child = {}
            if not isinstance(child, dict):
                where = ".".join(parents[: depth + 1])
                raise PointError(f"{name}: {where} is {child!r}, which has no fields", values, {name: choice[name]})
            node[parent] = node = dict(child)
        node[last] = values[name]
    return data


def absolute_paths(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A copy of a sweep's raw mapping with relative paths (of backbones, datasets, storage) taken from `folder`."""

    def path(value: Any) -> Any:
        if not isinstance(value, str) or not value:
            return value
        try:
            return str((folder / os.path.expanduser(value)).resolve())  # noqa: PTH111 - leaves ~unknown as it is
        except ValueError:  # a NUL byte: no file has such a name, and that is what will be said
            return value

    def checkpoint(value: Any) -> Any:
        if not isinstance(value, str) or not value or value.startswith("package:"):
            return value
        looks_local = value.startswith(("/", "./", "../", "~")) or value in (".", "..") or is_folder(folder / value)
        return path(value) if looks_local else value

    def backbone(value: Any) -> Any:
        return within_backbone(value) if isinstance(value, (dict, Spec)) else checkpoint(value)

    def storage(value: Any) -> Any:
        return value if isinstance(value, str) and "://" in value else path(value)

    def inside(fixes: Mapping[str, Fix]) -> Fix:
        def fixed_inside(section: Any) -> Any:
            if isinstance(section, Spec):
                known = {name: fix for name, fix in fixes.items() if name in type(section).model_fields}
                return section.model_copy(update={name: fix(getattr(section, name)) for name, fix in known.items()})
            if isinstance(section, dict):
                return {name: fixes[name](value) if name in fixes else value for name, value in section.items()}
            return section

        return fixed_inside

    def each(fix: Fix) -> Fix:
        def fixed_each(section: Any) -> Any:
            if isinstance(section, dict):
                return {name: fix(value) for name, value in section.items()}
            return [fix(value) for value in section] if isinstance(section, (list, tuple)) else section

        return fixed_each

    dataset = inside({"path": path})
    task = inside({"dataset": dataset})
    within_backbone = inside({"text": inside({"path": path}), "tokenizer": checkpoint, "start": checkpoint})
    tuning = inside({"base": checkpoint})
    trial = {
        "model": inside({"backbone": backbone}),
        "model.backbone": backbone,
        "model.backbone.text": inside({"path": path}),
        "model.backbone.text.path": path,
        "model.backbone.tokenizer": checkpoint,
        "model.backbone.start": checkpoint,
        "task": task,
        "task.dataset": dataset,
        "task.dataset.path": path,
        "tuning": tuning,
        "tuning.base": checkpoint,
    }

    def axes(group: Any) -> Any:
        if not isinstance(group, dict):
            return group
        return {
            name: [trial[name](value) for value in axis] if name in trial and isinstance(axis, (list, tuple)) else axis
            for name, axis in group.items()
        }

    return inside(
        {
            "model": trial["model"],
            "task": task,
            "tuning": tuning,
            "storage": storage,
            "axes": axes,
            "zip": each(axes),
            "minima": each(inside({"uri": checkpoint, "base": checkpoint})),
            "connectivity": inside({"tasks": each(task)}),
        }
    )(data)
