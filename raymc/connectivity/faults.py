"""What is wrong with a sweep's pairs, heads and floor, as far as the spec and its tasks' labels tell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, islice

import numpy as np

from raymc.connectivity.heads import Heads, LabelsOf, named_labels
from raymc.connectivity.planes import plane_faults
from raymc.connectivity.selection import Selection
from raymc.connectivity.shapes import Bases, Joints
from raymc.specs.connectivity import PairSelection
from raymc.specs.curves import Space
from raymc.specs.errors import RaymcError
from raymc.specs.factors import EXISTING, inside, numbers_of
from raymc.specs.fields import dotted_fields, is_field, nearest
from raymc.specs.results import METRICS
from raymc.specs.sweep import SweepSpec
from raymc.specs.trial import TrialSpec

Place = tuple[str | int, ...]  # in the spec
Found = Iterator[tuple[Place, str]]
_PAIRS: Place = ("connectivity", "pairs")
_LOOKED_AT = 2000  # pairs, for a reason why none is selected


def connectivity_faults(
    spec: SweepSpec, labels_of: LabelsOf = named_labels, selection: Selection | None = None
) -> Found:
    """(place in the spec, what is wrong) of all kinds below. `selection`: of its points, where there is one already."""
    selection = selection or Selection(spec, spec.points)
    yield from floor_faults(spec)
    found = list(selection_faults(spec, selection))
    yield from found
    if not found:
        yield from head_faults(spec, labels_of, selection)
    if spec.connectivity.planes:
        with contextlib.suppress(RaymcError):  # data that can't be read, which is said of the task
            yield from plane_faults(spec, selection, Heads(spec, spec.points, labels_of))


def selection_faults(spec: SweepSpec, selection: Selection | None = None) -> Found:
    """Factors and ends that there aren't, no pair at all, and pairs that nothing joins."""
    selection = selection or Selection(spec, spec.points)
    found = [*_factor_faults(selection), *_end_faults(selection)]
    yield from found
    if found or len(spec.points) < 2:
        return
    if not any(True for _ in selection.pairs()):
        yield from _why_none(selection)
    else:
        yield from _joint_faults(spec, selection)


def _factor_faults(selection: Selection) -> Found:
    known = [*dotted_fields(TrialSpec), EXISTING]
    for field in ("differ", "within", "across"):
        for number, factor in enumerate(getattr(selection.asked, field)):
            if factor != EXISTING and not is_field(TrialSpec, factor.split(".")):
                hint = nearest(factor, [*selection.axis_names, *known])
                yield (*_PAIRS, field, number), f"{factor} is no field of a trial{hint}"


def _end_faults(selection: Selection) -> Found:
    for number, pair in enumerate(selection.asked.only):
        ends: list[int] = []
        for side, end in enumerate(pair):
            try:
                ends.append(selection.end(end))
            except RaymcError as error:
                yield (*_PAIRS, "only", number, side), str(error)
        if len(ends) < 2:
            continue
        if ends[0] == ends[1]:
            yield (*_PAIRS, "only", number), f"both ends are {selection.names[ends[0]]}"
        elif not selection.asked.same_trajectory and selection.same_trajectory(*ends):
            yield (*_PAIRS, "only", number), "both ends are snapshots of one run; same_trajectory: true joins them"


def _why_none(selection: Selection) -> Found:
    asked, known = selection.asked, selection.configurations
    if any(True for _ in selection.before_trajectories()):
        where = (*_PAIRS, "same_trajectory") if asked != PairSelection() else _PAIRS
        yield where, "no pair: all that it selects are snapshots of one run; same_trajectory: true joins them"
        return
    lonely = [(number, factor) for number, factor in enumerate(asked.differ) if not any(known.pairs(factor))]
    if asked.only or len(lonely) < len(asked.differ) or not asked.differ:
        given = [name for name in ("differ", "within", "across", "only") if getattr(asked, name)]
        together = " together" if len(given) > 1 else ""
        yield _PAIRS, f"{', '.join(given)}{together} select no pair of the {len(selection.points)} minima"
        return
    for number, factor in lonely:
        yield (*_PAIRS, "differ", number), f"no pair: {_why_none_alone(selection, factor)}"


def _why_none_alone(selection: Selection, factor: str) -> str:
    known = selection.configurations
    if factor == EXISTING:
        return "none of the minima exists already; name some in minima"
    trained = [i for i in range(len(selection.points)) if not known.exists(i)]
    others: set[tuple[str, ...]] = set()
    for i, j in islice(combinations(trained, 2), _LOOKED_AT):
        if known.value(i, factor) != known.value(j, factor):
            names = known.differs(i, j, [*selection.axis_names, factor])
            others.add(tuple(name for name in names if not inside(name, factor)))
    if not others:
        return f"all minima have the same {factor}"
    return f"those that differ in {factor} differ in {' and '.join(min(others, key=lambda o: (len(o), o)))} too"


