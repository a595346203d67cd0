"""The stored evaluations and profiles of a sweep: under which keys they lie, and which still hold."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from raymc.connectivity.work import EndpointTask, PairTask
from raymc.specs.curves import NamedCurve
from raymc.specs.exactness import Computed
from raymc.specs.fitting import fit_content
from raymc.specs.results import Evaluation, EvaluationSpec, Profile
from raymc.specs.sweep import RowSet, SweepSpec
from raymc.specs.task import TaskSpec
from raymc.store import layout
from raymc.store.batches import Place
from raymc.store.fitted import ends_now
from raymc.store.rows import has_rows
from raymc.store.store import Store

KEPT = 2000  # results in memory: a profile of 26 points and 15 metrics takes 20 kB

Result = TypeVar("Result", Evaluation, Profile)


class Groups:
    """Keys of groups of records: those that were made alike, and differ in their minima alone."""

    def __init__(self, spec: SweepSpec):
        self._spec = spec
        self._row_sets = {rows.name: rows for rows in spec.row_sets}
        self._curves = {one.title: one for one in spec.connectivity.curves}
        self._keys: dict[tuple[str, ...], str] = {}
        self._contents: dict[str, dict[str, Any]] = {}

    def evaluation(self, split: str, space: str, precision: Computed) -> str:
        known = ("evaluation", split, space, precision)
        if known not in self._keys:
            self._keys[known] = self._how(split, space, precision).key()
        return self._keys[known]

    def profile(self, split: str, space: str, precision: Computed, curve: str, head: str) -> str:
        """`head`: path, or whose head is fixed: one group for all those."""
        head = head if head == "path" else "own"
        known = ("profile", split, space, precision, curve, head)
        if known not in self._keys:
            asked = self._spec.connectivity
            how = self._how(split, space, precision, head)
            self._keys[known] = how.profile_key(self.content(curve), asked.point_count, asked.tolerance)
        return self._keys[known]

    def content(self, curve: str) -> dict[str, Any]:
        """Everything that decides a path but its ends."""
        if curve not in self._contents:  # it looks at the files of data sets: not once a pair
            how = self._curves[curve]
            self._contents[curve] = fit_content(how, fit_task(self._spec, how))
        return self._contents[curve]

    def _how(self, split: str, space: str, precision: Computed, head: str = "path") -> EvaluationSpec:
        rows = self._row_sets[split]
        return EvaluationSpec(task=rows.task, split=rows.split, space=space, precision=precision, head=head)


class Records:
    """What a store holds of a sweep's results, against the weights that its minima have now.

    The last results read are kept, so many at most, for as long as the same records stand in the store.
    """

    def __init__(self, store: Store, spec: SweepSpec, kept: int = KEPT):
        self._store, self._spec, self._kept = store, spec, kept
        self._read: OrderedDict[tuple[str, str, str], tuple[Place, Evaluation | Profile]] = OrderedDict()
        self._row_sets = {rows.name: rows for rows in spec.row_sets}

    def evaluation(self, group: str, key: str, split: str) -> Evaluation | None:
        """The stored evaluation of an endpoint's present weights. Raises CorruptArtefact."""
        found = self._parsed(Evaluation, layout.EVALUATIONS, group, key)
        if found is None:
            return None
        found = found.model_copy(update={"split": split})  # its name may be another sweep's
        if found.weights != self._store.weights_digest(layout.MINIMA, key):
            return None
        return found if has_rows(self._store, group, key, found.row_file) else None

    def profile(self, group: str, a: str, b: str, how: NamedCurve, split: str, head: str, fit: str) -> Profile | None:
        """The stored profile between two minima's present weights. Raises CorruptArtefact.

        `head`: whose is used: path, a or b. `fit`: key of a fitted curve in the store.
        """
        found = self._parsed(Profile, layout.PROFILES, group, f"{a}-{b}")
        if found is None:
            return None
        found = found.model_copy(update={"split": split, "curve": how.title})
        if chosen_here(self._spec, how, self._row_sets[split]):
            found = found.model_copy(update={"chosen_on": split})  # by this sweep's name of those rows
        ends = ends_now(self._store, a, b)
        fitted = self._store.weights_digest(layout.CURVES, fit) if fit and self._store.has(layout.CURVES, fit) else ""
        whose = {"path": "path", "a": a, "b": b}[head]
        if (found.a_weights, found.b_weights, found.fit, found.head) != (*ends, fitted, whose):
            return None
        if not self._spec.connectivity.rows:
            return found
        kept = found.row_file and has_rows(self._store, group, f"{a}-{b}", found.row_file)
        return found if kept else None

    def _parsed(self, what: type[Result], kind: str, group: str, name: str) -> Result | None:
        """A record as it lies in the store. Raises CorruptArtefact."""
        known, place = self._read.get((kind, group, name)), self._store.place(kind, group, name)
        if known is not None and known[0] == place and isinstance(known[1], what):
            self._read.move_to_end((kind, group, name))
            return known[1]
        try:
            found = what.model_validate(self._store.get(kind, group, name))
        except KeyError:
            return None
        if place is not None:
            self._read[kind, group, name] = place, found
            if len(self._read) > self._kept:
                self._read.popitem(last=False)
        return found


class Names:
    """The names of a store's records by group, each group listed once."""

    def __init__(self, store: Store, kind: str):
        self._store, self._kind = store, kind
        self._groups: dict[str, set[str]] = {}

    def of(self, group: str) -> set[str]:
        if group not in self._groups:
            self._groups[group] = self._store.records(self._kind, group)
        return self._groups[group]


def keep(store: Store, done: Iterable[tuple[EndpointTask | PairTask, Sequence[Evaluation | Profile]]]) -> None:
    """Keep what tasks found, a batch for each group. Raises RaymcError where the store can't be written."""
    groups: list[str] = []
    results: list[Evaluation | Profile] = []
    for task, found in done:
        of = dict(zip(task.splits, task.records, strict=True))
        groups += [of[one.split] for one in found]
        results += found
    put(store, groups, results)


def put(store: Store, groups: Iterable[str], results: Sequence[Evaluation | Profile]) -> None:
    """Keep results in the groups given, a batch for each group. Raises RaymcError where it can't be written."""
    batches: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for group, found in zip(groups, results, strict=True):
        kind = layout.EVALUATIONS if isinstance(found, Evaluation) else layout.PROFILES
        name = found.minimum if isinstance(found, Evaluation) else f"{found.a}-{found.b}"
        batches.setdefault((kind, group), {})[name] = found.model_dump(mode="json")
    for (kind, group), bodies in batches.items():
        store.put_many(kind, group, bodies)


def fit_task(spec: SweepSpec, how: NamedCurve) -> TaskSpec:
    """The task whose training rows a curve is fitted on: as asked for, else the sweep's own."""
    name = how.fitted.task if how.fitted is not None else None
    if name is None:
        return spec.task
    scored = spec.connectivity.tasks[name]
    return TaskSpec(**{field: getattr(scored, field) for field in TaskSpec.model_fields})


def chosen_here(spec: SweepSpec, how: NamedCurve, rows: RowSet) -> bool:
    """Whether a curve's state is chosen on the very rows of a row set."""
    select = how.fitted.select if how.fitted is not None else None
    return select == rows.split and fit_task(spec, how).dataset == rows.task.dataset
