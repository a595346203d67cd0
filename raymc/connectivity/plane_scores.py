"""Scores the lines of a plane through three minima, and finds where curves lie over it."""

from __future__ import annotations

import time

from raymc.connectivity.evaluator import Evaluator
from raymc.connectivity.paths import path_of
from raymc.connectivity.planes import LineTask, TraceTask, trace_points
from raymc.landscape.planes import Plane, grid
from raymc.specs.errors import RaymcError
from raymc.specs.planes import PlaneLine, PlaneTrace
from raymc.store.store import Store
from raymc.tasks.points import PointModel
from raymc.tasks.scoring import Score


def score_line(evaluator: Evaluator, task: LineTask) -> list[PlaneLine]:
    """One record a row set. Raises RaymcError where the three don't fit or lie on a line, CorruptArtefact: damaged."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for split in task.splits:
        groups.setdefault(evaluator.labels(split), []).append(split)
    found = {line.split: line for labels, splits in groups.items() for line in _line(evaluator, task, labels, splits)}
    return [found[split] for split in task.splits]


def _line(evaluator: Evaluator, task: LineTask, labels: tuple[str, ...], splits: list[str]) -> list[PlaneLine]:
    """On row sets of one label order: all are scored at each point, which is written once."""
    scorers = {split: _scorer(evaluator, task.through, split) for split in splits}
    model, plane, weights = _plane(evaluator, task, labels)
    xs, ys = grid(plane.corners, task.points, task.margin)
    y = ys[task.line]
    scores: dict[str, list[Score]] = {split: [] for split in splits}
    seconds = dict.fromkeys(splits, 0.0)
    for x in xs:
        plane.point(x, y, model.flat)
        model.refresh()
        for split, scorer in scorers.items():
            started = time.perf_counter()
            try:
                scores[split].append(scorer(model.model))
            except RaymcError as error:
                raise RaymcError(f"split {split}, x = {x:g}, y = {y:g}: {error}") from error
            seconds[split] += time.perf_counter() - started
    return [
        PlaneLine(
            **_named(task, weights),
            corners=plane.corners,
            split=split,
            rows=scorer.rows,
            tokens=scorer.tokens,
            line=task.line,
            y=y,
            x=xs,
            loss=tuple(score.loss for score in scores[split]),
            metrics={name: tuple(score.metrics[name] for score in scores[split]) for name in scores[split][0].metrics},
            seconds=seconds[split],
            device=str(model.flat.device.type),
        )
        for split, scorer in scorers.items()
    ]


def find_traces(evaluator: Evaluator, store: Store, task: TraceTask) -> list[PlaneTrace]:
    """One record a curve. Raises as score_line, and CorruptArtefact for a fitted curve between other weights."""
    labels = evaluator.labels(task.split)
    model, plane, weights = _plane(evaluator, task, labels)
    vectors = dict(zip(task.through, zip((plane.a, plane.b, plane.c), weights, strict=True), strict=True))
    t = trace_points()
    found = []
    for one in task.curves:
        (start, start_weights), (end, end_weights) = vectors[one.a], vectors[one.b]
        path = path_of(one, model, start, end, (start_weights, end_weights), store, labels)
        places = plane.trace(path.curve, t)
        found.append(
            PlaneTrace(
                **_named(task, weights),
                start=one.a,
                end=one.b,
                curve=one.curve,
                fit=path.fit,
                t=tuple(t),
                x=tuple(place.x for place in places),
                y=tuple(place.y for place in places),
                off=tuple(place.off for place in places),
            )
        )
    return found


def _named(task: LineTask | TraceTask, weights: tuple[str, str, str]) -> dict[str, str]:
    """Of which plane a record is: its minima, their weights, and the space."""
    ends = dict(zip("abc", task.through, strict=True))
    return ends | dict(zip(("a_weights", "b_weights", "c_weights"), weights, strict=True)) | {"space": task.space}


def _plane(
    evaluator: Evaluator, task: LineTask | TraceTask, labels: tuple[str, ...]
) -> tuple[PointModel, Plane, tuple[str, str, str]]:
    """(a model to write points into, the plane, the digests of the three minima's weights)."""
    evaluator.begin()
    precision = task.precision if isinstance(task, LineTask) else "fp32"
    kind, model = evaluator.opened(task.through[0], task.space, labels, precision)
    (a, one), (b, two), (c, three) = (evaluator.vector(kind, model, key, labels) for key in task.through)
    return model, Plane(a, b, c), (one, two, three)


def _scorer(evaluator: Evaluator, through: tuple[str, ...], split: str):
    """Of a row set; an evaluator has one for all minima that read it with the same tokenizer."""
    first, *others = (evaluator.scorer(key, split) for key in through)
    if any(other is not first for other in others):
        raise RaymcError("the three minima have different tokenizers, so no text is the same input to all")
    return first
