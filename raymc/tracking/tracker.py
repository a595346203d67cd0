"""What a tracker shows of a sweep, and what it must be able to do. Nothing here knows MLflow."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import pandas as pd

from raymc.specs.errors import RaymcError

# Bumped when the same view is to be shown in another way, so that what trackers hold is written anew.
VIEW_VERSION = 2

Value = str | int | float | bool | None
Status = Literal["finished", "failed"]


class TrackingError(RaymcError):
    """The tracker can't be reached, is too slow or refuses; one line. The store isn't touched by it."""


class Away(TrackingError):
    """The tracker doesn't answer at this moment: worth waiting for."""


class Drawing(Protocol):
    """What can be saved as a picture: a matplotlib Figure."""

    def savefig(self, fname: str | Path | IO[bytes], **kwargs: Any) -> Any: ...


@dataclass(frozen=True)
class DatasetView:
    """The rows that a run used. `digest` stands for their content; at most 36 characters of it are shown."""

    name: str
    digest: str
    uri: str
    context: str = "training"


@dataclass(frozen=True)
class SystemSample:
    """How busy the driver's machine is: `values` by MLflow's names, without its system/; `at`: Unix time in ms."""

    values: Mapping[str, float]
    at: int
    step: int


@dataclass(frozen=True)
class MinimumView:
    """One minimum, or (`kind`) a backbone that the sweep pre-trained, shown as a run beside the minima.

    `params`: every resolved field of its trial by dotted name; `axes`: those that the sweep varies.

    `metrics` are final values (losses in nats, metrics as fractions); `curve` is the training curve, each point with
    its "step" and, say, "loss" and "learning_rate". `seconds`: wall-clock time of the training. `uri`: its folder.
    """

    key: str
    name: str
    params: Mapping[str, Value]
    axes: Mapping[str, Any]
    metrics: Mapping[str, float]
    curve: Sequence[Mapping[str, float]]
    uri: str
    seconds: float
    tags: Mapping[str, str] = field(default_factory=dict)
    status: Status = "finished"
    reason: str = ""
    datasets: tuple[DatasetView, ...] = ()
    kind: Literal["minimum", "backbone"] = "minimum"

    @cached_property
    def digest(self) -> str:
        """20 hex digits that stand for all of the above."""
        return _digest({name: getattr(self, name) for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class MatrixView:
    """One N x N matrix: index and columns are minima's keys, NaN where there is no value.

    `name` becomes a file's name; `title` says what a cell is, `definition` how it is computed, `unit` in what.
    The first matrix of a view is its headline.
    """

    name: str
    values: pd.DataFrame
    title: str
    unit: str
    definition: str = ""


@dataclass(frozen=True)
class SweepView:
    """One whole sweep as it stands in the store.

    `backbones`: what the sweep pre-trained. `minima`: all of them, failed ones too; a minimum that an earlier view
    had and this one lacks leaves the tracker. `weak`: keys of those that count in no conclusion.
    `axes`: dotted name to the values taken. `params`: fields that all minima share (what an axis varies belongs in
    `axes`, so that a sweep that grows keeps its run). `matrices`: the headline first. `tables`: artifact name ending
    in .json (shown as a table), .csv or .parquet. `texts`: artifact name to text. `figures`, `pages`: artifact name
    to a function that draws a picture or writes HTML, called only when the tracker needs it. `finding`: what was found,
    a sentence or two in Markdown. `commands`: what it does to the command that does it. `columns`: metrics, tags and
    axes that a table of the minima shows first, as `metrics.NAME`.
    """

    name: str
    minima: Sequence[MinimumView]
    backbones: Sequence[MinimumView] = ()
    weak: frozenset[str] = frozenset()
    description: str = ""
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    params: Mapping[str, Value] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    uri: str = ""
    matrices: Sequence[MatrixView] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Callable[[], Drawing]] = field(default_factory=dict)
    pages: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    finding: str = ""
    commands: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    datasets: tuple[DatasetView, ...] = ()
    status: Status = "finished"
    reason: str = ""

    @cached_property
    def digest(self) -> str:
        """20 hex digits that stand for all of the above; a figure or page counts by its name."""
        parts = {name: getattr(self, name) for name in self.__dataclass_fields__}
        parts["weak"] = sorted(self.weak)
        parts["minima"] = [(view.key, view.digest) for view in self.minima]
        parts["backbones"] = [(view.key, view.digest) for view in self.backbones]
        parts["figures"], parts["pages"] = list(self.figures), list(self.pages)
        parts["matrices"] = [(m.name, m.title, m.unit, m.definition, m.values) for m in self.matrices]
        return _digest(parts)


class Tracker(Protocol):
    """Where people look at sweeps. Every method may raise TrackingError; none is needed for a sweep to be right.

    One that raises Away may be called again with the same arguments: nothing is shown twice. `beats` grows with each
    part of a call that got through.
    """

    beats: int

    def prepare(self) -> None:
        """Make the place ready; called once, by one process, before the others."""
        ...

    def minimum(self, sweep: str, view: MinimumView) -> None:
        """Show one minimum while its sweep still runs."""
        ...

    def system(self, sweep: str, sample: SystemSample) -> None:
        """Show how busy the driver's machine is while its sweep still runs."""
        ...

    def sync(self, view: SweepView) -> str:
        """Make what is shown of a sweep complete and right, however far it got before; where to look at it."""
        ...

    def close(self) -> None:
        """Leave nothing open, whether or not `sync` was called."""
        ...


def _digest(value: Any) -> str:
    text = json.dumps([VIEW_VERSION, _plain(value)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _plain(value: Any) -> Any:
    """A value as JSON has it; a NaN or infinite number as a text."""
    if isinstance(value, pd.DataFrame):
        try:
            rows = pd.util.hash_pandas_object(value).to_numpy().tobytes()
        except TypeError:  # a cell that can't be hashed, such as a list
            rows = pd.util.hash_pandas_object(value.astype(str)).to_numpy().tobytes()
        return [_plain(list(value.columns)), hashlib.sha256(rows).hexdigest()]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, DatasetView):
        return [value.name, value.digest, value.uri, value.context]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)
