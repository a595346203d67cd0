"""What is wrong with a sweep's curves, and where in the spec."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from raymc.connectivity.heads import Heads, LabelsOf, named_labels
from raymc.connectivity.records import fit_task
from raymc.connectivity.selection import Selection
from raymc.connectivity.shapes import Joints, shape_of
from raymc.specs.curves import AlignedCurve, LinearCurve, NamedCurve, SphericalCurve
from raymc.specs.errors import RaymcError
from raymc.specs.fields import nearest
from raymc.specs.spaces import spaces_of
from raymc.specs.sweep import RowSet, SweepSpec

Place = tuple[str | int, ...]
Found = Iterator[tuple[Place, str]]
_BASE = {"backbone", "revision"}
_BLOCKS = ("layers", "num_hidden_layers", "n_layer")  # where a configuration says how many there are


def curve_faults(spec: SweepSpec, labels_of: LabelsOf = named_labels, selection: Selection | None = None) -> Found:
    """Tasks and splits of fits that there aren't, pairs without the labels of a fit, and spaces that don't go.

    `selection`: of its points, where there is one already.
    """
    selection = selection or Selection(spec, spec.points)
    for number, how in enumerate(spec.connectivity.curves):
        place: Place = ("connectivity", "curves", number)
        if how.fitted is not None:
            yield from _fit_faults(spec, how, place, selection, labels_of)
        if isinstance(how, AlignedCurve):
            joints = Joints(spec.points, how.space or spec.connectivity.space)
            for i, j in _firsts(selection, joints.kinds):
                if joints.known(i) and joints.known(j) and _space(joints, i, j) == "factors":
                    ends = f"{selection.names[i]} and {selection.names[j]}"
                    mergeable = all("delta_w" in spaces_of(selection.points[end].trial) for end in (i, j))
                    instead = "give it space: delta_w" if mergeable else "leave this curve or such pairs out"
                    yield place, f"{ends} are joined in factors, which have no heads or neurons; {instead}"
                    break
        if isinstance(how, (LinearCurve, SphericalCurve)):
            yield from _layer_faults(spec, how.layers, place)


def _layer_faults(spec: SweepSpec, layers: tuple[int, ...], place: Place) -> Found:
    """Blocks that a backbone doesn't have, as far as its configuration is here."""
    models = {point.trial.model.model_dump_json(include=_BASE): point.trial.model for point in spec.points if layers}
    shapes = [shape_of(model) or {} for model in models.values()]
    counts = [shape[name] for shape in shapes for name in _BLOCKS if isinstance(shape.get(name), int)]
    for number, layer in enumerate(layers):
        if counts and layer >= min(counts):
            yield (*place, "layers", number), f"no block {layer}: a backbone has {min(counts)}, from 0"


def _fit_faults(spec: SweepSpec, how: NamedCurve, place: Place, selection: Selection, labels_of: LabelsOf) -> Found:
    from raymc.tasks.rows import task_faults

    assert how.fitted is not None
    known = spec.connectivity.tasks
    own = [name for name, task in known.items() if task.head == "own"]
    if own and spec.model.kind == "classifier":
        said = f"connectivity.tasks.{own[0]} has head: own, and a fitted curve has a head of its own; use head: path"
        yield place, said
    if how.fitted.task is not None and how.fitted.task not in known:
        has = f"there are {', '.join(known)}" if known else "connectivity.tasks names none"
        yield (*place, "fit", "task"), f"no task {how.fitted.task!r} ({has}){nearest(how.fitted.task, list(known))}"
        return
    task = fit_task(spec, how)
    select = how.fitted.select
    if select == task.train_split:
        yield (*place, "fit", "select"), f"{select} has the rows that the curve is fitted on; choose on another split"
    elif select is not None:
        home = f"connectivity.tasks.{how.fitted.task}" if how.fitted.task else "task"
        for field, message in task_faults(task, {select: "select"}):
            if field == "select":
                yield (*place, "fit", "select"), message
            else:
                yield tuple(f"{home}.{field}".split(".")), message
    try:
        heads = Heads(spec, spec.points, labels_of)
        rows = RowSet(how.title, task, task.train_split)
        firsts = _firsts(selection, heads.classes([rows]))
        unlike = next((pair for pair in firsts if heads.choose(*pair, rows) != "path"), None)
    except RaymcError:
        return  # the data can't be read, which is said of the task
    if unlike is not None:
        i, j = unlike
        yield (
            place,
            f"{selection.names[i]} and {selection.names[j]} aren't both tuned on the labels of the rows it is fitted "
            "on; name those in fit.task, or leave such pairs out",
        )


def _firsts(selection: Selection, classes: list[int]) -> Iterator[tuple[int, int]]:
    """The first selected pair of each two classes of minima, in order."""
    try:
        yield from selection.pairs().firsts(np.array(classes))
    except RaymcError:
        return  # an end that isn't there, which is said of the pairs


def _space(joints: Joints, i: int, j: int) -> str:
    try:
        return joints.space(i, j)
    except RaymcError:
        return ""  # which is said of the pairs