def _joint_faults(spec: SweepSpec, selection: Selection) -> Found:
    """A fault for each two kinds of minima that are paired and that no space (of a curve) holds both of."""
    own: list[tuple[Space | None, Place]] = [
        (one.space, ("connectivity", "curves", i, "space")) for i, one in enumerate(spec.connectivity.curves)
    ]
    if any(space is None for space, _ in own):
        yield from _unjoined(spec, selection, spec.connectivity.space, ("connectivity", "space"))
    for space, place in own:
        if space is not None:
            yield from _unjoined(spec, selection, space, place)


def _unjoined(spec: SweepSpec, selection: Selection, space: Space, of_space: Place) -> Found:
    joints, bases = Joints(spec.points, space), Bases(spec.points)
    asked = space != "auto"
    told: set[str] = set()
    for i, j in _unlike_firsts(selection, joints, bases):
        if not (joints.known(i) and joints.known(j)):
            continue
        place = _PAIRS
        try:
            fault = bases.fault(i, j, joints.space(i, j))
        except RaymcError as error:
            fault, place = str(error), of_space if asked else _PAIRS
        if fault is not None and fault not in told:
            told.add(fault)
            yield place, f"{selection.names[i]} and {selection.names[j]} can't be joined: {fault}"


def _unlike_firsts(selection: Selection, joints: Joints, bases: Bases) -> list[tuple[int, int]]:
    """The first selected pair of each two kinds of minima, and of each two on one backbone or on two; in order."""
    pairs, kinds = selection.pairs(), np.array(numbers_of(zip(joints.kinds, bases.kinds, strict=True)))
    own = np.array(bases.bases)
    one, two = replace(pairs, alike=(*pairs.alike, own)), replace(pairs, unlike=(*pairs.unlike, own))
    return sorted({*one.firsts(kinds), *two.firsts(kinds)})


# Heads and floor --------------------------------------------------------------------------------------------------


def head_faults(spec: SweepSpec, labels_of: LabelsOf = named_labels, selection: Selection | None = None) -> Found:
    """Row sets that no minimum or no selected pair can be scored on, and labels that don't match.

    Labels of another set than the sweep's own task need `connectivity.tasks`, which says that they are meant.
    """
    selection = selection or Selection(spec, spec.points)
    try:
        heads = Heads(spec, spec.points, labels_of)
        scored = {rows.name: any(heads.scores(i, rows) for i in range(len(spec.points))) for rows in spec.row_sets}
        wanted = {rows.name: labels_of(rows.task) for rows in spec.row_sets}
    except RaymcError:
        return  # the data can't be read, which is said of the task
    if not spec.connectivity.tasks:
        rows = spec.row_sets[0]
        for i, point in enumerate(spec.points):
            if not heads.scores(i, rows):
                axis = next((name for name in point.values if inside(name, "task")), None)
                place: Place = axis_place(spec, axis) if axis else ("task", "labels")
                if point.existing is not None:
                    place = ("minima", [one.name for one in spec.minima].index(point.existing), "uri")
                yield (
                    place,
                    f"{selection.names[i]} has labels {_listed(heads.labels(i))}, the sweep's task "
                    f"{_listed(wanted[rows.name])}: match them by name (task.rename), or name the tasks to score on in "
                    "connectivity.tasks",
                )
                return
    told: set[str] = set()
    for rows in spec.row_sets:
        if rows.task_name in told:
            continue
        place = ("connectivity", "tasks", rows.task_name) if rows.task_name else ("connectivity", "splits")
        asked = spec.connectivity.tasks[rows.task_name].head if rows.task_name else "auto"
        if not scored[rows.name]:
            told.add(rows.task_name)
            yield place, f"a head that no minimum has: none is tuned on the labels {_listed(wanted[rows.name])}"
        elif len(spec.points) > 1 and not any(
            heads.choose(i, j, rows) for i, j in selection.pairs().firsts(np.array(heads.classes([rows])))
        ):
            told.add(rows.task_name)
            labels = _listed(wanted[rows.name])
            if asked == "path":
                message = f"no selected pair has the labels {labels} at both ends, so none has an interpolated head"
                yield (*place, "head"), f"{message}; own takes that of the end tuned on them"
            else:
                yield place, f"no selected pair has an end tuned on the labels {labels}, so none has a head for them"


def axis_place(spec: SweepSpec, name: str) -> Place:
    """Where the axis of that name was written: under axes, or in its group of zip."""
    number = next((number for number, group in enumerate(spec.zip) if name in group), None)
    return ("axes", name) if number is None else ("zip", number, name)


def _listed(labels: tuple[str, ...] | None) -> str:
    return ", ".join(labels or ())


def floor_faults(spec: SweepSpec) -> Found:
    """A metric that the models don't have, or a row set that isn't scored."""
    floor = spec.connectivity.floor
    if floor is None:
        return
    known = ("loss", *METRICS[spec.points[0].trial.model.kind])
    if floor.metric not in known:
        hint = nearest(floor.metric, known)
        yield ("connectivity", "floor", "metric"), f"no metric {floor.metric!r} (there are {', '.join(known)}){hint}"
    names = [rows.name for rows in spec.row_sets]
    if floor.split is not None and floor.split not in names:
        hint = nearest(floor.split, names)
        yield ("connectivity", "floor", "split"), f"no row set {floor.split!r} (there are {', '.join(names)}){hint}"
